"""The images in an npz, as if each were a file."""

import io
import json
import os
import zipfile
from bisect import bisect_left
from collections import Counter
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from debiasctl.api import DataError
from debiasctl.api.arrays import UNREADABLE, ObjectArrayError, open_npz, read_header
from debiasctl.api.files import one_line, open_regular, quoted
from debiasctl.builtin.datasets._support.image_files import is_image_name, outside_name, plain_name
from debiasctl.builtin.datasets._support.image_table import ImageFiles, Table, encode_name
from debiasctl.builtin.datasets._support.npz_images import IMAGES, LABELS, checked_images, first_of

_NAMES = "names"
_FORM = "uint8 [N, H, W], or [N, H, W, 1 or 3]"
_LOCAL_HEADER = 30  # bytes of a zip member's own header, which ends in the lengths of its name and extra field


class NpzSource:
    """The images of an npz: uint8 [N, H, W, C] or [N, H, W] as `images` or `arr_0`.

    `labels` or `arr_1`, integers or texts [N], are the classes. The texts `names` [N] are the names that the images
    would have as files, with classes as folders; without them, the images are numbered, as `debiasctl sample` numbers
    files. The array is mapped into memory where it is stored without compression (numpy.savez), and held in memory
    otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed_over = Counter[str]()
        self.unreadable: list[tuple[str, str]] = []
        try:
            self._array, names, self._labels = _read(path)
            changed = os.stat(path).st_mtime_ns
        except UNREADABLE as error:
            reason = one_line(getattr(error, "strerror", None) or error)
            raise DataError(f"{path} cannot be read as an npz: {reason}. Write it again with numpy.savez") from error
        count = len(self._array)
        width = len(str(count - 1))
        self._listed = [f"{index:0{width}d}.png" for index in range(count)] if names is None else names
        table = Table()
        for index, name in enumerate(self._listed):
            table.add(name, index, changed)
        self._sorted, numbers = table.by_name()
        self._rows = numbers[:, 0]
        doubled = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        self.files = ImageFiles(self._sorted, numbers)
        if len(doubled):
            name = self.files[int(doubled[0])].name
            raise DataError(f"{path}: 'names' holds {name} twice. Give each image a name of its own")
        self.labels_stamp = None if self._labels is None else (count, changed)

    def labels_file(self) -> tuple[bytes, str]:
        """The labels in the form of dataset.json."""
        assert self._labels is not None, "labels_stamp says whether there are any"
        return json.dumps({"labels": list(zip(self._listed, self._labels, strict=True))}).encode(), ""

    def open(self, name: str) -> IO[bytes]:
        """An image in the netpbm format, which is its pixels behind a short header."""
        array = self._array[int(self._rows[bisect_left(self._sorted, encode_name(name))])]
        height, width, channels = array.shape
        head = f"P{5 if channels == 1 else 6} {width} {height} 255\n"
        return io.BytesIO(head.encode() + array.tobytes())


def _read(path: Path) -> tuple[npt.NDArray[np.uint8], list[str] | None, list[Any] | None]:
    """The images [N, H, W, C], their names, and their labels.

    Raises:
        DataError: if something else is stored; one of UNREADABLE: if the npz is damaged.
    """
    with open_npz(path) as archive:
        name = next((name for name in IMAGES if name in archive), None)
        if name is None:
            found = quoted(", ".join(archive.names) or "nothing", mark="")
            raise DataError(f"{path} holds {found}, but no images, named {' or '.join(IMAGES)}")
        array = _mapped(path, name)
        array = first_of((name,), archive, path)[1] if array is None else array
        assert array is not None, "the name was found"
        images = checked_images(array, name, path, form=_FORM, square=False)
        names = _column(archive.read(_NAMES), len(images), f"{path}: '{_NAMES}'") if _NAMES in archive else None
        label_name, labels = first_of(LABELS, archive, path)
        stated = None if labels is None else _column(labels, len(images), f"{path}: '{label_name}'")
    if names is not None:
        wrong = next((one for one in names if not _is_name(one)), None)
        if wrong is not None:
            raise DataError(f"{path}: 'names' holds {wrong!r:.60}, which is no image file's name, such as cat/001.png")
        names = [plain_name(name) for name in names]
    return images, names, stated


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and is_image_name(name) and not outside_name(name)


def _column(array: npt.NDArray[Any], count: int, what: str) -> list[Any]:
    """Integers or texts, one for each image."""
    if array.shape != (count,) or array.dtype.kind not in "iuU":
        raise DataError(
            f"{what} is {array.dtype} {list(array.shape)}, for {count} images. Give one whole number or text for each"
        )
    listed: list[Any] = array.tolist()
    return listed


def _mapped(path: Path, name: str) -> npt.NDArray[Any] | None:
    """Map an array that is stored without compression; None if it is compressed, or not of bytes in C order."""
    with open_regular(path) as stream:
        with zipfile.ZipFile(stream) as archive:
            stored = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            member = stored[name]
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            return None
        stream.seek(member.header_offset)
        head = stream.read(_LOCAL_HEADER)
        start = len(head) + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        stream.seek(member.header_offset + start)
        try:
            shape, fortran, dtype, length = read_header(stream)
        except ObjectArrayError:
            return None
        size = os.fstat(stream.fileno()).st_size
    first = member.header_offset + start + length
    if fortran or dtype != np.uint8 or not all(shape) or first + int(np.prod(shape, dtype=np.int64)) > size:
        return None  # the reader of whole arrays says what is wrong
    return np.memmap(path, dtype=np.uint8, mode="r", offset=first, shape=shape)
