"""A feature extractor."""

from pathlib import Path

import torch
from debiasctl.api import Features, LoadedDataset, PluginOptions, PreparedFeatures, UsageError, hash_contents
from pydantic import Field
from torch import Tensor
from torch.nn import functional


class PreparedBlocks(PreparedFeatures):
    """The mean of each channel in each block of a grid over the image."""

    def __init__(self, *, grid: int, channels: int, device: torch.device) -> None:
        identity = hash_contents({"what": "means of blocks", "version": 1, "grid": grid, "channels": channels}, [])
        super().__init__(identity=identity, dimension=channels * grid**2, details={"grid": grid})
        self.grid, self.device = grid, device

    def __call__(self, images: Tensor) -> Tensor:
        """Return the means, float64 [N, C grid²] in [-1, 1] on the CPU, for images, uint8 [N, C, H, W]."""
        pixels = images.to(self.device).double() / 127.5 - 1
        return functional.adaptive_avg_pool2d(pixels, self.grid).flatten(1).cpu()


class MyFeatures(Features):
    """The mean colour of each block of a grid: layout and colour without detail, and neither network nor labels."""

    class Options(PluginOptions):
        """The options of the grid."""

        grid: int = Field(4, ge=1, le=32, description="blocks across the image, and down")

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> PreparedBlocks:
        """Make the extractor for images of this size.

        Raises:
            UsageError: if the images have fewer pixels across than the grid has blocks.
        """
        size, grid = data.info.image_size, self.options.grid
        if grid > size:
            raise UsageError(
                f"grid={grid} is more than the {size} pixels that images have a side. Choose at most {size}"
            )
        return PreparedBlocks(grid=grid, channels=data.info.channels, device=device)
