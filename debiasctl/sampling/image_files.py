"""Images as an .npz, written and read in blocks: they need not all be in memory at once."""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from debiasctl.files import atomic_file

BLOCK = 256  # images
_IMAGES = "images.npy"

# what a damaged file makes numpy and zipfile raise
UNREADABLE = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


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
    with zipfile.ZipFile(path) as archive, archive.open(_IMAGES) as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        stop = shape[0] if stop is None else stop
        if dtype != np.uint8 or len(shape) != 4 or stop > shape[0]:
            raise ValueError(f"it holds {dtype} of shape {shape}")
        size = int(np.prod(shape[1:]))
        for begin in range(0, stop, BLOCK):
            count = min(BLOCK, stop - begin)
            array = np.frombuffer(_read(file, count * size), np.uint8).reshape(count, *shape[1:])
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
    with zipfile.ZipFile(path) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        with archive.open(f"{name}.npy") as file:
            return torch.from_numpy(np.lib.format.read_array(file, allow_pickle=False))


def count_images(path: Path) -> int:
    """The number of images; all of them, and the arrays beside them, are read and checked.

    Raises:
        one of UNREADABLE: if the file is damaged.
    """
    for name in ("labels", "nfe"):
        read_array(path, name)
    return sum(len(block) for block in read_blocks(path))


def _read(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise EOFError("it ends too early")
    return data
