"""Loss weights for training loops of one's own: `debiasctl.weighting`."""

from typing import Any, Literal, overload

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Prediction, Schedule, Weighting, WeightingContext
from debiasctl.boundary import name_of, origin_of
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import PREDICTIONS, Parameterization
from debiasctl.diffusion.weighting import weight_in
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.python import compiled
from debiasctl.python.levels import Levels, Reading, Source, reader_of, schedule_reader, snr_of_share
from debiasctl.python.values import Values, check_kind, check_range, number, opened
from debiasctl.wording import did_you_mean, kind_of, quoted

Normalize = Literal["none", "mean"]


def weighting(reference: str | Weighting) -> "LossWeighting":
    """Return a loss weighting by its reference, as on the command line: `"min-snr:gamma=5"`; or one of your own class.

    Raises:
        UsageError: if there is no such weighting, its options are not valid, or it is learned.
    """
    if not isinstance(reference, str | Weighting):
        raise UsageError(
            f"a weighting is given by its reference, such as 'min-snr:gamma=5', not by {kind_of(reference)}"
        )
    made: Weighting = registry.create("weightings", reference) if isinstance(reference, str) else reference
    if made.is_learned:
        raise UsageError(
            f"{name_of(made, 'weighting')} is learned: its loss is w e^-u error + u, where u is a function of SNR that "
            "is trained beside the network, so that no weights can be given for it. Train u too, as "
            "docs/how-to/python.md shows, or name its base, such as 'edm', for w alone"
        )
    return LossWeighting(made, reference if isinstance(reference, str) else name_of(made, "weighting"))


