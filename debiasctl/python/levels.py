"""Noise levels of a schedule of ours or of a diffusers scheduler, which is read as it is at each call."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Prediction, Schedule
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import UsageError
from debiasctl.python.values import opened
from debiasctl.wording import kind_of

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
_KNOWN = (
    "Known are those with a table `alphas_cumprod` (DDPMScheduler, DDIMScheduler, EulerDiscreteScheduler, ...) and "
    f"{' and '.join(_FLOW)}"
)
_ELSE = "For noise levels of your own, give the weighting `snr`, `sigma` (sigma/alpha) or `s`"
_AGREE = 1e-6  # between t/T and s, both float32


@dataclass(frozen=True)
class Levels:
    """Noise levels of a process, and the timesteps by which its user names them.

    `names` [T] are those of the process' t = 0 … T - 1, if they are not 0 … T - 1 themselves: int64 in another order,
    or a flow scheduler's, float64 and ascending. `shares` is a number of which a timestep is the share s, at any t.
    """

    process: DiffusionProcess
    names: Tensor | None = None
    shares: int | None = None

    def snr_at(self, timesteps: Tensor) -> Tensor:
        """The SNR at timesteps, float64 of any shape.

        Raises:
            UsageError: if a timestep names no level.
        """
        t = timesteps.flatten()
        is_flow = self.names is not None and self.names.is_floating_point()
        return (self._of_flow(t) if is_flow else self._of_table(t)).reshape(timesteps.shape)

    def named(self, t: Tensor) -> Tensor:
        """What the user calls the process' t: whole numbers as int64, others in torch's default dtype."""
        found = t if self.names is None else self.names[t]
        return found.to(torch.get_default_dtype()) if found.is_floating_point() else found

    def place(self, timesteps: Tensor) -> Tensor:
        """The process' nearest whole t, int64 [N], for timesteps as `named` gives them."""
        if self.names is None:
            last = self.process.num_timesteps - 1
            return timesteps.round().long().clamp(0, last) if timesteps.is_floating_point() else timesteps
        return (self.names - timesteps.to(self.names.dtype)[:, None]).abs().argmin(dim=1)

    def by_name(self, table: Tensor) -> Tensor:
        """A table [T] over the process' t in the order of the timesteps, ascending."""
        return table.clone() if self.names is None else table[self.names.argsort()]

    def _of_table(self, t: Tensor) -> Tensor:
        size, place, continuous = self.process.num_timesteps, self.process.place, self.process.continuous
        low, high = (-place, size - place) if continuous else (0, size - 1)
        wrong = ~((t >= low) & (t <= high))
        if bool(wrong.any()):
            raise UsageError(f"timestep {t[wrong][0].item():g} is not there: they run from {low:g} to {high:g}")
        if continuous:
            return self.process.levels(t).snr
        between = t != t.round()
        if bool(between.any()):
            raise UsageError(
                f"timestep {t[between][0].item():g} lies between two of the table, which has no level there. "
                "Give whole timesteps"
            )
        return self.by_name(self.process.snr)[t.long()]

    def _of_flow(self, t: Tensor) -> Tensor:
        assert self.names is not None, "flow schedulers name their levels"
        if self.shares is not None:
            wrong = ~((t >= 0) & (t <= self.shares))
            if bool(wrong.any()):
                raise UsageError(
                    f"timestep {t[wrong][0].item():g} is not there: they are {self.shares} s, from 0 to {self.shares}"
                )
            return snr_of_share(t / self.shares)
        place = torch.searchsorted(self.names, t.contiguous()).clamp(max=len(self.names) - 1)
        wrong = self.names[place] != t
        if bool(wrong.any()):
            raise UsageError(
                f"timestep {t[wrong][0].item():g} is none of the scheduler's `timesteps`, and no noise level belongs "
                "to it, as its `sigmas` are not t/T"
            )
        return self.process.snr[place]


def snr_of_share(s: Tensor) -> Tensor:
    """The SNR ((1 - s)/s)² at rectified flow's share of noise s = sigma/(alpha + sigma), float64."""
    return ((1 - s) / s) ** 2


class Reading(Protocol):
    """What was read of a schedule or scheduler."""

    @property
    def name(self) -> str:
        """The scheduler's kind, for messages."""
        ...

    @property
    def prediction(self) -> Prediction | None:
        """What its network predicts, if it says so."""
        ...

    def same(self, other: Any) -> bool:
        """Whether nothing has changed since the other reading."""
        ...

    def levels(self) -> Levels:
        """Its noise levels."""
        ...


class OfSchedule:
    """The levels of a schedule of ours, which do not change; a source and what it reads in one."""

    name = "the schedule"
    prediction: Prediction | None = None

    def __init__(self, schedule: Schedule) -> None:
        self._schedule, self._levels = schedule, Levels(process_of(schedule))

    def __call__(self) -> "OfSchedule":
        return self

    def __reduce__(self) -> tuple[Any, ...]:  # functions, of which a process is made, cannot be pickled
        return OfSchedule, (self._schedule,)

    def same(self, other: Any) -> bool:
        """Whether it is the same one."""
        return self is other

    def levels(self) -> Levels:
        """Its noise levels."""
        return self._levels


