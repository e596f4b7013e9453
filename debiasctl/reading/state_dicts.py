"""Files of a network's tensors from anywhere, read without running code, and compared with the network they are for."""

import argparse
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from debiasctl.errors import ModelError, UsageError
from debiasctl.reading.regular import open_regular
from debiasctl.reading.user_text import user_path
from debiasctl.reading.zips import UNREADABLE, packing_problem
from debiasctl.wording import one_line, quoted

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 4  # names that a message lists of each kind
_SAFETENSORS = ".safetensors"
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # what torch names where a file asks for more than tensors


def read_tensors(path: Path) -> "dict[str, Tensor]":
    """Read all tensors of a safetensors file.

    Raises:
        OSError: if it cannot be read; ValueError: if it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    open_regular(path).close()
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(one_line(error)) from error


def read_state_dict(
    path: Path, *, part: str | None = None, parts: Sequence[str] = (), holds: str | None = None
) -> "dict[str, Tensor]":
    """Read a flat mapping of names to tensors from a file of `torch.save` or a safetensors file, onto the CPU.

    A file that holds it beside other things has it by the name `part`, or else by the first of `parts` that is there.
    `holds` is a name of those that are read; where it has a prefix in the file, the error says how to take that off.
    Nothing that the file holds is run (`weights_only=True`). Dtypes stay as they are.

    Raises:
        UsageError: if there is no such file.
        ModelError: if it is cut off, is not such a file, or holds anything but tensors by name.
    """
    path = user_path(path, argument="the option path")
    if not path.exists():
        raise UsageError(f"there is no file {path}. Give the path of a file of weights, .pt or {_SAFETENSORS}")
    try:
        found = _safetensors(path) if _is_safetensors(path) else _pickled(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    held = found if isinstance(found, Mapping) else {}
    named = [name for name in (parts if part is None else [part]) if isinstance(held.get(name), Mapping)]
    if part is not None and not named:
        known = ", ".join(quoted(str(name)) for name in list(held)[:_SHOWN])
        raise ModelError(f"{path} has no tensors by the name {quoted(part)}: it holds {known}, …")
    found = held[named[0]] if named else found
    if not isinstance(found, Mapping) or not found:
        what = "an empty mapping" if isinstance(found, Mapping) else f"a {type(found).__name__}"
        raise ModelError(f"{path} holds {what}, not tensors by name, as a file of weights does")
    _check_flat(path, found)
    if holds is not None:
        _check_prefix(path, found, holds)
    return {name: _checked(path, name, tensor) for name, tensor in found.items()}


def state_dict_differences(found: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]") -> str | None:
    """How the tensors `found` in a file differ from those that a network `expected` has; None if they do not.

    Names that are missing or unexpected and those of another shape are counted, and some of each are named.
    """
    missing = [quoted(name) for name in expected if name not in found]
    unexpected = [quoted(name) for name in found if name not in expected]
    reshaped = [
        f"{quoted(name)} is {list(found[name].shape)} in the file and {list(expected[name].shape)} in the network"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    parts = [
        f"{len(names):,} {what}: {', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''}"
        for names, what in ((missing, "missing"), (unexpected, "unexpected"), (reshaped, "of another shape"))
        if names
    ]
    return "; ".join(parts) or None


def _is_safetensors(path: Path) -> bool:
    """Whether a file is to be read as safetensors: a length of 8 bytes, and then JSON; or by its ending."""
    with open_regular(path) as stream:
        return stream.read(9)[8:] == b"{" or path.suffix.lower() == _SAFETENSORS


def _safetensors(path: Path) -> Any:
    try:
        return read_tensors(path)
    except ValueError as error:
        raise ModelError(f"{path} is cut off, or not a safetensors file ({one_line(error)})") from error


def _pickled(path: Path) -> Any:
    import torch

    with open_regular(path) as stream:
        _check_packing(path, stream)
        stream.seek(0)
        try:
            # programs store their options as a Namespace of plain values
            with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
                warnings.simplefilter("ignore")  # of forms that are refused below
                return torch.load(stream, weights_only=True, map_location="cpu")
        except Exception as error:  # torch's unpickler raises errors of any type for damaged files
            named = _GLOBAL.search(str(error))
            if named is not None:
                raise ModelError(
                    f"{path} holds objects of code beside tensors ({named[1]}), which could do anything when they are "
                    "loaded, and are not. Save its tensors alone, where you trust it: "
                    "torch.save(network.state_dict(), path)"
                ) from error
            raise ModelError(
                f"{path} is cut off, or not a file of weights that torch.save wrote. Copy or download it again"
            ) from error


def _check_packing(path: Path, stream: IO[bytes]) -> None:
    """Refuse a zip that torch would unpack to more than it holds; files of torch before 1.6 are no zips."""
    if stream.read(2) != b"PK":
        return
    try:
        problem = packing_problem(stream)
    except UNREADABLE as error:
        raise ModelError(f"{path} is cut off or damaged: it is no whole zip. Copy or download it again") from error
    if problem is not None:
        raise ModelError(f"{path} is not a file of weights that torch.save wrote: {problem}")


def _check_prefix(path: Path, names: Mapping[str, Any], holds: str) -> None:
    prefix = next((name.removesuffix(holds) for name in names if name.endswith(f".{holds}")), None)
    if prefix is not None and holds not in names:
        raise ModelError(
            f"{path}: its names have the prefix {quoted(prefix)} ('{prefix}{holds}'), as wrappers of networks leave "
            "it. Save its tensors without: "
            f"torch.save({{name.removeprefix({prefix!r}): tensor for name, tensor in torch.load({path.name!r}).items() "
            f"if name.startswith({prefix!r})}}, 'plain.pt')"
        )


def _check_flat(path: Path, found: Mapping[Any, Any]) -> None:
    import torch

    strange = [name for name, value in found.items() if not isinstance(value, torch.Tensor)]
    if not strange and all(isinstance(name, str) for name in found):
        return
    tensors = [
        str(name)
        for name, value in found.items()
        if isinstance(value, Mapping) and any(isinstance(one, torch.Tensor) for one in value.values())
    ]
    names = ", ".join(quoted(str(name)) for name in list(found)[:_SHOWN])
    inside = (
        f" Tensors lie in {', '.join(map(quoted, tensors[:_SHOWN]))}: save one of them by itself: "
        f"torch.save(torch.load({path.name!r})[{tensors[0]!r}], 'plain.pt')"
        if tensors
        else ""
    )
    raise ModelError(
        f"{path} is not a flat mapping of names to tensors: it holds {names}{', …' if len(found) > _SHOWN else ''}."
        f"{inside or ' Save the tensors of the network alone: torch.save(network.state_dict(), path)'}"
    )


def _checked(path: Path, name: str, tensor: "Tensor") -> "Tensor":
    """A tensor with memory of its own.

    Raises:
        ModelError: if it is none that a network computes with, or states more values than the file holds.
    """
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        raise ModelError(f"{path}: {quoted(name)} is not a dense tensor of real numbers")
    tensor = tensor.detach()
    held = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > held:
        raise ModelError(f"{path}: {quoted(name)} states more values than the file holds of it")
    alone = held == tensor.numel() * tensor.element_size() and tensor.is_contiguous()
    return tensor if alone else tensor.contiguous().clone()
