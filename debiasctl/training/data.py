"""Training batches as functions of (seed, step, position in the global batch)."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from debiasctl import counter_random
from debiasctl.api import Split
from debiasctl.counter_random import Stream


@dataclass(frozen=True)
class Batch:
    """`x0` float32 [N, C, H, W] in [-1, 1], `labels` int64 [N] or None, `positions` int64 [N] in the global batch."""

    x0: Tensor
    labels: Tensor | None
    positions: Tensor


class BatchSource:
    """Reads a process's share of every step's batch: each epoch in an order of its own, each image once."""

    def __init__(
        self,
        split: Split,
        *,
        seed: int,
        batch_size: int,
        horizontal_flip: bool,
        conditional: bool,
        device: torch.device,
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.split, self.seed, self.batch_size = split, seed, batch_size
        self.horizontal_flip, self.conditional, self.device = horizontal_flip, conditional, device
        share = batch_size // num_processes
        self.positions = torch.arange(process_index * share, (process_index + 1) * share)
        self._order = lru_cache(maxsize=2)(self._epoch_order)

    def indices(self, step: int) -> Tensor:
        """int64 [N]: which images this process sees at `step`."""
        size = len(self.split)
        drawn = step * self.batch_size + self.positions
        first = int(drawn[0]) // size
        orders = torch.stack([self._order(epoch) for epoch in range(first, int(drawn[-1]) // size + 1)])
        return orders[drawn // size - first, drawn % size]

    def __call__(self, step: int) -> Batch:
        """The batch of `step`, on the device."""
        indices = self.indices(step)
        x0 = to_model_space(self.split.images(indices).to(self.device))
        if self.horizontal_flip:
            draw = counter_random.uniform(self.seed, Stream.FLIP, step=step, positions=self.positions)
            x0 = torch.where((draw < 0.5).to(self.device)[:, None, None, None], x0.flip(-1), x0)
        labels = self.split.labels(indices) if self.conditional else None
        return Batch(x0, None if labels is None else labels.to(self.device), self.positions.to(self.device))

    def _epoch_order(self, epoch: int) -> Tensor:
        return counter_random.order(self.seed, epoch=epoch, size=len(self.split))


def to_model_space(images: Tensor) -> Tensor:
    """uint8 [N, C, H, W] to float32 in [-1, 1]."""
    return images.to(torch.float32) / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Float [N, C, H, W] in about [-1, 1] to uint8, rounded to the nearest level."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