@dataclass(frozen=True)
class OfScheduler:
    """A scheduler as it was read: what kind of table it has, the table, and what its network predicts, if it says so.

    `timesteps` is given for rectified flow alone, whose table is of s.
    """

    name: str
    table: Tensor
    prediction: Prediction | None
    dtype: str
    timesteps: Tensor | None = None
    num_train_timesteps: int = 0

    def same(self, other: Any) -> bool:
        """Whether nothing has changed since the other reading."""
        if not isinstance(other, OfScheduler) or (self.timesteps is None) != (other.timesteps is None):
            return False
        if (self.prediction, self.num_train_timesteps) != (other.prediction, other.num_train_timesteps):
            return False
        tables = [(self.table, other.table)]
        if self.timesteps is not None and other.timesteps is not None:
            tables.append((self.timesteps, other.timesteps))
        return all(torch.equal(one, two) for one, two in tables)

    def levels(self) -> Levels:
        """Its noise levels.

        Raises:
            UsageError: if its table is not one.
        """
        if self.timesteps is None:
            falling, order = self.table.sort(descending=True, stable=True)
            in_order = bool((order[1:] > order[:-1]).all())  # EulerDiscreteScheduler's last is not, rescaled
            return Levels(self._process(falling), None if in_order else order)
        timesteps, order = torch.unique(self.timesteps, return_inverse=True)
        s = torch.empty_like(timesteps).index_copy_(0, order, self.table)
        if not bool(((s > 0) & (s <= 1)).all()):
            raise UsageError(
                f"{self.name}: its `sigmas` are not all above 0 and up to 1, as those of rectified flow are"
            )
        agree = torch.allclose(timesteps / self.num_train_timesteps, s, rtol=0, atol=_AGREE)
        process = self._process((1 - s) ** 2 / ((1 - s) ** 2 + s**2))
        return Levels(process, timesteps, self.num_train_timesteps if agree else None)

    def _process(self, alphas_cumprod: Tensor) -> DiffusionProcess:
        try:
            return DiffusionProcess(alphas_cumprod)
        except UsageError as error:
            raise UsageError(
                f"{self.name}: its noise levels are not all different and between 0 and 1 (the table is "
                f"{self.dtype}). Keep its tables as the scheduler makes them, in float32"
            ) from error


Source = Callable[[], Reading]


def reader_of(scheduler: Any) -> Source:
    """A function that reads a diffusers scheduler, or another object with a table `alphas_cumprod`, as it then is.

    Raises:
        UsageError: if its kind is not known.
    """
    if isinstance(scheduler, str | Schedule):
        raise UsageError(
            "for_scheduler(...) takes a diffusers scheduler; for_schedule('linear') takes a schedule's name"
        )
    names = {kind.__name__ for kind in type(scheduler).__mro__}
    config = getattr(scheduler, "config", None)
    name = type(scheduler).__name__
    if names.intersection(_FLOW):
        if getattr(config, "invert_sigmas", False):
            raise UsageError(f"{name} with invert_sigmas counts noise the other way round, and is not read. {_ELSE}")
        return partial(_read_flow, scheduler, name)
    if getattr(config, "use_flow_sigmas", False) or getattr(config, "prediction_type", "") == "flow_prediction":
        raise UsageError(
            f"{name} has rectified flow's levels only once it samples, and another table before. Train with a "
            f"FlowMatchEulerDiscreteScheduler. {_ELSE}"
        )
    if not isinstance(getattr(scheduler, "alphas_cumprod", None), Tensor | np.ndarray):
        raise UsageError(f"{name} is no scheduler whose noise levels are known here. {_KNOWN}. {_ELSE}")
    return partial(_read_table, scheduler, name)


def _read_table(scheduler: Any, name: str) -> OfScheduler:
    stated = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    if stated is not None and (not isinstance(stated, str) or stated not in _PREDICTIONS):
        raise UsageError(f"{name}: its prediction_type '{stated}' is not known. Known: {', '.join(_PREDICTIONS)}")
    table = _table(scheduler.alphas_cumprod, name=f"{name}.alphas_cumprod")
    return OfScheduler(
        name, table, None if stated is None else _PREDICTIONS[stated], str(scheduler.alphas_cumprod.dtype)
    )


def _read_flow(scheduler: Any, name: str) -> OfScheduler:
    timesteps, sigmas = (_table(getattr(scheduler, one), name=f"{name}.{one}") for one in ("timesteps", "sigmas"))
    if not len(timesteps) <= len(sigmas) <= len(timesteps) + 1:
        raise UsageError(
            f"{name} has {len(timesteps)} `timesteps` and {len(sigmas)} `sigmas`, which do not fit together"
        )
    # after `set_timesteps` a last sigma, 0, has no timestep
    return OfScheduler(
        name,
        sigmas[: len(timesteps)],
        "flow",
        str(scheduler.sigmas.dtype),
        timesteps,
        int(scheduler.config.num_train_timesteps),
    )


def _table(table: Any, *, name: str) -> Tensor:
    """A copy, float64 [T], so that a later change of the scheduler's own is seen.

    Raises:
        UsageError: if it is no list of real numbers.
    """
    found, _ = opened(table, name=name)
    if found.ndim != 1:
        raise UsageError(f"`{name}` has the shape {list(found.shape)}. A scheduler's table is a list of numbers")
    return found.clone()


def schedule_reader(schedule: str | Schedule) -> Source:
    """A function that gives the levels of a schedule of ours, by its reference or made.

    Raises:
        UsageError: if there is no such schedule, or its options are not valid.
    """
    if not isinstance(schedule, str | Schedule):
        raise UsageError(
            f"a schedule is given by its reference, such as 'linear', not by {kind_of(schedule)}; "
            "for_scheduler(...) takes diffusers' schedulers"
        )
    made: Schedule = registry.create("schedules", schedule) if isinstance(schedule, str) else schedule
    return OfSchedule(made)
