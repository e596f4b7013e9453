"""Inception-v3 as an extractor: resizing images for it, and its features, logits and spatial features."""

import hashlib
import json
import warnings
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import EvaluationError, Part, PreparedFeatures, num_cores

_CHUNKS = {"cpu": 32, "cuda": 128}  # images at once
_SIZE = 299
_THREADS = 16  # the most resizing threads
_FEATURES, _CLASSES = 2048, 1008
_SPATIAL_CHANNELS = 7  # of the 17x17 grid, as for sFID (Nash et al., 2021, arXiv 2103.03841): 2023 values
_MOST_IN_FLOAT32 = 256  # pixels a side; for larger images float32 filter positions cost 0.015 grey levels
Resize = Literal["clean", "clean-fid", "legacy-tf"]
_PREPROCESSING: dict[Resize, dict[str, str]] = {
    "clean": {"resize": "clean-fid clean: bicubic, antialiased, float32, 299x299", "range": "(x - 128) / 128"},
    "clean-fid": {"resize": "clean-fid's own code, clean, 299x299", "range": "(x - 128) / 128"},
    "legacy-tf": {"resize": "legacy-tf: the network's own bilinear, uint8, 299x299", "range": "(x - 128) / 128"},
}


class PreparedInception(PreparedFeatures):
    """The 2048 pool features of Inception-v3 for images of any size."""

    verified = True

    def __init__(self, path: Path, *, sha256: str, resize: Resize, device: torch.device) -> None:
        preprocessing = _PREPROCESSING[resize]
        text = json.dumps({"weights": sha256, "preprocessing": preprocessing}, sort_keys=True)
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=_FEATURES,
            details={"weights_sha256": sha256, **preprocessing},
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
        self._head: Tensor | None = None  # the last layer's weights, found when they are first needed

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float64 [N, 2048] on the CPU, for uint8 [N, 1 or 3, H, W]; grey becomes RGB."""
        return self.parts(images, ["features"])["features"]

    def logits(self, images: Tensor) -> Tensor:
        """Compute log-probabilities of the 1008 classes, float64 [N, 1008], for the inception score (Salimans et al.).

        As in the original (2016, arXiv 1606.03498), the bias of the last layer is left out.
        """
        return self.parts(images, ["logits"])["logits"]

    def spatial(self, images: Tensor) -> Tensor:
        """Compute the first 7 channels of the last 17x17 grid's first convolution, float64 [N, 2023], for sFID."""
        return self.parts(images, ["spatial"])["spatial"]

    def parts(self, images: Tensor, names: Collection[Part]) -> dict[Part, Tensor]:
        """Compute the parts in `names` (features, logits, spatial) in one pass through the network."""
        found: dict[Part, list[Tensor]] = {part: [] for part in names}
        # TF32 would make a GPU's figures differ from a CPU's in the third digit
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
        }  # channels last, as in ADM
        if "logits" in names:
            found["logits"] = self._log_probabilities(x, features)
        return {part: found[part] for part in names}

    def _input(self, images: Tensor) -> Tensor:
        """Prepare float32 [32, 3, H, W] in [0, 255] on the device, of 299x299 unless the network itself resizes."""
        rgb = images.to(self._device).expand(-1, 3, -1, -1).float()
        if self._resize == "clean":
            rgb = clean_resize(rgb)
        elif self._resize == "clean-fid":
            rgb = self._by_clean_fid(images).to(self._device)
        return torch.nn.functional.pad(rgb, (0, 0, 0, 0, 0, 0, 0, self._chunk - len(rgb)))

    def _by_clean_fid(self, images: Tensor) -> Tensor:
        """Resize images with clean-fid's own code to float32 [N, 3, 299, 299] on the CPU."""
        from cleanfid.resize import build_resizer

        resize = build_resizer("clean")
        rgb = np.ascontiguousarray(images.cpu().expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
        with ThreadPoolExecutor(num_cores(at_most=_THREADS)) as pool:
            return torch.from_numpy(np.stack(list(pool.map(resize, rgb)))).permute(0, 3, 1, 2)

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
        """The whole network's log-probabilities, from the features and last layer if these are verified to agree."""
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
        """Resize as the network itself does: bilinear, output pixel i at i W / 299, without antialiasing."""
        if self._resize != "legacy-tf":
            return x
        down, across = (
            (2 * torch.arange(_SIZE, device=x.device) * length / _SIZE + 1) / length - 1 for length in x.shape[-2:]
        )
        grid = torch.stack([across.expand(_SIZE, -1), down[:, None].expand(-1, _SIZE)], dim=-1)
        return torch.nn.functional.grid_sample(
            x, grid.expand(len(x), -1, -1, -1), mode="bilinear", padding_mode="border", align_corners=False
        )


def clean_resize(rgb: Tensor) -> Tensor:
    """Resize float32 [N, 3, H, W] in [0, 255] to 299x299 as clean-fid does (Pillow's bicubic), within 0.01 levels."""
    exact = rgb if max(rgb.shape[-2:]) <= _MOST_IN_FLOAT32 else rgb.double()
    return torch.nn.functional.interpolate(exact, (_SIZE, _SIZE), mode="bicubic", antialias=True).clamp(0, 255).float()


def _classes(features: Tensor, weights: Tensor) -> Tensor:
    """Compute log-probabilities, float64 [N, K], with a last layer without bias, `weights` [K, D]."""
    found: Tensor = torch.nn.functional.linear(features, weights).double().log_softmax(dim=1)
    return found
