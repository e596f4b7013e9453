"""Timesteps for training loops of one's own: `debiasctl.timesteps`."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Prediction, Schedule, TimestepContext, TimestepDistribution
from debiasctl.boundary import name_of
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.weighting import bounded_snr, falling_slope
from debiasctl.errors import UsageError
from debiasctl.python.compiled import Copied
from debiasctl.python.levels import Levels, Reading, Source, reader_of, schedule_reader
from debiasctl.python.values import check_kind, check_range, opened
from debiasctl.python.weights import LossWeighting, check_progress, check_unit
from debiasctl.python.weights import weighting as made_weighting
from debiasctl.wording import kind_of, one_line

_MOST = 10**8  # timesteps drawn at once


@dataclass(frozen=True)
class TimestepSample:
    """Drawn timesteps: `t` [N], the importance weight `correction` [N] that multiplies the loss, and the `snr` [N].

    `t` is int64, or float where it need not be whole: on a continuous schedule, and as rectified flow's 1000 s.
    `correction` is base/q, which is 1 where the distribution is part of the objective.
    """

    t: Tensor
    correction: Tensor
    snr: Tensor

    @property
    def sigma(self) -> Tensor:
        """The ratio sigma/alpha = 1/√SNR [N]."""
        return self.snr.rsqrt()

    @property
    def s(self) -> Tensor:
        """The share of noise sigma/(alpha + sigma) [N], rectified flow's."""
        return 1 / (1 + self.snr.sqrt())


def timesteps(reference: str | TimestepDistribution) -> "Timesteps":
    """Return a distribution of timesteps by its reference, as on the command line: `"logit-normal:mean=0.5"`.

    Raises:
        UsageError: if there is no such distribution, or its options are not valid.
    """
    if not isinstance(reference, str | TimestepDistribution):
        raise UsageError(f"timesteps are given by their reference, such as 'logit-normal', not by {kind_of(reference)}")
    made = registry.create("timesteps", reference) if isinstance(reference, str) else reference
    return Timesteps(made, reference if isinstance(reference, str) else name_of(made, "timestep distribution"))


class Timesteps:
    """A distribution of timesteps; made by `debiasctl.timesteps`."""

    def __init__(self, plugin: TimestepDistribution, name: str) -> None:
        self.plugin, self.name = plugin, name

    def __repr__(self) -> str:
        return f"debiasctl.timesteps({self.name!r})"

    def sample(
        self, n: int, *, generator: torch.Generator | None = None, device: torch.device | str | None = None
    ) -> TimestepSample:
        """Draw n timesteps of the schedule `linear`, debiasctl's default; see `TimestepSampler.sample`."""
        return self.for_schedule("linear").sample(n, generator=generator, device=device)

    def for_schedule(
        self,
        schedule: str | Schedule,
        *,
        weighting: "str | LossWeighting | None" = None,
        prediction: Prediction = "eps",
    ) -> "TimestepSampler":
        """Return the distribution on a schedule of ours, by its reference: `"linear"`, `"flow:shift=3"`.

        `weighting` is needed where t is drawn in proportion to the weight on the error of `prediction`, as by
        `importance`.

        Raises:
            UsageError: if there is no such schedule, or the distribution cannot be had on it.
        """
        return TimestepSampler(self.plugin, schedule_reader(schedule), weighting, prediction)

    def for_scheduler(
        self,
        scheduler: Any,
        *,
        weighting: "str | LossWeighting | None" = None,
        prediction: Prediction | None = None,
    ) -> "TimestepSampler":
        """Return the distribution on a diffusers scheduler, whose tables are read anew at each call.

        It may be any that `LossWeighting.for_scheduler` takes; `prediction` is what it says if it is not given.

        Raises:
            UsageError: if the scheduler is of another kind, or the distribution cannot be had on it.
        """
        return TimestepSampler(self.plugin, reader_of(scheduler), weighting, prediction)


