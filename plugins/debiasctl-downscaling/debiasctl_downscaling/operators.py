"""Linear downsampling y = C x of images, with what conditioning needs of its singular value decomposition."""

import hashlib
import math
import re
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from debiasctl.api import DataError, UsageError

_FORM = "mean:4 (means over 4x4 pixels), mean:8x2, subsample:4, or a matrix [m, C·H·W] in an .npy"


class Operator(ABC):
    """C = U S Vᵀ, without the singular values that are 0.

    `coordinates(x)` are Vᵀ x, and `known(y)` those that y fixes, S⁻¹ Uᵀ y, so that `lift(known(y))` is C† y.
    """

    name: str

    @property
    def identity(self) -> str:
        """What tells it from other operators: `operator` takes it, unless it begins with `matrix:`."""
        return self.name

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """The low-resolution images [N, ...] of images x [N, C, H, W]."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """Vᵀ x, [N, r], of images x [N, C, H, W]."""

    @abstractmethod
    def known(self, y: Tensor) -> Tensor:
        """S⁻¹ Uᵀ y, [N, r], of low-resolution images [N, ...]."""

    @abstractmethod
    def lift(self, coordinates: Tensor, shape: torch.Size) -> Tensor:
        """V c, images of a shape [N, C, H, W], of coordinates c [N, r]."""

    @abstractmethod
    def low_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the low-resolution image of one of `shape` (C, H, W).

        Raises:
            UsageError: if images of this shape cannot be downsampled so.
        """

    def pseudo_inverse(self, y: Tensor, shape: torch.Size) -> Tensor:
        """C† y, images of a shape [N, C, H, W]."""
        return self.lift(self.known(y), shape)


