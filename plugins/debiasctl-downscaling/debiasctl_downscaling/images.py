"""Reading the images that a command is given, and writing those that it makes."""

import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import debiasctl
from debiasctl.api import DataError, UsageError, atomic_file, spread_indices

Which = Literal["train", "heldout"]


def images_of(source: str, *, split: Which, num: int | None, divided: bool = False) -> Tensor:
    """The first images of a source, float32 [N, C, H, W]: of an .npz or .npy, or of one split of a data set.

    A file holds float images in [-1, 1] as [N, C, H, W] or [N, H, W], low-resolution values as [N, m], or uint8 images,
    which may also be [N, H, W, C] as debiasctl's samples are; an .npz names them `images`, or holds one array. With
    `divided`, the last fifth of a file is its held-out split. `num` None takes all.

    Raises:
        UsageError: if there is no such file or data set; DataError: if it cannot be read, or has too few images.
    """
    path = Path(source).expanduser()
    if path.suffix in (".npz", ".npy"):
        if not path.is_file():
            raise UsageError(f"there is no file {path}")
        found = _of_file(path)
        name = str(path)
        if divided:
            edge = len(found) * 4 // 5
            found = found[:edge] if split == "train" else found[edge:]
            name = f"{path} ({'its last fifth' if split == 'heldout' else 'all but its last fifth'})"
    else:
        data = debiasctl.dataset(source)
        part = data.train if split == "train" else data.heldout
        count = len(part) if num is None else min(num, len(part))
        found = _scaled(part.images(spread_indices(count, count)))
        name = f"{source} ({split})"
    if num is not None and len(found) < num:
        raise DataError(f"{name} has {len(found):,} images, and {num:,} are asked for")
    return found if num is None else found[:num]


def _of_file(path: Path) -> Tensor:
    try:
        stored: Any = np.load(path, allow_pickle=False)
        if path.suffix == ".npz":
            with stored:
                name = "images" if "images" in stored.files else stored.files[0] if len(stored.files) == 1 else None
                if name is None:
                    raise DataError(f"{path} holds {', '.join(stored.files[:8])}, and no array named images")
                stored = stored[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} holds no images, or is damaged ({error})") from error
    return _arranged(stored, path)


def _arranged(array: NDArray[Any], path: Path) -> Tensor:
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim == 4 and array.dtype == np.uint8 and array.shape[3] in (1, 3) and array.shape[1] not in (1, 3):
        array = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    is_flat = array.ndim == 2 and array.dtype.kind == "f"
    if not (array.ndim == 4 or is_flat) or not array.size or (array.dtype != np.uint8 and array.dtype.kind != "f"):
        raise DataError(
            f"{path} holds {array.dtype} {list(array.shape)}. Images are float in [-1, 1] or uint8, [N, C, H, W]"
        )
    found = _scaled(torch.from_numpy(array))
    if not bool(torch.isfinite(found).all()):
        raise DataError(f"{path} holds values that are not finite")
    return found


def _scaled(images: Tensor) -> Tensor:
    """Float32 images, of uint8 ones in [-1, 1]."""
    return images.float() / 127.5 - 1 if images.dtype == torch.uint8 else images.float()


def write_images(path: Path, images: Tensor, *, operator: str, **others: Tensor) -> None:
    """Write images, and what else belongs to them, to an .npz.

    `operator` is the identity of the downsampling by which they agree with `low`, one of the others.

    Raises:
        UsageError: if the name does not end in .npz; DebiasctlError: if it cannot be written.
    """
    check_npz(path)
    with atomic_file(path) as stream:
        arrays: dict[str, Any] = {name: one.numpy() for name, one in others.items()}
        np.savez(stream, images=images.numpy(), operator=np.array(operator), **arrays)


def check_npz(path: Path) -> None:
    """Raise UsageError unless the name ends in .npz."""
    if path.suffix != ".npz":
        raise UsageError(f"{path}: give a name that ends in .npz")


def drawn_for(path: Path) -> tuple[Tensor, str] | None:
    """The low-resolution images that a file of samples was drawn for, and the identity of their downsampling.

    None if the file holds none.
    """
    if path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as stored:
        if not {"low", "operator"} <= set(stored.files):
            return None
        return torch.from_numpy(stored["low"]).float(), str(stored["operator"])
