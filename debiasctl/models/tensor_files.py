"""Reading tensors from files, and checking that they fit a network before any of it changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl.reading.regular import open_regular
from debiasctl.reading.state_dicts import read_tensors as read_tensors
from debiasctl.reading.zips import UNREADABLE, packing_problem
from debiasctl.wording import one_line, quoted

_SHOWN = 3  # differences that a message names


def read_state(path: Path) -> dict[str, Any]:
    """Read a mapping that `torch.save` wrote, of tensors and plain values alone, on the CPU.

    Raises:
        OSError: if it cannot be read; ValueError: if it is damaged, or holds something else.
    """
    with open_regular(path) as stream:
        try:
            problem = packing_problem(stream)
        except UNREADABLE as error:
            raise ValueError(one_line(error)) from error
        if problem is not None:
            raise ValueError(problem)
        stream.seek(0)
        try:
            found = torch.load(stream, weights_only=True, map_location="cpu")
        except Exception as error:  # torch's unpickler raises errors of any type for damaged files
            raise ValueError(one_line(error)) from error
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"it holds {type(found).__name__}, not a mapping of names")
    return found


def misfit(found: Mapping[str, Any], own: Mapping[str, Tensor]) -> str | None:
    """Why the tensors `found` ("there") cannot take the place of `own` ("here"), or None if they can."""
    wrong = [
        *(f"{quoted(name)} is missing there" for name in own if name not in found),
        *(f"{quoted(name)} is missing here" for name in found if name not in own),
        *(
            f"{quoted(name)}{problem}"
            for name in own
            if name in found and (problem := _problem(found[name], own[name]))
        ),
    ]
    more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return "; ".join(wrong[:_SHOWN]) + more if wrong else None


def _problem(there: Any, here: Tensor) -> str | None:
    if not isinstance(there, Tensor):
        return f" is {type(there).__name__} there, not a tensor"
    if there.shape != here.shape:
        return f" is {list(there.shape)} there and {list(here.shape)} here"
    if there.dtype.is_floating_point != here.dtype.is_floating_point or there.dtype.is_complex:
        return f" is {there.dtype} there and {here.dtype} here"
    if there.dtype.is_floating_point and not bool(there.isfinite().all()):
        return " holds NaN or infinity there"
    return None
