"""Calls a user's weight function at noise levels, in the form of input that it takes."""

import contextlib
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.identify.faults import file_of, user_fault
from debiasctl.analysis.identify.levels import Levels, StandInScheduler
from debiasctl.analysis.identify.signature import Parameters, Role
from debiasctl.analysis.identify.source import importable
from debiasctl.errors import DebiasctlError, Interrupted, UsageError

Form = Literal["tensors", "arrays", "numbers"]
_LOSS_SHAPES: tuple[tuple[int, ...], ...] = ((), (1, 1, 1), (4, 2, 2))  # of each image: averaged already, or not


class Returned(Exception):
    """A function returned something that is no weight, or no weight for each level."""


class Caller:
    """A function with what it is called with; `printed` is what it wrote to stdout, `changed` which inputs it changed,
    and `asks_prediction` whether it read the scheduler's prediction type.

    `form` and `loss_shape` are found by `settle`, which tries the ways there are.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Parameters, levels: Levels, *, prediction: str | None
    ) -> None:
        self.parameters, self.levels = parameters, levels
        self._function, self._prediction = function, prediction
        self._file = file_of(function)
        self.form: Form = "tensors"
        self.loss_shape: tuple[int, ...] = ()
        self.one_at_a_time = False
        self.dtype: torch.dtype | None = None
        self.printed = ""
        self.changed: list[str] = []
        self.asks_prediction = False

    def settle(self, *, tensors_only: bool = False) -> None:
        """Find the form of input with which the function gives weights.

        Raises:
            DebiasctlError: if there is none; the message is that of the first.
        """
        first: DebiasctlError | None = None
        everything = torch.arange(len(self.levels.t))
        has_loss = "loss" in self.parameters.roles.values()
        forms: tuple[Form, ...] = (
            ("tensors",) if tensors_only or has_loss or self._needs_tensors else ("tensors", "arrays", "numbers")
        )
        for form in forms:
            for shape in _LOSS_SHAPES if has_loss else ((),):
                for single in (False, True):
                    self.form, self.loss_shape, self.one_at_a_time = form, shape, single
                    if form == "numbers" and not single:
                        continue
                    try:
                        self.weights(everything if not single else everything[:2])
                    except DebiasctlError as error:
                        first = first or error
                        if isinstance(error.__cause__, Returned):
                            continue
                        break
                    if single:
                        self.weights(everything[-1:])
                    return
        assert first is not None
        raise first

    @property
    def _needs_tensors(self) -> bool:
        return "scheduler" in self.parameters.roles.values()

    def weights(self, index: Tensor, *, loss: Tensor | None = None) -> Tensor:
        """The weights, float64 [n], of the levels [n] of an index; `loss` [n] is 1 unless given.

        Raises:
            DebiasctlError: if the function fails, or returns something else.
        """
        if self.one_at_a_time:
            singles = [
                self._call(one, loss=None if loss is None else loss[place : place + 1])
                for place, one in enumerate(index[:, None])
            ]
            return torch.cat([_per_level(value, 1, self) for value in singles])
        return _per_level(self._call(index, loss=loss), len(index), self)

    def raw(self, index: Tensor, *, loss: Tensor) -> Tensor:
        """What the function returns for a batch, flat and as float64, of whatever size."""
        return _tensor(self._call(index, loss=loss), self).flatten()

    def _call(self, index: Tensor, *, loss: Tensor | None = None) -> Any:
        scheduler = StandInScheduler(self.levels, prediction=self._prediction)
        given = {name: self._input(role, index, scheduler, loss) for name, role in self.parameters.roles.items()}
        before = {name: value.clone() for name, value in given.items() if isinstance(value, Tensor)}
        tables = {name: value.clone() for name, value in scheduler.state().items()}
        arguments = {**given, **self.parameters.others}
        places = [arguments.pop(name) for name in self.parameters.positional if name in arguments]
        with self._watched():
            found = self._function(*places, **arguments)
        self.asks_prediction = self.asks_prediction or "prediction_type" in scheduler.config.asked
        for name, value in before.items():
            if not torch.equal(value, given[name]):
                self._note_change(name)
        for name, value in tables.items():
            if not torch.equal(value, getattr(scheduler, name)):
                self._note_change(f"the scheduler's {name}")
        return found

    def _note_change(self, name: str) -> None:
        if name not in self.changed:
            self.changed.append(name)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Collect what the function prints, and turn what it raises into one message."""
        printed = io.StringIO()
        folder = Path(self._file).parent if self._file else Path()
        try:
            with contextlib.redirect_stdout(printed), importable(folder):
                yield
        except (KeyboardInterrupt, Interrupted):
            raise
        except BaseException as error:  # some libraries' exceptions are no Exception, as SystemExit is none
            raise DebiasctlError(f"the function failed at {user_fault(error, self._file)}") from error
        finally:
            if not printed.closed:
                self.printed += printed.getvalue()[: 10_000 - len(self.printed)]

    def _input(self, role: Role, index: Tensor, scheduler: StandInScheduler, loss: Tensor | None) -> Any:
        if role == "scheduler":
            return scheduler
        if role == "loss":
            value = torch.ones(len(index)) if loss is None else loss.to(torch.float32)
            return value.reshape(-1, *[1] * len(self.loss_shape)).repeat(1, *self.loss_shape)
        value = self._level(role, index)
        if self.form == "arrays":
            return value.numpy()
        return value.item() if self.form == "numbers" else value

    def _level(self, role: Role, index: Tensor) -> Tensor:
        levels = self.levels
        if role == "timesteps":
            return (1000 * levels.s[index]).to(torch.float32) if levels.is_flow else levels.t[index].clone()
        if role == "alphas_cumprod":
            table = levels.table.to(torch.float32)
            return table.clone() if "timesteps" in self.parameters.roles.values() else table[levels.t[index]]
        snr = levels.snr[index]
        value = {"snr": snr, "log_snr": snr.log(), "sigma": snr.rsqrt(), "s": levels.s[index]}[role]
        return value.to(torch.float32)


