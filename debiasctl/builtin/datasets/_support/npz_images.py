"""Reading images, and labels if there are any, from an npz in debiasctl's or guided-diffusion's format."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from debiasctl.api import DataError, UsageError
from debiasctl.api.arrays import UNREADABLE, Npz, ObjectArrayError, open_npz
from debiasctl.api.files import one_line, quoted

IMAGES = ("images", "arr_0")  # debiasctl's name, and guided-diffusion's
LABELS = ("labels", "arr_1")
_FORM = "uint8 [N, H, H, 1 or 3]"


def read_npz(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read uint8 [N, C, H, W] from `images` or `arr_0`, and int64 [N] from `labels` or `arr_1`, None if there are none.

    Images are stored as uint8 [N, H, W, C] or [N, H, W], labels as integers from 0.

    Raises:
        UsageError: if there is no such file; DataError: if it is damaged, or holds something else.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give an .npz with uint8 images [N, H, W, C]")
    try:
        with open_npz(path) as archive:
            name, array = first_of(IMAGES, archive, path)
            label_name, labels = first_of(LABELS, archive, path)
            found = quoted(", ".join(archive.names) or "nothing", mark="")
    except UNREADABLE as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise DataError(f"{path} cannot be read as an npz: {reason}. Write it again with numpy.savez") from error
    if array is None:
        raise DataError(
            f"{path} holds {found}, but no images, named {' or '.join(IMAGES)}. Statistics are mu and sigma "
            "together, and a reference only"
        )
    array = checked_images(array, name, path, form=_FORM)
    images = torch.from_numpy(array).permute(0, 3, 1, 2).contiguous()
    return images, None if labels is None else _checked_labels(labels, len(array), f"{path}: '{label_name}'")


def checked_images(
    array: npt.NDArray[Any], name: str, path: Path, *, form: str, square: bool = True
) -> npt.NDArray[np.uint8]:
    """An array as images [N, H, W, C]; `form` says in the message what they must be.

    Raises:
        DataError: if it holds something else, or none.
    """
    problems = [text for text in (_dtype_problem(array), _shape_problem(array.shape, square=square)) if text]
    if problems:
        what = f"'{name}' is {array.dtype} {list(array.shape)}"
        raise DataError(f"{path}: {what}: {'; '.join(problems)}. Images must be {form}")
    if not len(array):
        raise DataError(f"{path}: '{name}' holds no images")
    return array[..., None] if array.ndim == 3 else array


def first_of(names: tuple[str, ...], archive: Npz, path: Path) -> tuple[str, npt.NDArray[Any] | None]:
    """The name and the array of the first of `names` that exists; the array is None if none does."""
    name = next((name for name in names if name in archive), "")
    if not name:
        return name, None
    try:
        return name, archive.read(name)
    except ObjectArrayError as error:
        raise DataError(
            f"{path}: '{name}' {error}. Make it one array of numbers (numpy.stack) and write it again"
        ) from error


def _dtype_problem(array: npt.NDArray[Any]) -> str | None:
    """The reason why values of this type are not 8-bit images, with what to do about it."""
    if array.dtype == np.uint8:
        return None
    if array.dtype == np.bool_:
        return "the values are true and false: multiply by 255 and save as uint8"
    if array.dtype.kind not in "iuf" or not array.size:
        return "the values are not 8-bit numbers"
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        return "the values hold NaN or infinity: write finite images, as uint8"
    if low >= 0 and high > 1:
        scaling = "round and save as uint8" if high <= 255 else "bring them to 0 … 255 and save as uint8"
        return f"the values lie from {low:.5g} to {high:.5g}: {scaling}"
    if array.dtype.kind == "f" and low >= -1 and high <= 1:
        if low >= 0:
            return "the values lie from 0 to 1: multiply by 255 and save as uint8"
        return "the values lie from -1 to 1: add 1, multiply by 127.5 and save as uint8"
    return f"the values lie from {low:.5g} to {high:.5g}: bring them to 0 … 255 and save as uint8"


def _shape_problem(shape: tuple[int, ...], *, square: bool) -> str | None:
    """The reason why arrays of this shape are not grey or RGB images, square if asked, with what to do about it."""
    if len(shape) not in (3, 4):
        return f"images have 3 or 4 dimensions, not {len(shape)}"
    if len(shape) == 4 and shape[3] not in (1, 3):
        if shape[1] in (1, 3):
            return "channels come last: transpose to [N, H, W, C]"
        alpha = ": leave the alpha channel out" if shape[3] == 4 else ""
        return f"images are grey or RGB, with 1 or 3 channels, not {shape[3]}{alpha}"
    if square and shape[1] != shape[2]:
        return f"images must be square, and these are {shape[2]} wide and {shape[1]} high"
    return None if shape[1] and shape[2] else "images have at least one pixel"


def _checked_labels(labels: npt.NDArray[Any], num: int, what: str) -> Tensor:
    """Check and convert labels to int64 [num].

    Raises:
        DataError: if labels are not integers from 0, one per image.
    """
    problem = ""
    if labels.ndim == 2 and len(labels) == num:
        problem = "one-hot rows are not read (take argmax)"
    elif labels.shape != (num,):
        problem = f"there are {num} images"
    elif labels.dtype.kind not in "iu":
        problem = "they must be integers"
    elif (labels.astype(np.int64) < 0).any():
        problem = f"the smallest is {labels.min()}" if labels.min() < 0 else f"the largest is {labels.max()}"
    if problem:
        raise DataError(
            f"{what} is {labels.dtype} {list(labels.shape)}: {problem}. "
            f"Labels are class numbers from 0, integers [{num}]; or leave them out"
        )
    return torch.from_numpy(labels.astype(np.int64))
