"""Measures a weight function on a grid, and finds what is peculiar about how it behaves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.identify.calls import Caller, exact_snr
from debiasctl.analysis.identify.levels import Levels
from debiasctl.analysis.identify.points import ROUNDING, Points
from debiasctl.analysis.identify.signature import Parameters
from debiasctl.wording import one_line

_FEWEST = 8  # levels with a usable weight
_NO_SIGNAL = 1e-15  # an SNR at which many weights are 0
_SAME = 1e-4  # relative: more than float32 explains


@dataclass(frozen=True)
class Observed:
    """Weights that were measured: `points` are the usable ones (None if too few are), `findings` say what is peculiar.

    `level` says what the noise level was given as; `normalized_by` what a batch's weights are divided by ("mean"), if
    anything; `unstable` whether they differ from call to call; `mixes_losses` whether they are applied to a mean of
    losses; and `own_table` whether the SNRs are the function's own, not those of a scheduler that it is given.
    """

    points: Points | None
    findings: tuple[str, ...]
    taken: str
    level: str = "snr"
    normalized_by: str | None = None
    unstable: bool = False
    mixes_losses: bool = False
    own_table: bool = False

    @property
    def by_timestep(self) -> bool:
        """Whether the weights belong to timesteps, whose SNRs a schedule says."""
        return self.level == "timesteps"


def observe(
    function: Callable[..., Any],
    parameters: Parameters,
    levels: Levels,
    *,
    prediction: str | None,
    tensors_only: bool = False,
) -> Observed:
    """Call a function at the levels, several times; with `tensors_only` not with arrays or numbers.

    Raises:
        DebiasctlError: if it fails, or gives no weights.
    """
    caller = Caller(function, parameters, levels, prediction=prediction)
    caller.settle(tensors_only=tensors_only)
    everything = torch.arange(len(levels.t))
    weights, again = caller.weights(everything), caller.weights(everything)
    findings = []
    unstable = _differ(weights, again)
    if unstable:
        findings.append(
            f"It gives other weights each time it is called ({_largest(weights, again)} apart): it is random, or keeps "
            "a state, so that there is no weighting to name."
        )
    normalized_by, mixes = None, False
    if not unstable:
        normalized_by, said = _batches(caller, weights)
        findings += said
        if "loss" in parameters.roles.values():
            mixes, said = _losses(caller, weights)
            findings += said
    if caller.one_at_a_time and caller.form == "numbers":
        findings.append("It takes one number at a time, not a batch.")
    elif caller.one_at_a_time and "loss" not in parameters.roles.values():
        findings.append("For a batch it does not return a weight for each level, so it was called with one at a time.")
    if caller.asks_prediction and prediction is None:
        findings.append(
            "It reads the scheduler's prediction_type, which is epsilon unless `prediction` says something else."
        )
    findings += _manners(caller)
    own_table = parameters.level == "timesteps" and "scheduler" not in parameters.roles.values()
    own_table = own_table and "alphas_cumprod" not in parameters.roles.values()
    snr = exact_snr(parameters.level, levels, has_table=not own_table)
    dtype = caller.dtype
    rounding = max(ROUNDING, 2 * torch.finfo(dtype).eps) if dtype is not None and dtype.is_floating_point else ROUNDING
    points, said = usable(
        snr.numpy(), weights.numpy(), levels.t.numpy(), place="t", rounding=rounding,
        snr_tolerance=1e-4 + 2.4e-7 * (1 + snr.numpy()) if own_table else 3e-6,
    )  # fmt: skip
    return Observed(
        points, (*findings, *said), parameters.taken, parameters.level, normalized_by, unstable, mixes, own_table
    )


def usable(
    snr: Any, weight: Any, places: Any, *, place: str, rounding: Any = ROUNDING, snr_tolerance: Any = 0.0
) -> tuple[Points | None, list[str]]:
    """The points with weights that are finite and not negative, or None if too few are; and what the others are."""
    findings = []
    finite, negative = np.isfinite(weight), np.isfinite(weight) & (weight < 0)
    if not finite.all():
        kinds = "NaN" if np.isnan(weight[~finite]).all() else "infinite" if not np.isnan(weight).any() else "no number"
        findings.append(f"It is {kinds} at {_places(~finite, places, snr, place)}, which training would not survive.")
    if negative.any():
        findings.append(
            f"It is negative at {_places(negative, places, snr, place)}, where training would raise the loss."
        )
    kept = finite & ~negative
    if kept.any() and not negative.any() and not weight[kept].any():
        findings.append("Every weight is 0: nothing would be trained.")
        return None, findings
    zero = kept & (weight == 0) & (snr > _NO_SIGNAL)
    if zero.any():
        findings.append(f"It is 0 at {_places(zero, places, snr, place)}.")
    if negative.any() or (kept & (weight > 0)).sum() < _FEWEST:
        return None, findings
    own, of_snr = (one[kept] if isinstance(one, np.ndarray) else one for one in (rounding, snr_tolerance))
    points = Points(np.maximum(snr[kept], 1e-20), weight[kept], places[kept], own, of_snr)
    return points, findings


def _batches(caller: Caller, weights: Tensor) -> tuple[str | None, list[str]]:
    """Whether the weight of a level depends on the others in its batch, and how."""
    if caller.one_at_a_time:
        return None, []
    order = torch.randperm(len(weights), generator=torch.Generator().manual_seed(0))[: max(2, len(weights) // 3)]
    other = caller.weights(order)
    expected = weights[order]
    if not _differ(other, expected):
        return None, []
    known = torch.isfinite(other) & torch.isfinite(expected) & (expected > 0)
    ratio = (other / expected)[known]
    if len(ratio) and bool(((ratio - ratio.mean()).abs() <= 10 * _SAME * ratio.mean().abs()).all()):
        for name, statistic in (("mean", torch.mean), ("sum", torch.sum), ("largest", torch.max)):
            if all(abs(float(statistic(one)) - 1) <= 10 * _SAME for one in (weights, other)):
                return name, [
                    f"The weights of a batch are divided by their {name}, so that the weight of "
                    "a level depends on which others are in its batch. Averaged over batches this is another "
                    "weighting; divide by a constant of the schedule instead (`normalize=mean`)."
                ]
        return "batch", ["Weights are divided by a number that depends on the whole batch."]
    return None, [
        "The weight of a level depends on the others in its batch, or on its place in it. What follows is of all "
        "levels in one batch, in order."
    ]


def _losses(caller: Caller, weights: Tensor) -> tuple[bool, list[str]]:
    """Whether losses are mixed before they are weighted, seen with losses that are not equal; and what to say of it."""
    usable = torch.isfinite(weights) & (weights > 0)
    first, last = (int(torch.nonzero(usable)[place]) for place in (0, -1)) if bool(usable.any()) else (0, 0)
    extremes = torch.stack([weights[first], weights[last]])
    if first == last or not _differ(extremes[:1], extremes[1:]):
        return False, []
    index = torch.tensor([first, last])
    was, caller.one_at_a_time = caller.one_at_a_time, False
    try:
        one, other = (caller.raw(index, loss=torch.tensor(losses)) for losses in ([1.0, 0.0], [0.0, 1.0]))
    finally:
        caller.one_at_a_time = was
    mixed = float(one[-1].abs()) > 0 if len(one) == 2 else not _differ(one, other)
    if mixed:
        return True, [
            "The weight is applied after the losses of a batch are averaged, so that no image gets its own: the "
            "weighting is lost, but for a factor that varies between batches. Weight each image's loss "
            "first, and average then."
        ]
    if len(one) == 1:
        return False, [
            "It returns the mean over a batch of weighted losses, so it was called with one image at a time."
        ]
    return False, []


def _manners(caller: Caller) -> list[str]:
    found = []
    if caller.changed:
        found.append(
            f"It changes its input in place: {', '.join(caller.changed)}. What the trainer uses later is changed."
        )
    lines = [line for line in caller.printed.splitlines() if line.strip()]
    if lines:
        found.append(f"It prints while it computes, for example: {one_line(lines[0], limit=100)}")
    return found


def _differ(one: Tensor, other: Tensor) -> bool:
    return not torch.allclose(one, other, rtol=_SAME, atol=0, equal_nan=True)


def _largest(one: Tensor, other: Tensor) -> str:
    apart = ((one - other).abs() / torch.maximum(one.abs(), other.abs())).nan_to_num(nan=0.0)
    return f"up to {100 * float(apart.max()):.0f} %"


def _places(mask: Any, places: Any, snr: Any, name: str) -> str:
    count, first = int(mask.sum()), int(np.argmax(mask))
    at = f"{name} = {places[first]} (SNR {snr[first]:.4g})"
    return at if count == 1 else f"{count} of {len(mask)} levels, the first at {at}"
