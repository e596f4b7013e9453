"""What autoencoders return."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from debiasctl.api import LatentScale, LatentShape, PreparedAutoencoder
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, a_tensor, as_json, expect, is_number, short

if TYPE_CHECKING:
    from torch import Tensor


def autoencoder_class(plugin: Any) -> None:
    """Check the attributes of the class."""
    if not isinstance(plugin.bounded, bool):
        raise ContractError(f"has bounded={plugin.bounded!r:.40}, which must be True or False")
    if not is_number(plugin.sigma_data) or plugin.sigma_data <= 0:
        raise ContractError(f"has sigma_data={plugin.sigma_data!r:.40}, which must be a number above 0")


def latent_shape(call: Call, plugin: Any, image_size: int, channels: int) -> LatentShape:
    """A shape of at least one value."""
    shape: LatentShape = expect(call(image_size, channels), LatentShape, "a LatentShape")
    for name in ("channels", "size"):
        number = getattr(shape, name)
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise ContractError(f"returned {name}={number!r:.40}, which must be a whole number from 1 on")
    return shape


def prepare(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> PreparedAutoencoder:
    """A PreparedAutoencoder."""
    prepared: PreparedAutoencoder = expect(call(*args, **kwargs), PreparedAutoencoder, "a PreparedAutoencoder")
    return prepared


def state(call: Call, plugin: Any) -> "Mapping[str, Tensor]":
    """Tensors by name, which can be stored and are finite."""
    import torch

    found: Mapping[str, Tensor] = expect(call(), Mapping, "a mapping of tensors")
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise ContractError(f"returned {name!r:.40}: {short(tensor)}, which cannot be stored")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ContractError(f"returned {name!r:.40} with NaN or infinity in it")
    return found


def settings(call: Call, plugin: Any) -> Mapping[str, Any]:
    """What JSON can hold."""
    found: Mapping[str, Any] = as_json(dict(expect(call(), Mapping, "a mapping")), "returned settings")
    return found


def scale(call: Call, plugin: Any) -> LatentScale | None:
    """A finite shift and a scale above 0 for each channel, or None."""
    found = call()
    if found is None:
        return None
    own: LatentScale = expect(found, LatentScale, "a LatentScale or None")
    shifts, scales = tuple(own.shift), tuple(own.scale)
    if not all(map(is_number, (*shifts, *scales))) or len(shifts) != len(scales) or min(scales, default=0) <= 0:
        raise ContractError(f"returned {own!r:.80}, which must hold a number and a number above 0 for each channel")
    return LatentScale(tuple(map(float, shifts)), tuple(map(float, scales)))


def values(call: Call, plugin: Any, given: "Tensor") -> "Tensor":
    """Images or latents, float [N, C, H, W]; whoever called it checks whether they are finite, and of which shape."""
    found = a_tensor(call(given), f"float [{len(given)}, C, H, W]", dtype="float")
    if found.ndim != 4 or len(found) != len(given):
        raise ContractError(f"returned {short(found)} in place of float [{len(given)}, C, H, W]")
    return found