class TimestepSampler(Copied):
    """A distribution of timesteps on a schedule or scheduler; made by `Timesteps.for_scheduler`."""

    def __init__(
        self,
        plugin: TimestepDistribution,
        source: Source,
        weighting: "str | LossWeighting | None",
        prediction: Prediction | None,
    ) -> None:
        self._plugin, self._source = plugin, source
        if weighting is not None:
            check_kind(
                weighting,
                str,
                LossWeighting,
                name="weighting",
                wanted="a reference, such as 'debiased', or a weighting",
            )
        self._weighting = made_weighting(weighting) if isinstance(weighting, str) else weighting
        self._prediction = None if prediction is None else check_unit(prediction)
        self._known: tuple[Reading, Levels, Objective] | None = None
        self._current()

    def sample(
        self,
        n: int,
        *,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        progress: float | None = None,
    ) -> TimestepSample:
        """Draw n timesteps with torch's global generator or another one, and put them on the generator's device.

        `device` says where else to put them; `progress`, from 0 to 1, is needed where the weighting changes during
        training.

        Raises:
            UsageError: if n is not a whole number from 0, or the scheduler's tables were changed into what
                `for_scheduler` refuses.
        """
        if isinstance(n, bool) or not isinstance(n, int) or not 0 <= n <= _MOST:
            raise UsageError(f"`n={n}` must be a whole number from 0 to {_MOST:,}")
        if generator is not None:
            check_kind(generator, torch.Generator, name="generator", wanted="a torch.Generator, or none")
        levels, objective = self._current()
        check_progress(objective.weighting, progress)
        place = torch.device("cpu") if generator is None else generator.device
        numbers = torch.rand(n + 1, generator=generator, dtype=torch.float64, device=place).cpu()
        drawn = objective.draw(
            numbers[:n], shared=numbers[n:], positions=torch.arange(n), batch_size=max(n, 1), progress=progress or 0.0
        )
        place = place if device is None else _place(device)
        dtype = torch.get_default_dtype()
        return TimestepSample(
            levels.named(drawn.levels.t).to(place),
            drawn.correction.to(dtype).to(place),
            drawn.levels.snr.to(dtype).to(place),
        )

    def observe(self, t: Tensor, losses: Tensor) -> None:
        """Pass a batch's drawn timesteps [N] and losses [N] to a distribution that adapts to them.

        Raises:
            UsageError: if the distribution does not adapt to losses, a timestep names no level, or a loss is negative,
                infinite or not a number.
        """
        levels, objective = self._current()
        if not objective.observes:
            raise UsageError(f"{name_of(self._plugin, 'timestep distribution')} does not adapt to losses")
        for name, value in (("t", t), ("losses", losses)):
            check_kind(value, Tensor, name=name, wanted="a torch tensor [N]")
        if t.ndim != 1 or t.shape != losses.shape:
            raise UsageError(
                f"`t` has the shape {list(t.shape)} and `losses` {list(losses.shape)}. Give a loss for each t, [N]"
            )
        values, _ = opened(losses, name="losses")
        check_range(values, name="losses")
        if bool(values.isinf().any()):
            raise UsageError("`losses` is inf; a step without a loss is not to be observed")
        levels.snr_at(opened(t, name="t")[0])  # refuses what names no level
        objective.observe(levels.place(t.detach().cpu()), values)

    def probabilities(self, *, progress: float | None = None) -> Tensor:
        """Return q of all timesteps, which ascend, float64 [T]."""
        levels, objective = self._current()
        check_progress(objective.weighting, progress)
        return levels.by_name(objective.tables(progress or 0.0).probability)

    def _current(self) -> tuple[Levels, Objective]:
        """The noise levels as they are now, and the objective on them."""
        read = self._source()
        if self._known is None or not read.same(self._known[0]):
            levels = read.levels()
            weighting = self._weighting
            if weighting is None:
                self._check_independent(levels)
                weighting = made_weighting("constant-x0")
                prediction: Prediction = "x0"  # which every schedule allows
            else:
                prediction = self._prediction or read.prediction or "eps"
            objective = Objective(Parameterization(prediction, levels.process), weighting.plugin, self._plugin)
            objective.tables()
            self._known = read, levels, objective
        return self._known[1], self._known[2]

    def _check_independent(self, levels: Levels) -> None:
        """Check that t is not drawn in proportion to the weight, which is not known."""
        snr = bounded_snr(levels.process.snr)
        slope, even = falling_slope(levels.process.log_snr), torch.ones_like(snr)
        found = [
            self._plugin.probabilities(TimestepContext(snr, slope, weight))
            for weight in (even, torch.linspace(1, 2, len(snr), dtype=torch.float64))
        ]
        if not torch.equal(*(one / one.sum() for one in found)):
            raise UsageError(
                f"{name_of(self._plugin, 'timestep distribution')} draws t in proportion to the weight. Give "
                "`weighting`, for example for_schedule('linear', weighting='debiased')"
            )


def _place(device: torch.device | str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: if there is none, or nothing can be put on it.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError) as error:
        raise UsageError(f"`device={device}` cannot be used here ({one_line(error)})") from error
    return found