class LossWeighting(compiled.Called):
    """A weighting's weight on a squared error, as published; made by `debiasctl.weighting`."""

    def __init__(self, plugin: Weighting, name: str) -> None:
        super().__init__()
        self.plugin, self.name = plugin, name

    def __repr__(self) -> str:
        return f"debiasctl.weighting({self.name!r})"

    @overload
    def __call__(
        self, snr: Values, *, prediction: Prediction = ..., sigma_data: float = ..., progress: float | None = ...,
        normalize: Normalize = ...,
    ) -> Values: ...  # fmt: skip
    @overload
    def __call__(
        self, *, sigma: Values, prediction: Prediction = ..., sigma_data: float = ..., progress: float | None = ...,
        normalize: Normalize = ...,
    ) -> Values: ...  # fmt: skip
    @overload
    def __call__(
        self, *, s: Values, prediction: Prediction = ..., sigma_data: float = ..., progress: float | None = ...,
        normalize: Normalize = ...,
    ) -> Values: ...  # fmt: skip

    def __call__(
        self,
        snr: Any = None,
        *,
        sigma: Any = None,
        s: Any = None,
        prediction: Prediction = "eps",
        sigma_data: float = 0.5,
        progress: float | None = None,
        normalize: Normalize = "none",
    ) -> Any:
        """Return the weight on the squared error of `prediction` at noise levels given in one of three ways.

        `snr` is alpha²/sigma², `sigma` the ratio sigma/alpha (EDM's sigma), and `s` the share sigma/(alpha + sigma)
        (rectified flow's). What comes back has the type, shape, dtype and device of what was given, without gradient;
        whole numbers give torch's default dtype, or float64 in NumPy. Everything is computed in float64. `sigma_data`
        is that of edm-prediction. `progress`, from 0 to 1, is needed where the weights change during training.

        Raises:
            UsageError: if not exactly one level is given; a number is negative or not a number; eps or edm is asked
                for at SNR 0; the weights depend on a schedule or on `progress`; or `normalize` is not none, since no
                distribution is known over which a mean could be taken.
        """
        axis, values = _one_of({"snr": snr, "sigma": sigma, "s": s})
        check_normalize(normalize)
        if normalize == "mean":
            raise UsageError(
                "`normalize=mean` divides by the mean weight over the noise levels that training draws, and these "
                f"{axis} alone do not say which. Use for_scheduler(scheduler, normalize='mean') or "
                "for_schedule('linear', normalize='mean')"
            )
        if torch.compiler.is_compiling() and isinstance(values, Tensor):
            return compiled.weights(values.detach(), self._handle, axis, prediction, sigma_data, progress)
        return self.weigh(values, axis=axis, prediction=prediction, sigma_data=sigma_data, progress=progress)

    def weigh(self, values: Any, *, axis: str, prediction: str, sigma_data: float, progress: float | None) -> Any:
        """What a call gives, for levels on a named axis."""
        numbers, back = opened(values, name=axis)
        unit = check_unit(prediction)
        snr = snr_from(numbers, axis=axis)
        _check_level(unit, snr)
        check_progress(self.plugin, progress)
        _check_sigma_data(sigma_data)
        with torch.no_grad():
            return back(self._at(snr, unit, sigma_data, progress or 0.0))

    def _at(self, snr: Tensor, unit: Prediction, sigma_data: float, progress: float) -> Tensor:
        """The weights where no schedule is known.

        Raises:
            UsageError: if they depend on the schedule.
        """
        try:
            settled = self.plugin.at(_NoSchedule(progress))
        except _ScheduleNeeded as asked:
            origin = origin_of(self.plugin)
            if self.plugin.varies or origin is None or origin.distribution != "debiasctl":
                raise self._needs_schedule() from asked
            settled = self.plugin  # a table by SNR needs no schedule, and our others refuse without one
        try:
            return weight_in(settled, unit, snr=snr, sigma_data=sigma_data)
        except DebiasctlError as error:
            if settled is self.plugin and "at(context)" in str(error):
                raise self._needs_schedule() from error
            raise

    def _needs_schedule(self) -> UsageError:
        return UsageError(
            f"{name_of(self.plugin, 'weighting')} depends on the schedule: use for_scheduler(scheduler) or "
            "for_schedule('linear')"
        )

    def for_schedule(
        self,
        schedule: str | Schedule,
        *,
        prediction: Prediction = "eps",
        normalize: Normalize = "none",
        timesteps: str | None = None,
        sigma_data: float = 0.5,
    ) -> "TimestepWeights":
        """Return the weights at the timesteps of a schedule of ours, by its reference: `"linear"`, `"cosine:s=0.01"`.

        With `normalize="mean"` they have mean 1 over uniform t, or over those that `timesteps` draws.

        Raises:
            UsageError: if there is no such schedule, or it cannot be trained with this prediction or weighting.
        """
        return TimestepWeights(
            self.plugin, schedule_reader(schedule), prediction=prediction, normalize=normalize, timesteps=timesteps,
            sigma_data=sigma_data,
        )  # fmt: skip

    def for_scheduler(
        self,
        scheduler: Any,
        *,
        prediction: Prediction | None = None,
        normalize: Normalize = "none",
        timesteps: str | None = None,
        sigma_data: float = 0.5,
    ) -> "TimestepWeights":
        """Return the weights at the timesteps of a diffusers scheduler, whose tables are read anew at each call.

        It may be any with `alphas_cumprod`, or rectified flow's FlowMatchEulerDiscreteScheduler. The weights are on the
        squared error of what the scheduler's `prediction_type` says (of u = eps - x0 for flow), or of `prediction`.
        With `normalize="mean"` they have mean 1 over the scheduler's timesteps, drawn uniformly or as `timesteps` does.

        Raises:
            UsageError: if the scheduler is of another kind, or cannot be trained with this prediction or weighting.
        """
        return TimestepWeights(
            self.plugin, reader_of(scheduler), prediction=prediction, normalize=normalize, timesteps=timesteps,
            sigma_data=sigma_data,
        )  # fmt: skip


