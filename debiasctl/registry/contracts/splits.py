"""The splits of a plugin's data set, checked when they are loaded and, unless they are arrays, as they are read."""

from typing import TYPE_CHECKING, Any

from debiasctl.api import ArraySplit, DatasetInfo, Split, spread_indices
from debiasctl.boundary import ContractError, Origin, plugin_call

if TYPE_CHECKING:
    from torch import Tensor

_LOOKED_AT = 64  # float images of a split that are read to be checked when it is loaded
_CHUNK = 1024  # images of an array that are checked at once


class CheckedSplit:
    """A plugin's split, whose reading is a `plugin_call`; every batch has the shape and dtype that its info states."""

    def __init__(self, split: Split, info: DatasetInfo, name: str, origin: Origin | None) -> None:
        self.split, self._info, self._name, self._origin = split, info, name, origin

    def __getattr__(self, name: str) -> Any:
        if "split" not in self.__dict__:  # while a copy of it is made
            raise AttributeError(name)
        return getattr(self.split, name)  # what else the plugin's split has

    def __len__(self) -> int:
        with plugin_call(self._origin, f"{self._name}.__len__"):
            return len(self.split)

    def images(self, indices: "Tensor") -> "Tensor":
        """Read the images at `indices`, [N, C, H, W]."""
        with plugin_call(self._origin, f"{self._name}.images"):
            found = self.split.images(indices)
            check_images(found, self._info, len(indices))
            check_values(found)
            return found

    def labels(self, indices: "Tensor") -> "Tensor | None":
        """Return the labels at `indices`, int64 [N], or None."""
        with plugin_call(self._origin, f"{self._name}.labels"):
            found = self.split.labels(indices)
            check_labels(found, self._info, len(indices))
            return found


def checked_split(split: Any, info: DatasetInfo, name: str, *, num: int, origin: Origin | None) -> Split:
    """The split, of `num` images. An `ArraySplit` stays one, because it is checked as a whole.

    Raises:
        ContractError: if its images, labels or number are not what the info states.
    """
    import torch

    missing = [method for method in ("__len__", "images", "labels") if not callable(getattr(split, method, None))]
    if missing:
        raise ContractError(f"returned a {name} split, a {type(split).__name__}, without {', '.join(missing)}")
    if len(split) != num:
        raise ContractError(f"returned {len(split)} {name} images, and its info states {num}")
    if num:
        indices = spread_indices(num, 1 if info.value_type == "uint8" else _LOOKED_AT)
        images = split.images(indices)
        check_images(images, info, len(indices))
        starts = range(0, num, _CHUNK) if isinstance(split, ArraySplit) else ()
        for part in [images, *(split.array[start : start + _CHUNK] for start in starts)]:
            check_values(part)
        check_labels(split.labels(torch.arange(num)), info, num)
    plain = all(getattr(type(split), method) is getattr(ArraySplit, method) for method in ("images", "labels"))
    return split if isinstance(split, ArraySplit) and plain else CheckedSplit(split, info, name, origin)


def check_images(images: Any, info: DatasetInfo, num: int) -> None:
    """Check a batch's shape and dtype, which costs nothing.

    Raises:
        ContractError: if they are not what the info states.
    """
    import torch

    shape, stated = (info.channels, info.image_size, info.image_size), info.value_type
    found = str(images.dtype).removeprefix("torch.") if isinstance(images, torch.Tensor) else type(images).__name__
    if found != stated or tuple(images.shape[1:]) != shape:
        raise ContractError(
            f"gives {found} images {list(getattr(images, 'shape', [None])[1:])} where its info says {stated} "
            f"{list(shape)} (channels, height, width). Its info and its images must agree"
        )
    if len(images) != num:
        raise ContractError(f"gives {len(images)} images for {num} indices")


def check_values(images: "Tensor") -> None:
    """Check the values of float32 images.

    Raises:
        ContractError: if one is outside [-1, 1].
    """
    if images.is_floating_point() and not bool((images.abs() <= 1).all()):  # NaN compares false
        raise ContractError("gives float32 images with values outside [-1, 1]. Scale them to it")


def check_labels(labels: Any, info: DatasetInfo, num: int) -> None:
    """Check the labels of a batch; images to measure may have labels without names, which say how they were chosen.

    Raises:
        ContractError: if they are no int64 numbers of the info's classes.
    """
    import torch

    if labels is None and not info.classes:
        return
    if not isinstance(labels, torch.Tensor) or labels.dtype != torch.int64 or tuple(labels.shape) != (num,):
        found = "no labels" if labels is None else f"labels {type(labels).__name__}"
        if isinstance(labels, torch.Tensor):
            found = f"labels {str(labels.dtype).removeprefix('torch.')} {list(labels.shape)}"
        raise ContractError(f"gives {found}, where its info states {len(info.classes)} classes: int64 [{num}]")
    if num and info.classes and not bool(((labels >= 0) & (labels < len(info.classes))).all()):
        raise ContractError(
            f"gives labels from {int(labels.min())} to {int(labels.max())}, and its info states "
            f"{len(info.classes)} classes, numbered from 0"
        )
