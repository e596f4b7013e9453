"""One operator through which torch.compile calls our weights, so that compiled code reads tables as they are."""

import itertools
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from debiasctl.python.values import result_dtype


class Callee(Protocol):
    """An object whose weights compiled code asks for."""

    def weigh(self, values: Tensor, *, axis: str, prediction: str, sigma_data: float, progress: float | None) -> Tensor:
        """The weights at `values`, which are what `axis` says."""
        ...


class Copied:
    """The base of objects whose copies and pickles read their noise levels again."""

    def __getstate__(self) -> dict[str, Any]:
        return {name: None if name == "_known" else value for name, value in vars(self).items()}


class Called(Copied):
    """The base of objects that compiled code calls; a copy is an object of its own."""

    def __init__(self) -> None:
        self._handle = next(_NUMBERS)
        _OBJECTS[self._handle] = self

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        Called.__init__(self)


_NUMBERS = itertools.count()
_OBJECTS: "WeakValueDictionary[int, Any]" = WeakValueDictionary()
# a CUDA graph would replay the weights of the call that it recorded
_TAGS: Any = {"tags": torch.Tag.cudagraph_unsafe} if hasattr(torch.Tag, "cudagraph_unsafe") else {}


@torch.library.custom_op("debiasctl::weights", mutates_args=(), **_TAGS)
def weights(
    values: Tensor, handle: int, axis: str, prediction: str, sigma_data: float, progress: float | None
) -> Tensor:
    """What the object of that number gives; the operator is opaque to compilers, and runs at each call."""
    found: Callee = _OBJECTS[handle]
    return found.weigh(values, axis=axis, prediction=prediction, sigma_data=sigma_data, progress=progress)


@weights.register_fake
def _shape(
    values: Tensor, handle: int, axis: str, prediction: str, sigma_data: float, progress: float | None
) -> Tensor:
    return values.new_empty(values.shape, dtype=result_dtype(values.dtype, keep_half=axis != "timesteps"))