class TimestepWeights(compiled.Called):
    """A weighting's weights at the timesteps of a schedule or scheduler; made by `LossWeighting.for_scheduler`."""

    def __init__(
        self,
        plugin: Weighting,
        source: Source,
        *,
        prediction: Prediction | None,
        normalize: Normalize,
        timesteps: str | None,
        sigma_data: float,
    ) -> None:
        super().__init__()
        check_normalize(normalize)
        if timesteps is not None and normalize == "none":
            raise UsageError(
                "`timesteps` says over which t the mean is taken, and has no effect without normalize='mean'"
            )
        self._plugin, self._normalize, self._sigma_data = plugin, normalize, sigma_data
        self._prediction = None if prediction is None else check_unit(prediction)
        _check_sigma_data(sigma_data)
        if timesteps is not None:
            check_kind(timesteps, str, name="timesteps", wanted="a reference, such as 'logit-normal'")
        self._timesteps = registry.create("timesteps", timesteps or "uniform")
        self._source = source
        self._known: tuple[Reading, Levels, Objective] | None = None
        self._current()

    @overload
    def __call__(self, timesteps: Values, *, progress: float | None = ...) -> Values: ...
    @overload
    def __call__(self, *, snr: Values, progress: float | None = ...) -> Values: ...
    @overload
    def __call__(self, *, sigma: Values, progress: float | None = ...) -> Values: ...
    @overload
    def __call__(self, *, s: Values, progress: float | None = ...) -> Values: ...

    def __call__(
        self,
        timesteps: Any = None,
        *,
        snr: Any = None,
        sigma: Any = None,
        s: Any = None,
        progress: float | None = None,
    ) -> Any:
        """Return the weights at timesteps [N] (of any shape), or at noise levels given by `snr`, `sigma` or `s`.

        They come back on the timesteps' device, without gradient, in float32 (float64 if the timesteps are float64).
        A rectified-flow scheduler's timesteps are 1000 s, whole or not. `progress`, from 0 to 1, is needed where the
        weights change during training.

        Raises:
            UsageError: if a timestep names no noise level, or the scheduler's tables were changed into what
                `for_scheduler` refuses.
        """
        axis, values = _one_of({"timesteps": timesteps, "snr": snr, "sigma": sigma, "s": s})
        if torch.compiler.is_compiling() and isinstance(values, Tensor):
            return compiled.weights(values.detach(), self._handle, axis, "", self._sigma_data, progress)
        return self.weigh(values, axis=axis, progress=progress)

    def weigh(
        self, values: Any, *, axis: str, prediction: str = "", sigma_data: float = 0.0, progress: float | None = None
    ) -> Any:
        """What a call gives, for levels on a named axis."""
        levels, objective = self._current()
        numbers, back = opened(values, name=axis, keep_half=axis != "timesteps")
        snr = _snr_of(values, numbers, levels) if axis == "timesteps" else snr_from(numbers, axis=axis)
        _check_level(objective.parameterization.prediction, snr)
        check_progress(self._plugin, progress)
        with torch.no_grad():
            return back(objective.weight_at(snr, progress or 0.0))

    def table(self, *, progress: float | None = None) -> Tensor:
        """Return the weights of all timesteps, which ascend, float64 [T]."""
        check_progress(self._plugin, progress)
        levels, objective = self._current()
        return levels.by_name(objective.weight_at(levels.process.snr, progress or 0.0))

    @property
    def prediction(self) -> Prediction:
        """The quantity whose squared error the weights are for."""
        return self._current()[1].parameterization.prediction

    def _current(self) -> tuple[Levels, Objective]:
        """The noise levels as they are now, and the objective on them."""
        read = self._source()
        if self._known is None or not read.same(self._known[0]):
            prediction = self._prediction or read.prediction
            if prediction is None:
                raise UsageError(
                    f"{read.name} does not say what the network predicts (it has no config.prediction_type). Say it: "
                    "`prediction` is eps, x0, v, ..."
                )
            levels = read.levels()
            objective = Objective(
                Parameterization(prediction, levels.process, sigma_data=self._sigma_data),
                self._plugin,
                self._timesteps,
                normalize=self._normalize,
            )
            objective.tables()
            self._known = read, levels, objective
        return self._known[1], self._known[2]


