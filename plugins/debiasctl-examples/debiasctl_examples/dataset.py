"""A data set."""

import torch

from debiasctl.api import ArraySplit, Dataset, DatasetInfo, LoadedDataset, hash_splits


class Rings(Dataset):
    """Rings of three radii around scattered centres, 16x16 pixels: 900 to train on, 300 held out."""

    def info(self, location):
        return DatasetInfo(16, 1, ("small", "medium", "large"), num_train=900, num_heldout=300)

    def load(self, location):
        targets = torch.arange(1200) % 3
        centres = 7.5 + torch.randn(1200, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        pixels = torch.stack(torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij"))
        distance = (pixels - centres).square().sum(dim=1).sqrt()  # [N, 16, 16]
        images = 255 * (2 - (distance - 2 - 2 * targets[:, None, None]).abs()).clamp(0, 1)
        array = images.round().to(torch.uint8)[:, None]
        train, heldout = ArraySplit(array[:900], targets[:900]), ArraySplit(array[900:], targets[900:])
        return LoadedDataset(self.info(location), train, heldout, hash_splits("rings", [train, heldout]))
