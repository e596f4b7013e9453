"""Values as a contract expects them; torch is imported only inside calls."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any

from debiasctl.boundary import ContractError

if TYPE_CHECKING:
    from torch import Tensor

Call = Callable[..., Any]


def short(value: object) -> str:
    """What a value is, in a few words."""
    if value is None or isinstance(value, bool):
        return str(value)
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is None:
        return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
    return f"{str(getattr(value, 'dtype', name)).removeprefix('torch.')} {list(shape)}"


def expect(value: Any, kind: type | tuple[type, ...], asked: str) -> Any:
    """The value, if it is of that type.

    Raises:
        ContractError: if it is not.
    """
    if not isinstance(value, kind):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    return value


def a_tensor(value: Any, asked: str, *, shape: Sequence[int] | None = None, dtype: str = "float64") -> "Tensor":
    """The value, if it is a tensor of that shape and dtype ("float" for any floating-point one).

    Raises:
        ContractError: if it is not.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    fits = value.is_floating_point() if dtype == "float" else value.dtype == getattr(torch, dtype)
    if not fits or (shape is not None and tuple(value.shape) != tuple(shape)):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    return value


def whole_number(name: str, value: Any, lowest: int) -> int:
    """The value of that name, if it is a whole number from `lowest` on, of any type.

    Raises:
        ContractError: if it is not.
    """
    try:
        number = index(value)
    except TypeError:
        number = lowest - 1
    if number < lowest or isinstance(value, bool):
        raise ContractError(f"states {name}={value!r:.80}, which must be a whole number from {lowest} on")
    return number


def is_number(value: Any) -> bool:
    """Whether a value is a finite int or float."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -math.inf < value < math.inf


def as_json(value: Any, what: str) -> Any:
    """The value, if JSON can hold it.

    Raises:
        ContractError: if it cannot.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{what} that JSON cannot hold ({error})") from error
    return value


def a_flag(call: Call, plugin: Any) -> bool:
    """True or False."""
    return bool(expect(call(), bool, "True or False"))


def a_rate(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    """A finite number from 0 on."""
    found = call(*args, **kwargs)
    if not is_number(found) or found < 0:
        what = repr(found) if isinstance(found, int | float) else short(found)
        raise ContractError(f"returned {what} in place of a finite number from 0 on")
    return found


def a_mapping(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    """A mapping."""
    return expect(call(*args, **kwargs), Mapping, "a mapping")