def snr_from(values: Tensor, *, axis: str) -> Tensor:
    """The SNR, float64, at levels given as `snr`, `sigma` or `s`.

    Raises:
        UsageError: if one is negative, above 1 for `s`, or not a number.
    """
    check_range(values, name=axis, high=1.0 if axis == "s" else None)
    if axis == "snr":
        return values
    return values**-2 if axis == "sigma" else snr_of_share(values)


def _snr_of(values: Any, timesteps: Tensor, levels: Levels) -> Tensor:
    """The SNR at timesteps, which were given as `values`.

    Raises:
        UsageError: if a timestep names no level.
    """
    try:
        return levels.snr_at(timesteps)
    except UsageError as error:
        if getattr(values, "dtype", None) != torch.bfloat16:
            raise
        raise UsageError(
            f"{error}. bfloat16 rounds whole numbers above 256 (999 becomes 1000): give timesteps as they were drawn"
        ) from None


def check_normalize(normalize: str) -> None:
    """Raise UsageError unless `normalize` is none or mean."""
    if not isinstance(normalize, str) or normalize not in ("none", "mean"):
        raise UsageError(f"`normalize={quoted(normalize, mark='')}`: choose none or mean")


def check_unit(prediction: str) -> Prediction:
    """The unit of that name.

    Raises:
        UsageError: if there is none.
    """
    found = next((known for known in PREDICTIONS if known == prediction), None)
    if found is None:
        raise UsageError(
            f"unknown `prediction` {quoted(str(prediction))}.{did_you_mean(str(prediction), PREDICTIONS)} "
            f"Known: {', '.join(PREDICTIONS)}"
        )
    return found


def _check_level(unit: Prediction, snr: Tensor) -> None:
    if unit in ("eps", "edm") and bool((snr == 0).any()):
        raise UsageError(
            f"{unit}-prediction has no meaning at SNR 0 (sigma = inf, s = 1), where x_t is the noise itself: training "
            "refuses it too. Leave that level out, or choose `prediction` v, x0 or flow"
        )


def _check_sigma_data(sigma_data: float) -> None:
    if not 0 < number(sigma_data, name="sigma_data") < float("inf"):
        raise UsageError(f"`sigma_data={sigma_data}` must be above 0 and finite")
    if not 1e-100 < sigma_data < 1e100:  # its square is computed with
        raise UsageError(f"`sigma_data={sigma_data}` must be between 1e-100 and 1e100")


def check_progress(plugin: Weighting, progress: float | None) -> None:
    """Raise UsageError unless `progress` is from 0 to 1, or is not given where the weights do not change."""
    if progress is None:
        if plugin.varies:
            raise UsageError(
                f"{name_of(plugin, 'weighting')} changes during training. Give `progress`, the share of it that is "
                "done, from 0 to 1"
            )
    elif not 0 <= number(progress, name="progress") <= 1:
        raise UsageError(f"`progress={progress}` must be from 0 to 1")


def _one_of(given: dict[str, Any]) -> tuple[str, Any]:
    """The one that is given."""
    found = [(name, value) for name, value in given.items() if value is not None]
    if len(found) != 1:
        which = "none is" if not found else f"{' and '.join(name for name, _ in found)} are"
        raise UsageError(f"give exactly one of {', '.join(f'`{name}`' for name in given)}; {which} given")
    return found[0]


class _ScheduleNeeded(UsageError):
    """A weighting asked for the schedule where there is none."""


class _NoSchedule(WeightingContext):
    """The circumstances where no schedule is known."""

    def __init__(self, progress: float) -> None:
        object.__setattr__(self, "progress", progress)

    @property
    def snr(self) -> Tensor:
        raise _ScheduleNeeded("the schedule is not known")
