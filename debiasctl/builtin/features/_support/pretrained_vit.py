"""The common base of pretrained vision transformers: resizing images and running batches."""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from debiasctl.api import PreparedFeatures, num_cores

SIZE = 224
_CHUNK = 32
_THREADS = 16  # the most resizing threads


class PreparedVit(PreparedFeatures):
    """Class-token features of a vision transformer in float32, for grey or RGB images of any size, 32 at once.

    Images are resized to 224x224 with Pillow's antialiased bicubic filter in 8 bits, as in CLIP's own code.
    """

    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]

    def __init__(self, weights: Mapping[str, Tensor], *, dimension: int, sha256: str, device: torch.device) -> None:
        preprocessing = {"resize": "PIL bicubic, uint8, 224x224", "mean": self.mean, "std": self.std}
        text = json.dumps({"weights": sha256, "preprocessing": preprocessing}, sort_keys=True)
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=dimension,
            details={"weights_sha256": sha256, **preprocessing},
        )
        self._device = device
        self._weights = {name: tensor.to(device, torch.float32) for name, tensor in weights.items()}
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (self.mean, self.std))

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Compute features [N, dimension] for normalised x [N, 3, 224, 224]."""

    def __call__(self, images: Tensor) -> Tensor:
        """Compute features, float64 [N, dimension] on the CPU, for uint8 [N, 1 or 3, H, W]; grey becomes RGB."""
        rows = []
        with (
            torch.no_grad(),
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            ThreadPoolExecutor(num_cores(at_most=_THREADS)) as pool,
        ):
            for chunk in torch.split(images.cpu(), _CHUNK):
                rgb = np.ascontiguousarray(chunk.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
                batch = torch.zeros(_CHUNK, 3, SIZE, SIZE, dtype=torch.uint8)
                for position, image in enumerate(pool.map(_resized, rgb)):
                    batch[position] = torch.from_numpy(image).permute(2, 0, 1)
                x = (batch.to(self._device).float() / 255 - self._mean) / self._std
                rows.append(self.forward(x)[: len(chunk)])
        return torch.cat(rows).to(device="cpu", dtype=torch.float64)


def _resized(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.array(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC))
