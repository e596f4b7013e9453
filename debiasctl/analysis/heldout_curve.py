"""Runs' held-out errors of v over log-SNR: pooled by bin with standard errors, and as a curve through the bins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.errors import RunError, UsageError
from debiasctl.runs.records import Edge, HeldoutRecord
from debiasctl.runs.store import Run, read_metrics
from debiasctl.specs.sections import RunSpec

Array = NDArray[np.float64]
_ROUNDS = 100  # of matching a curve to the bins' means, each of which leaves a fraction of the difference
_CLOSE = 1e-12
_LARGEST = 1e100  # an error whose square is still a float


@dataclass(frozen=True)
class Bin:
    """A log-SNR bin's mean squared error of v over `num` held-out images, averaged over the runs.

    `levels` are the log-SNRs of the schedule's timesteps in it, -inf left out. `se` is the error's standard error;
    `second_moment` is that of an image's error. Both are None where the runs do not store what they need.
    """

    log_snr: tuple[Edge, Edge]
    levels: Array
    num: int
    error: float
    se: float | None
    second_moment: float | None

    @property
    def at(self) -> float:
        """The mean log-SNR of its timesteps, which are drawn evenly; at zero terminal SNR alone, its upper edge."""
        return float(self.levels.mean()) if len(self.levels) else float(self.log_snr[1] or 0.0)


@dataclass(frozen=True)
class Heldout:
    """The pooled bins, from noise to image; `spec` is the first run's, `steps` are those of the measurements."""

    bins: tuple[Bin, ...]
    process: DiffusionProcess
    spec: RunSpec
    runs: tuple[str, ...]
    steps: tuple[int, ...]
    weights: str

    @property
    def measured(self) -> tuple[float, float]:
        """The least and the greatest finite log-SNR of the schedule's timesteps that a bin with data holds."""
        levels = np.concatenate([one.levels for one in self.bins])
        return float(levels.min()), float(levels.max())

    @property
    def span(self) -> tuple[float, float]:
        """The same, up to half a timestep further where continuous training has levels beyond the timesteps."""
        drawn, (low, high) = drawn_log_snr(self.process), self.measured
        drawn = drawn[np.isfinite(drawn)]
        if self.bins[0].log_snr[0] is None:
            low = min(low, float(drawn.min()))
        if self.bins[-1].log_snr[1] is None:
            high = max(high, float(drawn.max()))
        return low, high

    @property
    def ends_at_zero(self) -> bool:
        """Whether the schedule ends at SNR 0, in a bin with data."""
        return not bool(self.process.snr[-1]) and self.bins[0].log_snr[0] is None

    @property
    def is_whole(self) -> bool:
        """Whether the bins with data hold all of the schedule's timesteps."""
        held = sum(len(one.levels) for one in self.bins) + (self.ends_at_zero and 1)
        return held == self.process.num_timesteps


@dataclass(frozen=True)
class Curve:
    """A positive function of log-SNR: a natural cubic spline of its logarithm through points, held beyond them."""

    at: Array
    logs: Array

    def __call__(self, log_snr: Array) -> Array:
        """The values at these log-SNRs, which may be -inf."""
        from scipy.interpolate import CubicSpline

        inside = np.clip(log_snr, self.at[0], self.at[-1])
        logs = (
            np.full(len(inside), self.logs[0])
            if len(self.at) == 1
            else CubicSpline(self.at, self.logs, bc_type="natural")(inside)
        )
        found: Array = np.exp(logs)
        return found


def drawn_log_snr(process: DiffusionProcess) -> Array:
    """The log-SNRs, [T], that stand for the levels which training draws at each t, as `Objective` has them."""
    if not process.continuous or process.place == 0.5:
        return np.asarray(process.log_snr.numpy(), dtype=np.float64)
    middles = torch.arange(process.num_timesteps, dtype=torch.float64) - process.place + 0.5
    return np.asarray(process.log_snr_at(middles).numpy(), dtype=np.float64)


def curve_through(bins: Sequence[Bin], means: Sequence[float]) -> Curve:
    """The curve whose mean over the timesteps of each bin is the bin's; its points lie at the bins' mean log-SNRs."""
    at, wanted = np.array([one.at for one in bins]), np.log(means)
    logs = wanted.copy()
    for _ in range(_ROUNDS):
        curve = Curve(at, logs)
        found = np.log([curve(one.levels if len(one.levels) else np.array([one.at])).mean() for one in bins])
        logs = logs + wanted - found
        if float(abs(wanted - found).max()) < _CLOSE:
            break
    return Curve(at, logs)