def exact_snr(role: Role, levels: Levels, *, has_table: bool) -> Tensor:
    """The SNR of each level, float64 [n], as the float32 number that the function is given implies it.

    `has_table` says whether the function is given the schedule's table, and so does not have one of its own.
    """
    if role in ("timesteps", "alphas_cumprod") and not levels.is_flow:
        return levels.held_snr if has_table else levels.snr
    snr = levels.snr
    if role == "snr":
        return snr.to(torch.float32).to(torch.float64)
    if role == "log_snr":
        return snr.log().to(torch.float32).to(torch.float64).exp()
    if role == "sigma":
        return snr.rsqrt().to(torch.float32).to(torch.float64) ** -2
    scale = 1000 if role == "timesteps" else 1
    s = (scale * levels.s).to(torch.float32).to(torch.float64) / scale
    return ((1 - s) / s) ** 2


def _tensor(value: Any, caller: Caller) -> Tensor:
    if isinstance(value, Tensor):
        if value.is_meta or value.layout != torch.strided or value.is_nested or value.is_quantized:
            raise _wrong("the function returns a tensor that is not dense (meta, sparse, nested or quantized)")
        found = value.detach().to("cpu")
    elif isinstance(value, np.ndarray | np.generic | float | int) and not isinstance(value, bool):
        found = _from_numpy(np.asarray(value))
    elif isinstance(value, list | tuple) and value and all(isinstance(one, float | int) for one in value):
        found = _from_numpy(np.asarray(value)).to(torch.float64)
    elif isinstance(value, list) and value and all(isinstance(one, Tensor) and one.numel() == 1 for one in value):
        found = torch.stack([one.detach().to("cpu").reshape(()) for one in value])
    else:
        kind = (
            "nothing (None): does it return its weights?"
            if value is None
            else f"{type(value).__name__}, and no weights"
        )
        raise _wrong(f"the function returns {kind}")
    if found.is_complex() or found.dtype == torch.bool:
        raise _wrong(
            f"the function returns {str(found.dtype).removeprefix('torch.')} values, and weights are real numbers"
        )
    caller.dtype = found.dtype
    return found.to(torch.float64)


def _from_numpy(array: Any) -> Tensor:
    if array.dtype.kind not in "fiucb":  # whole numbers that no integer holds are objects too
        raise _wrong(f"the function returns an array of {array.dtype}, and weights are real numbers")
    is_long = array.dtype.kind == "f" and array.dtype.itemsize > 8  # torch has none, nor another order of bytes
    return torch.from_numpy(array.astype(np.float64 if is_long else array.dtype.newbyteorder("=")))


def _per_level(value: Any, count: int, caller: Caller) -> Tensor:
    """One weight for each level, from what the function returned."""
    found = _tensor(value, caller)
    per_image = math.prod(caller.loss_shape)
    if found.numel() == count:
        return found.flatten()
    if per_image > 1 and found.numel() == count * per_image:
        parts = found.reshape(count, per_image)
        if bool((parts == parts[:, :1]).all()):
            return parts[:, 0]
        raise _wrong("the weight differs between the values of one image, so it is no weight of a noise level")
    raise _wrong(
        f"for {count} noise levels the function returns shape {tuple(found.shape)}; one weight for each is wanted"
    )


def _wrong(message: str) -> UsageError:
    error = UsageError(message)
    error.__cause__ = Returned(message)
    return error
