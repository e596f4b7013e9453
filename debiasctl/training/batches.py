"""Training batches as functions of (seed, step, position in the global batch)."""

from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from debiasctl.api import ArraySplit, Split
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.latents import mirrored_of
from debiasctl.data.pixels import to_model_space
from debiasctl.data.read_ahead import ReadAhead

AHEAD = 2  # batches read ahead
RESIDENT_SHARE = 0.25  # the part of a GPU's free memory that images may occupy; the rest is for activations


@dataclass(frozen=True)
class Batch:
    """`x0` float32 [N, C, H, W] in [-1, 1], `labels` int64 [N] or None, `positions` int64 [N] in the global batch."""

    x0: Tensor
    labels: Tensor | None
    positions: Tensor


@dataclass(frozen=True)
class _HostBatch:
    """A step's data on the CPU: `images` as the split gives them, and `flips`, bool [N] or None."""

    images: Tensor
    labels: Tensor | None
    flips: Tensor | None


class BatchSource:
    """Reads a process's part of every step's batch; each epoch has its own order and uses each image once.

    Arrays in memory are indexed in place, or on a GPU that has room for them. Other splits are read a few steps ahead
    in one background thread, which `close` or the end of a `with` block ends; a later call starts another. Nothing
    here makes the host wait for the GPU.
    """

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
        ahead: int = AHEAD,
    ) -> None:
        self.split, self.seed, self.batch_size = split, seed, batch_size
        self.horizontal_flip, self.conditional, self.device = horizontal_flip, conditional, device
        share = batch_size // num_processes
        self.positions = torch.arange(process_index * share, (process_index + 1) * share)
        self._device_positions = self.positions.to(device)
        self._order = lru_cache(maxsize=2)(self._epoch_order)
        self.mirrored = mirrored_of(split) if horizontal_flip else None  # latents have their own
        self.resident, self._resident_mirrored = resident(split, device), None
        if self.mirrored is not None:
            self._resident_mirrored = resident(self.mirrored, device)
            self.resident = self.resident if self._resident_mirrored is not None else None
        self._reader = ReadAhead(self._read, ahead=ahead, device=device)

    def indices(self, step: int) -> Tensor:
        """The indices of the images that this process sees at `step`, int64 [N]."""
        size = len(self.split)
        drawn = step * self.batch_size + self.positions
        epochs, places = drawn // size, drawn % size
        touched = range(int(epochs[0]), int(epochs[-1]) + 1)
        return torch.cat([self._order(epoch)[places[epochs == epoch]] for epoch in touched]).long()

    def __call__(self, step: int) -> Batch:
        """Return the batch of `step` on the device.

        Raises:
            DataError: if one of its images cannot be read.
        """
        images, labels, flips = self._look_up(step) if self.resident is not None else self._fetch(step)
        if flips is not None and self.mirrored is None:
            images = torch.where(flips[:, None, None, None], images.flip(-1), images)
        return Batch(to_model_space(images), labels, self._device_positions)

    def close(self) -> None:
        """End the background thread, if there is one, and drop what it has read."""
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _look_up(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Index images, labels and flips in the array on the device; their indices are copied there at once."""
        assert self.resident is not None, "checked by the caller"
        indices, flips = self.indices(step), self._flips(step)
        numbers = self._to_device(indices[None] if flips is None else torch.stack([indices, flips.long()]))
        labels = self.resident.labels(numbers[0]) if self.conditional else None
        flipped = None if flips is None else numbers[1].bool()
        images = self.resident.images(numbers[0])
        if flipped is not None and self._resident_mirrored is not None:
            images = torch.where(flipped[:, None, None, None], self._resident_mirrored.images(numbers[0]), images)
        return images, labels, flipped

    def _fetch(self, step: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Return images, labels and flips from the background thread, on the device."""
        batch = self._reader(step)
        labels, flips = (None if one is None else self._to_device(one) for one in (batch.labels, batch.flips))
        return self._to_device(batch.images), labels, flips

    def _read(self, step: int) -> _HostBatch:
        indices = self.indices(step)
        labels = self.split.labels(indices) if self.conditional else None
        flips = self._flips(step)
        images = self.split.images(indices)
        if flips is not None and self.mirrored is not None:
            images = torch.where(flips[:, None, None, None], self.mirrored.images(indices), images)
        return _HostBatch(
            self._pinned(images),
            None if labels is None else self._pinned(labels),
            None if flips is None else self._pinned(flips),
        )

    def _flips(self, step: int) -> Tensor | None:
        """Draw which images are mirrored, bool [N] on the CPU."""
        if not self.horizontal_flip:
            return None
        return counter_random.uniform(self.seed, Stream.FLIP, step=step, positions=self.positions) < 0.5

    def _pinned(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _to_device(self, tensor: Tensor) -> Tensor:
        # copying from pinned memory does not block the host; torch does not reuse that memory before the copy is done
        return self._pinned(tensor).to(self.device, non_blocking=True)

    def _epoch_order(self, epoch: int) -> Tensor:
        size = len(self.split)
        order = counter_random.order(self.seed, epoch=epoch, size=size)
        return order.int() if size < 2**31 else order  # two epochs' orders are held


def resident(split: Split, device: torch.device) -> ArraySplit | None:
    """The split as an array on the device, or None if it is not an array or is too large for the GPU."""
    if not isinstance(split, ArraySplit) or type(split).images is not ArraySplit.images:
        return None
    if device.type != "cuda":
        return split
    num_bytes = split.array.nbytes + (0 if split.targets is None else split.targets.nbytes)
    if num_bytes > RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    return ArraySplit(split.array.to(device), None if split.targets is None else split.targets.to(device))
