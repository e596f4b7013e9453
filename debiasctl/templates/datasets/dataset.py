"""A data set."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from debiasctl.api import ArraySplit, DataLocation, Dataset, DatasetInfo, LoadedDataset, PluginOptions, hash_splits
from pydantic import Field

SIZE, NUM_TRAIN, NUM_HELDOUT = 16, 1600, 400
DIRECTIONS = ("0 degrees", "45 degrees", "90 degrees", "135 degrees")


class MyDataset(Dataset):
    """Sine waves in four directions, 16x16 pixels, with random phase and contrast: 1600 to train on, 400 held out.

    A pixel at column x and row y is 127.5 (1 + c sin(2π (x cos a + y sin a)/wavelength + φ)), where a is the direction,
    φ is uniform in [0, 2π) and c in [1/2, 1]. Nothing is read: the images are computed, and always the same.
    """

    class Options(PluginOptions):
        """The options of the waves."""

        wavelength: float = Field(6.0, ge=2, le=SIZE, description="pixels from one crest to the next")

    options: Options

    def info(self, location: DataLocation) -> DatasetInfo:
        """Return the facts about the images."""
        return DatasetInfo(SIZE, 1, DIRECTIONS, num_train=NUM_TRAIN, num_heldout=NUM_HELDOUT)

    def load(self, location: DataLocation) -> LoadedDataset:
        """Compute the images, uint8 [N, 1, 16, 16], and their classes, int64 [N]."""
        count, generator = NUM_TRAIN + NUM_HELDOUT, torch.Generator().manual_seed(0)
        classes = torch.arange(count) % len(DIRECTIONS)
        phases = 2 * math.pi * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
        contrasts = 0.5 + 0.5 * torch.rand(count, 1, 1, generator=generator, dtype=torch.float64)
        angles = math.pi * classes.double()[:, None, None] / len(DIRECTIONS)
        y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
        distances = x * angles.cos() + y * angles.sin()  # [N, 16, 16]
        waves = contrasts * torch.sin(2 * math.pi * distances / self.options.wavelength + phases)
        images = (127.5 * (1 + waves)).round().to(torch.uint8)[:, None]
        train = ArraySplit(images[:NUM_TRAIN], classes[:NUM_TRAIN])
        heldout = ArraySplit(images[NUM_TRAIN:], classes[NUM_TRAIN:])
        return LoadedDataset(self.info(location), train, heldout, hash_splits("waves", [train, heldout]))

    def recommended(self, location: DataLocation) -> Mapping[str, Any]:
        """Return settings for a run of a few minutes; a mirrored wave may be one of another class."""
        return {"data": {"horizontal_flip": False}, "training": {"steps": 2000, "batch_size": 64}}
