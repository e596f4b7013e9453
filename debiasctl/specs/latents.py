"""The latents that a spec has its network trained on: their shape, and the samplers that suit them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from debiasctl import registry
from debiasctl.api import Autoencoder, DatasetInfo, LatentShape
from debiasctl.errors import SpecError
from debiasctl.registry.choices import PluginChoice, complete
from debiasctl.registry.refs import PluginRef
from debiasctl.specs.sections import RunSpec

_CLIPPING = {"clip_x0": False, "threshold": None}  # options of samplers that clip estimates, and what turns them off


def trained_info(spec: RunSpec, info: DatasetInfo) -> DatasetInfo:
    """The facts about what the network is trained on, latents or images, for the facts about the images.

    Raises:
        UsageError: if the autoencoder cannot encode such images; ModelError: if its files cannot be read.
    """
    if spec.data.autoencoder is None:
        return info
    if spec.latents is not None:
        shape = LatentShape(spec.latents.channels, spec.latents.size)
    else:
        autoencoder: Autoencoder = spec.data.autoencoder.create("autoencoders")
        shape = autoencoder.latent_shape(info.image_size, info.channels)
    return replace(info, image_size=shape.size, channels=shape.channels, value_type="float32")


def latent_settings(autoencoder: PluginChoice) -> dict[str, Any]:
    """The settings that suit latents of this autoencoder, whichever the data set recommends for images."""
    return {"model": {"sigma_data": _plugin(autoencoder).sigma_data}}


def are_bounded(spec: RunSpec) -> bool:
    """Whether what the network is trained on lies in [-1, 1], as images do and most latents do not."""
    if spec.data.autoencoder is None:
        return True
    return _plugin(spec.data.autoencoder).bounded if spec.latents is None else spec.latents.bounded


def _plugin(autoencoder: PluginChoice) -> type[Autoencoder]:
    plugin = registry.load("autoencoders", autoencoder.name)
    assert issubclass(plugin, Autoencoder), "checked by the registry"
    return plugin


def complete_sampler(ref: PluginRef, *, bounded: bool) -> PluginChoice:
    """The sampler that a reference names, which clips no estimates where the data are not bounded.

    Raises:
        UsageError: if the sampler is unknown; SpecError: if it is asked to clip estimates of unbounded latents.
    """
    choice = complete("samplers", ref)
    if bounded:
        return choice
    off: Mapping[str, Any] = {name: value for name, value in _CLIPPING.items() if name in choice.options}
    asked = [name for name, value in off.items() if name in ref.options and choice.options[name] != value]
    if asked:
        raise SpecError(
            f"sampler '{ref.name}': {asked[0]}={choice.options[asked[0]]} clips estimates to the range of images, "
            f"and this network makes latents, which have none. Leave {asked[0]} out"
        )
    return complete("samplers", PluginRef(ref.name, {**ref.options, **off}))
