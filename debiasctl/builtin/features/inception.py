"""Inception-v3 features, the field's own (FID, KID), resized as clean-fid does and from weights that are verified."""

import hashlib
import json
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import EvaluationError, Features, LoadedDataset, Part, PluginOptions, PreparedFeatures, WeightsFile

FILE_NAME = "inception-2015-12-05.pt"
WEIGHTS = WeightsFile(
    network="Inception-v3",
    folder="inception",
    name=FILE_NAME,
    url=f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{FILE_NAME}",  # clean-fid's
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
)
_CHUNKS = {"cpu": 32, "cuda": 128}  # images at once
_SIZE = 299
_FEATURES, _CLASSES = 2048, 1008
_SPATIAL_CHANNELS = 7  # of the 17x17 grid: sFID's choice (Nash et al., 2021, arXiv 2103.03841), 2023 numbers
_PREPROCESSING = {
    "clean": {"resize": "clean-fid clean: bicubic, antialiased, float32, 299x299", "range": "(x - 128) / 128"},
    "legacy-tf": {"resize": "legacy-tf: the network's own bilinear, uint8, 299x299", "range": "(x - 128) / 128"},
}


class Inception(Features):
    """Inception-v3 pool features (Heusel et al., 2017), resized as clean-fid does (arXiv 2104.11222): fid, kid.

    The weights are taken from the cache, or downloaded to it, and verified by their SHA-256. The network runs in
    float32, always on as many images at once, so that features do not depend on how images are batched.
    `resize=legacy-tf` is the older way (guided-diffusion's and EDM's), whose figures differ and are found under another
    identity.
    """

    pretrained = True
    any_size = True
    weights_files = (WEIGHTS,)

    class Options(PluginOptions):
        """Options of Inception-v3."""

        weights: Path | None = Field(
            None,
            description=f"{FILE_NAME}, or the folder that holds it; by default the cache, downloaded where missing",
        )
        resize: Literal["clean", "legacy-tf"] = Field(
            "clean", description="clean: antialiased, as clean-fid; legacy-tf: inside the network, as ADM and EDM"
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> "PreparedInception":
        """The network, from verified weights.

        Raises:
            UsageError: `weights` names no file.
            EvaluationError: images that are neither grey nor RGB; weights that cannot be had (the message says where
                to put them), or that are not the ones whose features are called FID.
        """
        if data.info.channels not in (1, 3):
            raise EvaluationError(
                f"Inception-v3 sees grey or RGB images; these have {data.info.channels} channels. Use `features=pixels`"
            )
        path, _ = WEIGHTS.obtain(cache_dir, self.options.weights)
        return PreparedInception(path, resize=self.options.resize, device=device)


class PreparedInception(PreparedFeatures):
    """The 2048 pool features of Inception-v3, of images of any size."""

    offers = frozenset({"features", "logits", "spatial"})
    verified = True
    any_size = True

    def __init__(self, path: Path, *, resize: Literal["clean", "legacy-tf"], device: torch.device) -> None:
        preprocessing = _PREPROCESSING[resize]
        text = json.dumps({"weights": WEIGHTS.sha256, "preprocessing": preprocessing}, sort_keys=True)
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=_FEATURES,
            details={"weights_sha256": WEIGHTS.sha256, **preprocessing},
        )
        self._device = device
        self._resize = resize
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # torch deprecates TorchScript, the format of this file
                warnings.simplefilter("ignore", DeprecationWarning)
                self._network: Any = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise EvaluationError(f"{path} cannot be loaded by this version of torch ({error})") from error
        self._chunk = _CHUNKS.get(device.type, _CHUNKS["cpu"])
        self._head: Tensor | None = None  # the last layer's weights; not looked for before they are needed

    def __call__(self, images: Tensor) -> Tensor:
        """float64 [N, 2048] on the CPU, for uint8 [N, 1 or 3, H, W]; grey becomes RGB."""
        return self.parts(images, ["features"])["features"]

    def logits(self, images: Tensor) -> Tensor:
        """Log-probabilities of the 1008 classes, float64 [N, 1008], for the inception score (Salimans et al., 2016).

        As in the original, the bias of the last layer is left out.
        """
        return self.parts(images, ["logits"])["logits"]

    def spatial(self, images: Tensor) -> Tensor:
        """The first 7 channels of the last 17x17 grid's first convolution, float64 [N, 2023], for sFID."""
        return self.parts(images, ["spatial"])["spatial"]

    def parts(self, images: Tensor, names: Collection[Part]) -> dict[Part, Tensor]:
        """Those of features, logits and spatial that are named, from one pass through the network."""
        found: dict[Part, list[Tensor]] = {part: [] for part in names}
        # TF32 would make the figures of a GPU differ from a CPU's in the third digit.
        with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            for chunk in torch.split(images, self._chunk):
                for part, rows in self._pass(self._input(chunk), names).items():
                    found[part].append(rows[: len(chunk)].to(device="cpu", dtype=torch.float64))
        return {part: torch.cat(rows) for part, rows in found.items()}

    def _pass(self, x: Tensor, names: Collection[Part]) -> dict[Part, Tensor]:
        features, grid = self._layers(x)
        found: dict[Part, Tensor] = {
            "features": features,
            "spatial": grid.permute(0, 2, 3, 1).flatten(1),
        }  # channels last, as ADM's
        if "logits" in names:
            found["logits"] = self._log_probabilities(x, features)
        return {part: found[part] for part in names}

    def _input(self, images: Tensor) -> Tensor:
        """float32 [32, 3, H, W] in [0, 255] on the device; 299x299 unless the network itself resizes."""
        rgb = images.to(self._device).expand(-1, 3, -1, -1).float()
        if self._resize == "clean":
            # Pillow's filter, which clean-fid uses, to 0.003 of 255 levels; here it runs where the network does
            size = (_SIZE, _SIZE)
            rgb = torch.nn.functional.interpolate(rgb, size, mode="bicubic", antialias=True).clamp(0, 255)
        return torch.nn.functional.pad(rgb, (0, 0, 0, 0, 0, 0, 0, self._chunk - len(rgb)))

    def _layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The pooled features [N, 2048], and the grid [N, 7, 17, 17] on the way to them."""
        grid, x = None, (self._own_resize(x) - 128) / 128
        for name, layer in self._network.layers.named_children():
            if name == "mixed_6":
                grid = layer.conv(x)[:, :_SPATIAL_CHANNELS]
            x = layer(x)
        assert grid is not None, "the verified network has a layer mixed_6"
        return x.reshape(len(x), _FEATURES), grid

    def _log_probabilities(self, x: Tensor, features: Tensor) -> Tensor:
        """As the whole network gives them; from the features by its last layer, where that is seen to be the same."""
        if self._head is None:
            whole: Tensor = self._network(x, no_output_bias=True).double()
            for weights in self._network.parameters():
                if weights.shape == (_CLASSES, _FEATURES):
                    same = torch.allclose(_classes(features, weights).exp(), whole, rtol=1e-3, atol=1e-7)
                    self._head = weights if same else None
            if self._head is None:
                return whole.clamp(min=torch.finfo(torch.float32).tiny).log()
        return _classes(features, self._head)

    def _own_resize(self, x: Tensor) -> Tensor:
        """As the network resizes: bilinear, output pixel i at i W / 299, not antialiased."""
        if self._resize == "clean":
            return x
        down, across = (
            (2 * torch.arange(_SIZE, device=x.device) * length / _SIZE + 1) / length - 1 for length in x.shape[-2:]
        )
        grid = torch.stack([across.expand(_SIZE, -1), down[:, None].expand(-1, _SIZE)], dim=-1)
        return torch.nn.functional.grid_sample(
            x, grid.expand(len(x), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=False
        )


def _classes(features: Tensor, weights: Tensor) -> Tensor:
    """Log-probabilities, float64 [N, K], by a last layer without bias, `weights` [K, D]."""
    found: Tensor = torch.nn.functional.linear(features, weights).double().log_softmax(dim=1)
    return found