def pooled(runs: Sequence[Run], specs: Sequence[RunSpec]) -> Heldout:
    """Pool the last held-out errors of runs, which are averaged bin by bin.

    Every run is measured on the same images, noise and timesteps. So the standard error over images is not divided by
    the number of runs; the one over runs is added to it.

    Raises:
        UsageError: if a run has no held-out errors yet, or another one's data or schedule; or an error is 0.
        RunError: if a run's metrics cannot be read, or are damaged.
    """
    records = [_last(run, spec) for run, spec in zip(runs, specs, strict=True)]
    process = process_of(specs[0].diffusion.schedule.create("schedules"))
    for run, spec in zip(runs[1:], specs[1:], strict=True):
        _check_alike(runs[0], specs[0], run, spec, process)
    edges = [tuple(one.log_snr for one in record.bins) for record in records]
    if len(set(edges)) > 1:
        raise UsageError(
            f"the held-out errors of runs {', '.join(run.name for run in runs)} are in different bins of log-SNR. Fit "
            "each by itself"
        )
    _check_ascend(runs[0], edges[0])
    log_snr = process.log_snr.numpy()
    bins = []
    for number, bounds in enumerate(edges[0]):
        parts = [record.bins[number] for record in records]
        low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
        levels = log_snr[(log_snr >= low) & (log_snr < high) & np.isfinite(log_snr)]
        errors = np.array([one.v for one in parts])
        if not errors.all():
            raise UsageError(
                f"an error of v at log SNR {_text(bounds)} is 0, and no weight is the reciprocal of that. Fit runs "
                "whose errors are positive"
            )
        stds = np.array([one.v_std for one in parts if one.v_std is not None])
        if (largest := max([*errors, *stds])) > _LARGEST:
            raise RunError(
                f"run '{runs[0].name}': a held-out error at log SNR {_text(bounds)} is {largest:.3g}, which "
                "no training ends with. Restore its metrics.jsonl from a copy"
            )
        moments = None if len(stds) < len(parts) else float((errors**2 + stds**2).mean())
        num = min(one.num for one in parts)
        bins.append(Bin(bounds, levels, num, float(errors.mean()), _standard_error(errors, stds, num), moments))
    names, steps = tuple(run.name for run in runs), tuple(record.step for record in records)
    return Heldout(tuple(bins), process, specs[0], names, steps, records[0].weights)


def _check_ascend(run: Run, edges: Sequence[tuple[Edge, Edge]]) -> None:
    low = -np.inf
    for first, last in edges:
        start, end = (-np.inf if first is None else first), (np.inf if last is None else last)
        if not low <= start < end:
            raise RunError(
                f"run '{run.name}': its metrics.jsonl is damaged: the bins of log SNR of its held-out errors do not "
                "ascend. Restore it from a copy"
            )
        low = end


def _last(run: Run, spec: RunSpec) -> HeldoutRecord:
    found = [record for record in read_metrics(run) if isinstance(record, HeldoutRecord) and record.bins]
    if not found and spec.imported is not None:
        raise UsageError(
            f"run '{run.name}' holds a model from elsewhere, and held-out errors are measured in training. Train a "
            f"run from its weights: `init_from={run.typed}`"
        )
    if not found:
        raise UsageError(
            f"run '{run.name}' has no held-out errors yet: training measures them at checkpoints, or as often as "
            f"`training.heldout_every` says. Train it further: debiasctl train --resume {run.typed}"
        )
    return found[-1]


def _check_alike(first: Run, spec: RunSpec, run: Run, other: RunSpec, process: DiffusionProcess) -> None:
    if not first.content(spec).same_images(run.content(other)):
        raise UsageError(
            f"runs '{first.name}' and '{run.name}' are of different images, whose errors are no measurement of one "
            "thing. Fit each by itself"
        )
    if spec.latents_sha256 != other.latents_sha256:
        raise UsageError(
            f"runs '{first.name}' and '{run.name}' make latents of different autoencoders, or one makes images, so "
            "that their errors have different units. Fit each by itself"
        )
    table = process_of(other.diffusion.schedule.create("schedules")).snr
    if table.shape != process.snr.shape or not bool((table == process.snr).all()):
        raise UsageError(
            f"runs '{first.name}' and '{run.name}' have different schedules ({spec.diffusion.schedule.ref} and "
            f"{other.diffusion.schedule.ref}), so that their bins hold different noise levels. Fit each by itself"
        )


def _standard_error(errors: Array, stds: Array, num: int) -> float | None:
    """Of the mean error; None where neither the images' deviations are stored nor there are several runs."""
    variances = []
    if len(stds) == len(errors) and num > 1:
        variances.append(float((stds**2).mean()) / (num - 1))
    if len(errors) > 1:
        variances.append(float(errors.var(ddof=1)) / len(errors))
    return float(np.sqrt(sum(variances))) if variances else None


def _text(bounds: tuple[Edge, Edge]) -> str:
    low, high = bounds
    return f"below {high:g}" if low is None else f"above {low:g}" if high is None else f"{low:g} to {high:g}"
