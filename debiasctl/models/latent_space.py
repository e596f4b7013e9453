"""The latents that a run's network is trained on: its autoencoder, which the run keeps, with their shift and scale."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from debiasctl.api import Autoencoder, DatasetInfo, LatentScale, LatentShape, LoadedDataset, PreparedAutoencoder
from debiasctl.boundary import name_of
from debiasctl.compute.signals import number_of, stoppable
from debiasctl.data.latents import EncodedImages, encode_images
from debiasctl.errors import DataError, Interrupted, ModelError, PluginError, RunError, UsageError
from debiasctl.reading.documents import parse_json
from debiasctl.reading.regular import open_regular
from debiasctl.registry.choices import PluginChoice
from debiasctl.runs.parts import AUTOENCODER
from debiasctl.runs.store import Run
from debiasctl.specs.recorded import ContentSection, LatentsSection
from debiasctl.specs.sections import RunSpec
from debiasctl.wording import one_line

_SETTINGS = "settings"  # the key of the file's metadata


@dataclass(frozen=True)
class LatentSpace:
    """Maps between images [N, C, H, W] in model space and what the network sees of them, on a device."""

    autoencoder: PreparedAutoencoder
    section: LatentsSection
    image_shape: tuple[int, int, int]
    device: torch.device

    def decode(self, latents: Tensor) -> Tensor:
        """Map what the network makes, float [N, c, h, w], to images float32 [N, C, H, W], some values beyond [-1, 1].

        Raises:
            RunError: if an image is not finite.
        """
        shift, scale = (self._by_channel(values) for values in (self.section.shift, self.section.scale))
        raw = latents.to(self.device, torch.float32) / scale + shift
        with torch.no_grad():
            images = self.autoencoder.decode(raw).float()
        if tuple(images.shape[1:]) != self.image_shape:
            raise PluginError(
                f"{name_of(self.autoencoder, 'autoencoder')}: it decodes to {list(images.shape[1:])}, and the images "
                f"are {list(self.image_shape)}"
            )
        if not bool(torch.isfinite(images).all()):
            raise RunError(f"decoding gave values that are not finite, by {name_of(self.autoencoder, 'autoencoder')}")
        return images

    def round_trip(self, images: Tensor) -> Tensor:
        """Encode images, float32 [N, C, H, W] in [-1, 1], and decode their latents."""
        with torch.no_grad():
            return self.autoencoder.decode(self.autoencoder.encode(images.to(self.device)).float()).float()

    def _by_channel(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=self.device)[:, None, None]


def new_latents(
    spec: RunSpec, data: LoadedDataset, *, device: torch.device, cache_dir: Path
) -> tuple[LatentSpace, LoadedDataset]:
    """Prepare the spec's autoencoder, and encode the images: the latent space of a new run, and its training's data.

    Raises:
        UsageError, ModelError: if the autoencoder cannot be had.
        DataError: if latents are not finite, or are not those that the spec was made for.
    """
    assert spec.data.autoencoder is not None, "checked by the caller"
    plugin: Autoencoder = spec.data.autoencoder.create("autoencoders")
    shape = plugin.latent_shape(data.info.image_size, data.info.channels)
    prepared = plugin.prepare(data, device=device)
    sha256 = identity_of(prepared, spec.data.autoencoder)
    stated = spec.latents
    if stated is not None and stated.sha256 != sha256:
        raise DataError(
            f"autoencoder '{spec.data.autoencoder.name}' is not the one that this spec was made for (SHA-256 "
            f"{sha256[:12]}…, not {stated.sha256[:12]}…). Restore it; or, for a new run with this one, remove the "
            "section 'content' from the spec file"
        )
    encoded = _encoded(
        spec, data, prepared, shape=(shape.channels, shape.size, shape.size), sha256=sha256, device=device,
        cache_dir=cache_dir,
    )  # fmt: skip
    scale = prepared.scale() or encoded.measured_scale()
    space = _space(plugin, prepared, shape, scale, sha256=sha256, images=data.info, device=device)
    return space, encoded.scaled(scale)


def space_without_images(spec: RunSpec, content: ContentSection, *, device: torch.device) -> LatentSpace:
    """The latent space of a model from elsewhere: the spec's autoencoder with its own shift and scale.

    `content` describes the images. The caller stores the section in it, and the autoencoder by `write_autoencoder`.

    Raises:
        UsageError: if the autoencoder needs images, or has no scale of its own; ModelError: if it cannot be read.
    """
    choice = spec.data.autoencoder
    assert choice is not None, "checked by the caller"
    plugin: Autoencoder = choice.create("autoencoders")
    shape = plugin.latent_shape(content.image_size, content.channels)
    prepared = plugin.prepare(None, device=device)
    scale = prepared.scale()
    if scale is None:
        raise UsageError(
            f"autoencoder '{choice.name}' has no scale of its own, and there are no images to measure "
            "one on. Choose another autoencoder"
        )
    return _space(plugin, prepared, shape, scale, sha256=identity_of(prepared, choice), images=content, device=device)


def _space(
    plugin: Autoencoder,
    prepared: PreparedAutoencoder,
    shape: LatentShape,
    scale: LatentScale,
    *,
    sha256: str,
    images: ContentSection | DatasetInfo,
    device: torch.device,
) -> LatentSpace:
    if len(scale.shift) != shape.channels:
        raise PluginError(
            f"{name_of(prepared, 'autoencoder')}: its scale has {len(scale.shift)} channels, and its latents "
            f"{shape.channels}"
        )
    section = LatentsSection(
        channels=shape.channels, size=shape.size, sha256=sha256, shift=scale.shift, scale=scale.scale,
        bounded=plugin.bounded,
    )  # fmt: skip
    return LatentSpace(prepared, section, (images.channels, images.image_size, images.image_size), device)


def latent_space(run: Run, spec: RunSpec, *, device: torch.device) -> LatentSpace | None:
    """The latent space that a run was trained in, from the autoencoder that it keeps; None if it saw the images.

    Raises:
        RunError: if its autoencoder is missing or damaged; and the errors of the plugin, which has to be installed.
    """
    content = run.content(spec)
    if spec.data.autoencoder is None or content.latents is None:
        return None
    path = run.path / AUTOENCODER
    plugin: Autoencoder = spec.data.autoencoder.create("autoencoders")
    try:
        state, settings = _read(path)
        if _sum(spec.data.autoencoder, state, settings) != content.latents.sha256:
            raise ValueError("it does not match the SHA-256 in spec.json")
        prepared = plugin.restore(state, settings, device=device)
    except (OSError, ValueError, ModelError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise RunError(
            f"the autoencoder of run '{run.name}' cannot be used: {path}: {reason}. Restore it from a copy of the run"
        ) from error
    images = (content.channels, content.image_size, content.image_size)
    return LatentSpace(prepared, content.latents, images, device)


def trained_data(spec: RunSpec, images: LoadedDataset, space: LatentSpace, *, cache_dir: Path) -> LoadedDataset:
    """The latents that a run's network is trained on, encoded by the autoencoder that the run keeps.

    Raises:
        DataError: if a latent is not finite.
    """
    section = space.section
    encoded = _encoded(
        spec, images, space.autoencoder, shape=(section.channels, section.size, section.size), sha256=section.sha256,
        device=space.device, cache_dir=cache_dir,
    )  # fmt: skip
    return encoded.scaled(LatentScale(section.shift, section.scale))


def _encoded(
    spec: RunSpec,
    data: LoadedDataset,
    prepared: PreparedAutoencoder,
    *,
    shape: tuple[int, int, int],
    sha256: str,
    device: torch.device,
    cache_dir: Path,
) -> EncodedImages:
    assert spec.data.autoencoder is not None, "checked by the caller"

    def encode(images: Tensor) -> Tensor:
        with torch.no_grad():
            found = prepared.encode(images.to(device))
        if tuple(found.shape[1:]) != shape:
            raise PluginError(
                f"{name_of(prepared, 'autoencoder')}: it makes latents {list(found.shape[1:])}, where its latent_shape "
                f"says {list(shape)}"
            )
        return found

    try:
        with stoppable():
            return encode_images(
                data, encode, shape=shape, autoencoder=f"{sha256} {spec.data.autoencoder.version}",
                maker=name_of(prepared, "autoencoder"),
                mirrored=spec.data.horizontal_flip, cache_dir=cache_dir,
            )  # fmt: skip
    except KeyboardInterrupt as stop:
        raise Interrupted(
            "interrupted while images were encoded: what was encoded is kept; repeat the command to resume",
            signal_number=number_of(stop),
        ) from stop


def identity_of(autoencoder: PreparedAutoencoder, choice: PluginChoice) -> str:
    """The SHA-256 of all that an autoencoder's maps depend on, but for the version of the plugin's code."""
    return _sum(choice, autoencoder.state(), autoencoder.settings())


def _sum(choice: PluginChoice, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> str:
    about = {"name": choice.name, "distribution": choice.distribution, "settings": settings}
    digest = hashlib.sha256(json.dumps(about, sort_keys=True, separators=(",", ":")).encode())
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def write_autoencoder(folder: Path, autoencoder: PreparedAutoencoder) -> None:
    """Write an autoencoder into the folder of a run that is being made."""
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in autoencoder.state().items()}
    settings = json.dumps(autoencoder.settings(), sort_keys=True)
    (folder / AUTOENCODER).write_bytes(save(tensors, metadata={_SETTINGS: settings}))


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the settings in a file.

    Raises:
        OSError: if it cannot be read; ValueError: if it is damaged.
    """
    open_regular(path).close()
    try:
        with safe_open(path, framework="pt") as stored:
            settings = parse_json((stored.metadata() or {})[_SETTINGS])
            state = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 - it is no mapping
    except (SafetensorError, RuntimeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"it is damaged ({one_line(error)})") from error
    if not isinstance(settings, dict):
        raise ValueError("it is damaged (its settings are no mapping)")
    return state, settings
