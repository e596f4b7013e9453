"""The variational autoencoders of diffusers, from a local folder."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from debiasctl.api import (
    Autoencoder,
    LatentScale,
    LatentShape,
    LoadedDataset,
    ModelError,
    PluginOptions,
    PreparedAutoencoder,
    UsageError,
)
from debiasctl.api.files import expanded, one_line, read_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_CONFIG, _WEIGHTS, _CLASS = "config.json", "diffusion_pytorch_model.safetensors", "AutoencoderKL"
_SHOWN = 5  # names of tensors in a message


class PreparedVAE(PreparedAutoencoder):
    """An AutoencoderKL; latents are the means of its posterior."""

    def __init__(self, model: Any, *, device: "torch.device") -> None:
        self._model, self._device = model.to(device).eval().requires_grad_(False), device
        self._config: dict[str, Any] = _plain(
            {name: value for name, value in model.config.items() if not name.startswith("_")}
        )

    def state(self) -> "dict[str, Tensor]":
        """The weights."""
        return dict(self._model.state_dict())

    def settings(self) -> dict[str, Any]:
        """The configuration of the network."""
        return self._config

    def scale(self) -> LatentScale:
        """The shift and the scale that its configuration states."""
        config, channels = self._config, self._config["latent_channels"]
        factor = float(config["scaling_factor"])
        mean, std = config.get("latents_mean"), config.get("latents_std")
        if mean is not None and std is not None:
            return LatentScale(tuple(map(float, mean)), tuple(factor / float(one) for one in std))
        return LatentScale((float(config.get("shift_factor") or 0.0),) * channels, (factor,) * channels)

    def encode(self, images: "Tensor") -> "Tensor":
        """The means of the posterior, float32 [N, c, h, w], for images float32 [N, C, H, W]."""
        import torch

        with torch.no_grad():
            mean: Tensor = self._model.encode(images).latent_dist.mean
        return mean

    def decode(self, latents: "Tensor") -> "Tensor":
        """Images float32 [N, C, H, W]."""
        import torch

        with torch.no_grad():
            images: Tensor = self._model.decode(latents).sample
        return images


class DiffusersVAE(Autoencoder):
    """An AutoencoderKL of diffusers, such as Stable Diffusion's, from a local folder (Rombach et al., 2112.10752).

    The folder holds config.json and diffusion_pytorch_model.safetensors, or is a pipeline's with such a folder `vae`.
    Latents are the means of the posterior, with the shift and the scale that the configuration states. It needs
    diffusers: pip install 'debiasctl[diffusers]'.
    """

    class Options(PluginOptions):
        """The options of the folder."""

        path: str = Field(description="folder with config.json and diffusion_pytorch_model.safetensors")

        @field_validator("path", mode="before")
        @classmethod
        def _absolute(cls, path: Any) -> Any:
            # a run that is made again from its spec elsewhere must find the same folder
            return str(expanded(path).absolute()) if isinstance(path, str) else path

    options: Options

    def latent_shape(self, image_size: int, channels: int) -> LatentShape:
        """Return the shape that the folder's configuration leads to.

        Raises:
            UsageError: if it takes images of another number of channels, or cannot halve them as often as it does.
            ModelError: if there is no such folder, or its configuration cannot be read.
        """
        folder, config = self._config()
        taken, given, latent = (config.get(name) for name in ("in_channels", "out_channels", "latent_channels"))
        blocks = config.get("block_out_channels")
        numbers = (taken, given, latent)
        if not all(isinstance(one, int) and one > 0 for one in numbers) or not isinstance(blocks, list) or not blocks:
            raise ModelError(
                f"{folder / _CONFIG} does not state in_channels, out_channels, latent_channels and block_out_channels"
            )
        if (taken, given) != (channels, channels):
            modes: dict[Any, str] = {1: "grey", 3: "rgb"}
            mode = modes.get(taken) if taken == given else None
            other = "" if mode is None else f", or read the images so if the data set can (mode={mode})"
            raise UsageError(
                f"autoencoder 'diffusers-vae': {folder} takes images of {taken} channels and gives {given}, and the "
                f"data have {channels}. Choose another autoencoder, such as pca{other}"
            )
        factor = 2 ** (len(blocks) - 1)
        if image_size % factor:
            near = sorted({max(factor, image_size // factor * factor), -(-image_size // factor) * factor})
            raise UsageError(
                f"autoencoder 'diffusers-vae': {folder} divides the image's side by {factor}, which {image_size} is no "
                f"multiple of. Resize the images to {' or '.join(map(str, near))} pixels"
            )
        assert isinstance(latent, int), "checked above"
        return LatentShape(latent, image_size // factor)

    def prepare(self, data: LoadedDataset | None, *, device: "torch.device") -> PreparedVAE:
        """Load the weights of the folder.

        Raises:
            UsageError: if diffusers is not installed.
            ModelError: if the weights are missing, damaged or those of another network.
        """
        folder, _ = self._config()
        cls = _autoencoder_kl()
        if not (folder / _WEIGHTS).is_file():
            raise ModelError(
                f"{folder} holds no {_WEIGHTS}. Other formats, which may hold code, are not read: save the "
                "autoencoder again by diffusers' save_pretrained"
            )
        try:
            model, about = cls.from_pretrained(
                str(folder), local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
                output_loading_info=True,
            )  # fmt: skip
        except Exception as error:  # diffusers raises errors of many types for what does not fit
            raise ModelError(f"the autoencoder in {folder} cannot be loaded: {one_line(error)[:300]}") from error
        wrong = {what: about[f"{what}_keys"] for what in ("missing", "unexpected") if about[f"{what}_keys"]}
        if wrong:
            listed = "; ".join(f"{what}: {_listed(names)}" for what, names in wrong.items())
            raise ModelError(f"{folder / _WEIGHTS} does not hold the tensors that {_CONFIG} describes ({listed})")
        return PreparedVAE(model.float(), device=device)

    def restore(
        self, state: "Mapping[str, Tensor]", settings: Mapping[str, Any], *, device: "torch.device"
    ) -> PreparedVAE:
        """Build the network of a configuration, and load its weights.

        Raises:
            UsageError: if diffusers is not installed; ModelError: if the weights do not fit it.
        """
        try:
            model = _autoencoder_kl().from_config(dict(settings))
            model.load_state_dict(dict(state))
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ModelError(f"the stored weights do not fit their configuration: {one_line(error)[:300]}") from error
        return PreparedVAE(model, device=device)

    def _config(self) -> tuple[Path, dict[str, Any]]:
        """The folder of the autoencoder, and its configuration.

        Raises:
            ModelError: if there is none.
        """
        given = Path(self.options.path)
        folder = given if (given / _CONFIG).exists() or not (given / "vae" / _CONFIG).exists() else given / "vae"
        try:
            config = read_json(folder / _CONFIG)
        except OSError as error:
            problem = "there is no such folder" if not given.is_dir() else f"it holds no {_CONFIG} that can be read"
            raise ModelError(
                f"autoencoder 'diffusers-vae': path={given}: {problem}. Give the folder of an {_CLASS} that diffusers "
                "saved"
            ) from error
        except ValueError as error:
            raise ModelError(f"{folder / _CONFIG} is damaged: {one_line(error)}") from error
        if not isinstance(config, dict) or config.get("_class_name") != _CLASS:
            kind = config.get("_class_name", "unknown") if isinstance(config, dict) else "unknown"
            raise ModelError(f"{folder / _CONFIG} describes a network of class {kind!s:.40}; an {_CLASS} is needed")
        return folder, config


def _autoencoder_kl() -> Any:
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise UsageError(
            "autoencoder 'diffusers-vae' needs the package diffusers. Install it: pip install 'debiasctl[diffusers]'"
        ) from error
    return AutoencoderKL


def _plain(value: Any) -> Any:
    """The value as JSON gives it back, with lists for tuples."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _listed(names: Any) -> str:
    found = sorted(map(str, names))
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more
