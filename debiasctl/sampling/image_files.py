"""Images as an .npz, written and read in blocks: they need not all be in memory at once."""

import math
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from debiasctl.files import atomic_file
from debiasctl.reading.arrays import UNREADABLE as UNREADABLE
from debiasctl.reading.arrays import open_npz
from debiasctl.reading.zips import read_exactly

BLOCK = 256  # images
_IMAGES = "images.npy"
_LARGEST = 2**26  # bytes of an image
_SMALL = 2**26  # bytes of the labels: 8 million images


def save_npz(
    path: Path,
    blocks: Iterable[Tensor],
    labels: Tensor | None,
    *,
    num: int,
    nfe: int | None = None,
    identity: str | None = None,
) -> None:
    """Blocks of uint8 [n, C, H, W], `num` images in all, as `images` [num, H, W, C]; `labels` int64 [num]; compressed.

    `nfe`, and the `identity` of what they were drawn for, are kept beside them where they are given.
    """
    with atomic_file(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        written = 0
        with archive.open(_IMAGES, "w", force_zip64=True) as file:
            for block in blocks:
                array = np.ascontiguousarray(block.permute(0, 2, 3, 1).numpy())
                if not written:
                    header = {"descr": array.dtype.str, "fortran_order": False, "shape": (num, *array.shape[1:])}
                    np.lib.format.write_array_header_1_0(file, header)
                file.write(array.data)
                written += len(array)
        assert written == num, "the blocks hold what was promised"
        extra = {} if labels is None else {"labels": labels.numpy()}
        extra |= {} if nfe is None else {"nfe": np.array(nfe)}
        extra |= {} if identity is None else {"identity": np.frombuffer(identity.encode(), np.uint8)}
        for name, value in extra.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, value)


def read_blocks(path: Path, *, start: int = 0, stop: int | None = None) -> Iterator[Tensor]:
    """The images `start` … `stop - 1`, as uint8 [n, C, H, W] with the strides of drawn ones, in order.

    Raises:
        one of UNREADABLE: if the file is damaged, which only a read to its end shows for certain.
    """
    with (
        open_npz(path) as archive,
        archive.open(_IMAGES.removesuffix(".npy"), whole=False) as (file, shape, dtype, fortran),
    ):
        size = math.prod(shape[1:])
        if dtype != np.uint8 or len(shape) != 4 or fortran or not 0 < size <= _LARGEST:
            raise ValueError(f"it holds {dtype} of shape {shape}")
        stop = shape[0] if stop is None else stop
        if stop > shape[0]:
            raise ValueError(f"it holds {shape[0]} images")
        for begin in range(0, stop, BLOCK):
            count = min(BLOCK, stop - begin)
            array = np.frombuffer(read_exactly(file, count * size), np.uint8).reshape(count, *shape[1:])
            if begin + count > start:
                # a copy with the strides of drawn images, for sums over these may differ in the last bit
                block = torch.from_numpy(array[max(0, start - begin) :].copy()).permute(0, 3, 1, 2)
                yield block.clone(memory_format=torch.contiguous_format)
        if stop == shape[0] and file.read(1):  # at its end, zipfile compares the checksum
            raise ValueError("it is longer than its header says")


class StoredImages:
    """The `num` images of an npz that `save_npz` wrote, as a split to be read from front to back.

    An image before the current block costs unpacking from the beginning again.
    """

    def __init__(self, path: Path, num: int, targets: Tensor | None) -> None:
        self._path, self._num, self._targets = path, num, targets
        self._start, self._block = num, torch.empty(0)  # of the block in memory; at first behind all images
        self._blocks: Iterator[Tensor] = iter(())

    def __len__(self) -> int:
        return self._num

    def images(self, indices: Tensor) -> Tensor:
        """uint8 [N, C, H, W]; raises one of UNREADABLE where the file has been damaged."""
        return torch.stack([self._image(index) for index in indices.tolist()])

    def labels(self, indices: Tensor) -> Tensor | None:
        """int64 [N], or None."""
        return None if self._targets is None else self._targets[indices]

    def _image(self, index: int) -> Tensor:
        if index < self._start:
            self._start, self._block, self._blocks = 0, torch.empty(0), read_blocks(self._path)
        while index >= self._start + len(self._block):
            self._start, self._block = self._start + len(self._block), next(self._blocks)
        return self._block[index - self._start]


def read_array(path: Path, name: str) -> Tensor | None:
    """One of the small arrays beside the images, or None where there is none."""
    with open_npz(path) as archive:
        if name not in archive:
            return None
        array = archive.read(name, limit=_SMALL)
        if array.dtype.kind not in "iu":
            raise ValueError(f"its {name} are {array.dtype}")
        return torch.from_numpy(array)


def count_images(path: Path) -> int:
    """The number of images; all of them, and the arrays beside them, are read and checked.

    Raises:
        one of UNREADABLE: if the file is damaged.
    """
    labels, nfe = (read_array(path, name) for name in ("labels", "nfe"))
    count = sum(len(block) for block in read_blocks(path))
    if labels is not None and (labels.shape != (count,) or labels.min() < 0):
        raise ValueError(f"its labels {list(labels.shape)} are not those of {count} images")
    if nfe is not None and (nfe.shape != () or nfe < 0):
        raise ValueError("its nfe is not a number of network evaluations")
    return count