class _Blocks(Operator):
    """An operator on blocks of `height` x `width` pixels."""

    kind: str

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.name = f"{self.kind}:{height}" if height == width else f"{self.kind}:{height}x{width}"

    def low_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Operator.low_shape`."""
        channels, rows, columns = shape
        if rows % self.height or columns % self.width:
            raise UsageError(
                f"operator {self.name}: blocks of {self.height}x{self.width} pixels do not divide images of "
                f"{rows}x{columns}"
            )
        return channels, rows // self.height, columns // self.width

    def _low(self, coordinates: Tensor, shape: torch.Size) -> Tensor:
        return coordinates.reshape(-1, *self.low_shape(tuple(shape[1:])))


class Mean(_Blocks):
    """Means over blocks: S is 1/√(pixels of a block)."""

    kind = "mean"

    @property
    def _root(self) -> float:
        return math.sqrt(self.height * self.width)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        self.low_shape(tuple(x.shape[1:]))
        return functional.avg_pool2d(x, (self.height, self.width))

    def coordinates(self, x: Tensor) -> Tensor:
        """See `Operator.coordinates`."""
        return self(x).flatten(1) * self._root

    def known(self, y: Tensor) -> Tensor:
        """See `Operator.known`."""
        return y.flatten(1) * self._root

    def lift(self, coordinates: Tensor, shape: torch.Size) -> Tensor:
        """See `Operator.lift`."""
        low = self._low(coordinates, shape) / self._root
        return low.repeat_interleave(self.height, dim=2).repeat_interleave(self.width, dim=3)


class Subsample(_Blocks):
    """The first pixel of each block: S is 1."""

    kind = "subsample"

    def __call__(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        self.low_shape(tuple(x.shape[1:]))
        return x[:, :, :: self.height, :: self.width]

    def coordinates(self, x: Tensor) -> Tensor:
        """See `Operator.coordinates`."""
        return self(x).flatten(1)

    def known(self, y: Tensor) -> Tensor:
        """See `Operator.known`."""
        return y.flatten(1)

    def lift(self, coordinates: Tensor, shape: torch.Size) -> Tensor:
        """See `Operator.lift`."""
        x = coordinates.new_zeros(len(coordinates), *shape[1:])
        x[:, :, :: self.height, :: self.width] = self._low(coordinates, shape)
        return x


class Matrix(Operator):
    """Any matrix C, [m, C·H·W], by its singular value decomposition in float64."""

    def __init__(self, matrix: Tensor, *, name: str = "matrix") -> None:
        """Decompose the matrix.

        Raises:
            UsageError: if it is no matrix of finite numbers, or is 0.
        """
        if matrix.ndim != 2 or not matrix.numel() or not bool(torch.isfinite(matrix).all()):
            raise UsageError(f"operator {name}: it must be a matrix [m, C·H·W] of finite numbers")
        self.name, self.matrix = name, matrix.double()
        u, s, vt = torch.linalg.svd(self.matrix, full_matrices=False)
        rank = int((s > s[0] * max(matrix.shape) * torch.finfo(torch.float64).eps).sum())
        if not s[0] > 0:
            raise UsageError(f"operator {name}: the matrix is 0, and says nothing of an image")
        self._u, self._s, self._vt = u[:, :rank], s[:rank], vt[:rank]

    @property
    def identity(self) -> str:
        """The hash of the matrix."""
        digest = hashlib.sha256(self.matrix.contiguous().numpy().tobytes()).hexdigest()[:16]
        return f"matrix:{'x'.join(map(str, self.matrix.shape))}:{digest}"

    def low_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """See `Operator.low_shape`."""
        rows, columns = self.matrix.shape
        if columns != math.prod(shape):
            raise UsageError(
                f"operator {self.name}: its matrix has {columns} columns, and images of {'x'.join(map(str, shape))} "
                f"have {math.prod(shape)} values"
            )
        return (rows,)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Operator`."""
        self.low_shape(tuple(x.shape[1:]))
        return torch.mm(x.flatten(1), self.matrix.T.to(x))

    def coordinates(self, x: Tensor) -> Tensor:
        """See `Operator.coordinates`."""
        return torch.mm(x.flatten(1), self._vt.T.to(x))

    def known(self, y: Tensor) -> Tensor:
        """See `Operator.known`."""
        return torch.mm(y.flatten(1), (self._u / self._s).to(y))

    def lift(self, coordinates: Tensor, shape: torch.Size) -> Tensor:
        """See `Operator.lift`."""
        return torch.mm(coordinates, self._vt.to(coordinates)).reshape(-1, *shape[1:])


def operator(text: str) -> Operator:
    """The operator that a text names: `mean:4`, `mean:8x2`, `subsample:4`, or the path of an .npy with a matrix.

    Raises:
        UsageError: if it names none; DataError: if the file cannot be read.
    """
    found = re.fullmatch(r"(mean|subsample):([1-9]\d{0,4})(?:x([1-9]\d{0,4}))?", text)
    if found:
        kind, height, width = found.groups()
        size = int(height), int(width or height)
        if size == (1, 1):
            raise UsageError(f"operator {text}: blocks of one pixel leave nothing to sample. Give {_FORM}")
        return Mean(*size) if kind == "mean" else Subsample(*size)
    path = Path(text).expanduser()
    if path.suffix != ".npy":
        raise UsageError(f"unknown operator '{text}'. Give {_FORM}")
    if not path.is_file():
        raise UsageError(f"operator: there is no file {path}. Give {_FORM}")
    try:
        matrix = np.load(path, allow_pickle=False)
        return Matrix(torch.from_numpy(np.asarray(matrix, dtype=np.float64)), name=path.name)
    except (OSError, ValueError, TypeError, EOFError) as error:
        raise DataError(f"operator: {path} holds no matrix of numbers ({error})") from error


def stated_operator(text: str | None, stated: str | None) -> Operator | None:
    """The operator by which samples agree with low-resolution images: the one that they state, which `text` may name.

    Raises:
        UsageError: if `text` names another, or no samples state one, or theirs is a matrix and none is named.
    """
    if stated is None:
        if text is None:
            return None
        raise UsageError(
            f"`operator={text}` has no effect: these images do not state which low-resolution ones they are of, as "
            "those that debiasctl downscale sample writes do. Leave it out"
        )
    is_matrix = stated.startswith("matrix:")
    way_on = "Give the .npy that it was read from" if is_matrix else "Leave `operator` out"
    if text is None:
        if is_matrix:
            raise UsageError(f"the samples were drawn with the operator {stated}. {way_on}")
        return operator(stated)
    found = operator(text)
    if found.identity != stated:
        raise UsageError(
            f"the samples were drawn with the operator {stated}, and `operator={text}` is {found.identity}. {way_on}"
        )
    return found
