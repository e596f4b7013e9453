"""What is said of an exception of a user's function: its place in their file, and what it usually means."""

import traceback
from pathlib import Path
from types import CodeType
from typing import Any

from debiasctl.boundary import summary


def user_fault(error: BaseException, path: str | Path | None) -> str:
    """One sentence: the line of the user's file in which it happened, and the exception; advice where it is known."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if path is not None and Path(frame.filename) == Path(path)]
    if isinstance(error, SyntaxError) and error.filename:
        where = f"line {error.lineno} of {Path(error.filename).name}: "
    else:
        where = f"line {own[-1].lineno} ({one}): " if own and (one := (own[-1].line or "").strip()) else ""
    return f"{where}{summary(error)}{_advice(error)}"


def file_of(function: Any) -> str | None:
    """The file that a function is written in, if that can be told."""
    inner = getattr(function, "func", function)  # of a partial
    inner = getattr(inner, "__wrapped__", inner)
    kind = type(inner)
    for one in (inner, getattr(kind, "forward", None), kind.__dict__.get("__call__")):  # forward: of a torch module
        code = getattr(one, "__code__", None)
        if isinstance(code, CodeType):
            return code.co_filename
    return None


def _advice(error: BaseException) -> str:
    text = summary(error).lower()
    if "cuda" in text or "nvidia" in text or "expected all tensors to be on the same device" in text:
        return (
            ". debiasctl calls it with tensors on the CPU: let the function follow its input's device, for example "
            ".to(snr.device) in place of .cuda()"
        )
    return ""
