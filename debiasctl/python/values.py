"""Numbers as callers have them (tensors, arrays, floats), which are computed with in float64 on the CPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiasctl.errors import UsageError
from debiasctl.wording import kind_of, quoted

Values = TypeVar("Values", Tensor, NDArray[Any], float)
Back = Callable[[Tensor], Any]


def opened(value: Any, *, name: str, keep_half: bool = True) -> tuple[Tensor, Back]:
    """Return numbers as float64 on the CPU, and the function that gives results back in their type.

    Results have the type, device and float dtype of `value`; for whole numbers they are float32 in a tensor (torch's
    default dtype) and float64 in an array. Without `keep_half`, 16-bit floats get float32 results.

    Raises:
        UsageError: if `value` is none of these.
    """
    if isinstance(value, Tensor):
        check_dense(value, name=name)
        if value.is_complex() or value.dtype == torch.bool:
            raise UsageError(f"`{name}` is a tensor of {_short(value.dtype)}. Give floats or whole numbers")
        if value.is_floating_point() and value.dtype.itemsize == 1:
            raise UsageError(f"`{name}` is a tensor of {_short(value.dtype)}, which holds no weight well. Give float32")
        dtype, device = result_dtype(value.dtype, keep_half=keep_half), value.device
        # on the CPU first: MPS has no float64
        return value.detach().cpu().to(torch.float64), lambda found: _cast(found, dtype).to(device)
    if isinstance(value, np.ndarray | np.number):
        kind = value.dtype
        if kind.kind not in "fiu":
            raise UsageError(f"`{name}` is an array of {kind}. Give floats or whole numbers")
        wanted = kind if kind.kind == "f" and (keep_half or kind.itemsize > 2) else np.dtype(np.float64)
        wanted = np.dtype(np.float32) if kind.kind == "f" and wanted != kind else wanted
        is_scalar = isinstance(value, np.number)

        def back(found: Tensor) -> Any:
            array = _cast(found, torch.float16).numpy() if wanted == np.float16 else found.numpy().astype(wanted)
            return array[()] if is_scalar else array

        return torch.from_numpy(np.array(value, dtype=np.float64)), back
    if isinstance(value, float | int) and not isinstance(value, bool):
        return torch.tensor(number(value, name=name), dtype=torch.float64), lambda found: float(found)
    raise UsageError(f"`{name}` is {kind_of(value)}. Give a torch tensor, a NumPy array or a number")


def check_dense(value: Tensor, *, name: str) -> None:
    """Raise UsageError for a tensor without numbers of its own (on `meta`), or sparse, nested or quantized."""
    if value.is_meta or value.layout != torch.strided or value.is_nested or value.is_quantized:
        kinds = {"on the device meta, without numbers": value.is_meta, "nested": value.is_nested}
        kind = next((one for one, holds in (kinds | {"quantized": value.is_quantized}).items() if holds), "sparse")
        raise UsageError(f"`{name}` is a tensor that is {kind}. Give a dense one")


def number(value: object, *, name: str) -> float:
    """A number that was given.

    Raises:
        UsageError: if it is none.
    """
    if isinstance(value, bool) or not isinstance(value, float | int | np.number):
        raise UsageError(f"`{name}={quoted(str(value))}` is {kind_of(value)}. Give a number")
    try:
        return float(value)
    except OverflowError as error:
        raise UsageError(f"`{name}` is too large for a float") from error


def check_kind(value: object, *kinds: type, name: str, wanted: str) -> None:
    """Raise UsageError unless a value is of one of these types; `wanted` says what to give."""
    if not isinstance(value, kinds):
        raise UsageError(f"`{name}` is {kind_of(value)}. Give {wanted}")


def check_path(value: object, *, name: str) -> None:
    """Raise UsageError unless a path, or a name, is given, and not an empty one."""
    check_kind(value, str, Path, name=name, wanted="a path or a name")
    if value == "":
        raise UsageError(f"`{name}` is empty text, which names nothing")


def check_names(value: object, *, name: str) -> None:
    """Raise UsageError unless this is a name, several or none."""
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, Sequence):
        raise UsageError(f"`{name}` is {kind_of(value)}. Give a list of names")
    for one in value:
        check_kind(one, str, name=name, wanted="names alone")


def check_choice_types(features: object, metrics: object) -> None:
    """Raise UsageError unless features are named by one text, and metrics by texts."""
    if features is not None:
        check_kind(features, str, name="features", wanted="a name, such as 'local'")
    check_names(metrics, name="metrics")


def result_dtype(dtype: torch.dtype, *, keep_half: bool) -> torch.dtype:
    """The dtype of results for a tensor of `dtype`."""
    if not dtype.is_floating_point:
        return torch.get_default_dtype()
    return dtype if keep_half or dtype.itemsize > 2 else torch.float32


def check_range(values: Tensor, *, name: str, high: float | None = None) -> None:
    """Check that all numbers are from 0 to `high`.

    Raises:
        UsageError: if one is not, or is not a number.
    """
    wrong = torch.isnan(values) | (values < 0)
    if high is not None:
        wrong |= values > high
    if bool(wrong.any()):
        first = wrong.flatten().nonzero()[0].item()
        where = f" at index {first}" if values.ndim else ""
        allowed = "0 or above" if high is None else f"from 0 to {high:g}"
        raise UsageError(f"`{name}` is {values.flatten()[int(first)].item():g}{where}; it must be {allowed}")


def _cast(found: Tensor, dtype: torch.dtype) -> Tensor:
    """Round to a dtype.

    Raises:
        UsageError: if a number is too large for it.
    """
    cast = found.to(dtype)
    if not bool(torch.isfinite(cast).all()):
        raise UsageError(
            f"a weight of {found[~torch.isfinite(cast)][0].item():.4g} is too large for {_short(dtype)}. Give float32"
        )
    return cast


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
