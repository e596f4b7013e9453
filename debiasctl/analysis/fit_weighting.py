"""Weightings and distributions of t by published rules, from runs' held-out errors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from debiasctl.analysis.heldout_curve import Array, Bin, Curve, Heldout, curve_through, drawn_log_snr
from debiasctl.analysis.optimal_error import REMEMBERED, OptimalError
from debiasctl.api import Weighting, WeightingContext
from debiasctl.diffusion.weighting import SNR_MIN, bounded_snr, weight_in
from debiasctl.errors import UsageError

STEP = 0.1  # of log SNR between the rows of a table
_UNSURE = 0.1  # a relative standard error that is pointed out
Column = Literal["weight", "factor"]


@dataclass(frozen=True)
class Rule:
    """A published rule and its source; it fits a weight on the error of v, or a factor on how often t is drawn."""

    column: Column
    source: str
    says: str
    needs_variance: bool = False


RULES = {
    "uncertainty": Rule(
        "weight",
        "EDM2, arXiv 2312.02696, Eq. 21",
        "the weight is the reciprocal of the expected error at each noise level, where EDM2's learned u ends, whatever "
        "its base",
    ),
    "optimal-loss": Rule(
        "weight",
        "arXiv 2506.13763",
        "the weight is the reciprocal of the least error that a network can reach at each noise level",
    ),
    "loss-second-moment": Rule(
        "factor",
        "arXiv 2102.09672, Sec. 3.3",
        "t is drawn in proportion to √E[loss²] of the weighted loss: the least variance of the loss's estimate where "
        "each t is drawn by itself",
        needs_variance=True,
    ),
    "loss-variance": Rule(
        "factor",
        "Neyman, 1934, optimal allocation",
        "t is drawn in proportion to the standard deviation of the weighted loss over images: the least variance of "
        "the loss's estimate where each noise level gets a fixed share of the draws",
        needs_variance=True,
    ),
}


@dataclass(frozen=True)
class FittedBin:
    """A bin of held-out errors, the value fitted at its mean log-SNR, and the value's standard error, where known."""

    bin: Bin
    value: float
    se: float | None


@dataclass(frozen=True)
class Fit:
    """A fitted curve as rows by ascending SNR; SNR 0 stands first where the schedule ends there."""

    rule: str
    snr: Array
    values: Array
    bins: tuple[FittedBin, ...]
    notes: tuple[str, ...]

    @property
    def column(self) -> Column:
        """What the values are."""
        return RULES[self.rule].column


def find_rule(text: str) -> Rule:
    """The rule of that name.

    Raises:
        UsageError: if there is none.
    """
    from debiasctl.wording import did_you_mean, quoted

    if text not in RULES:
        raise UsageError(f"unknown rule {quoted(text)}.{did_you_mean(text, list(RULES))} Known: {', '.join(RULES)}")
    return RULES[text]


def fit(
    rule: str,
    heldout: Heldout,
    *,
    weighting: Weighting | None = None,
    progress: float = 1.0,
    optimum: Sequence[OptimalError] = (),
) -> Fit:
    """Fit a rule's curve to held-out errors.

    `weighting` at `progress` through training is the one whose loss is drawn, for rules that fit a distribution of t;
    `optimum` are the least errors, from noise to image, for `optimal-loss`.

    Raises:
        UsageError: if the rule needs variances that a run did not store, the loss is no squared error, or the weighting
            is learned.
        DebiasctlError: if the weighting gives invalid weights.
    """
    rows, notes = _rows(heldout), list(_general_notes(heldout))
    at = np.array([one.at for one in heldout.bins])
    errors = curve_through(heldout.bins, [one.error for one in heldout.bins])
    relative = [None if one.se is None else one.se / one.error for one in heldout.bins]
    if rule == "uncertainty":
        curve: Callable[[Array], Array] = lambda log_snr: 1 / errors(log_snr)  # noqa: E731
    elif rule == "optimal-loss":
        least, relative, more = _least_error(heldout, errors, optimum, relative)
        curve, notes = (lambda log_snr: 1 / least(log_snr)), [*notes, more]
    else:
        assert weighting is not None, "a distribution of t is fitted to a weighted loss"
        spread = _spread(rule, heldout, errors)
        weight = _on_v(weighting, heldout, progress)
        top = float((weight(rows) * spread(rows)).max())
        curve = lambda log_snr: weight(log_snr) * spread(log_snr) / top  # noqa: E731
        relative = [None] * len(relative)  # that of a second moment needs fourth moments, which are not stored
        notes.append("the factor is scaled to a greatest value of 1")
    values = curve(at).tolist()
    fitted = tuple(
        FittedBin(one, value, None if share is None else share * value)
        for one, value, share in zip(heldout.bins, values, relative, strict=True)
    )
    unsure = [one for one, share in zip(heldout.bins, relative, strict=True) if share is not None and share > _UNSURE]
    if unsure:
        notes.append(
            f"the standard error is above {_UNSURE:.0%} of the value around log SNR "
            f"{', '.join(f'{one.at:.2g}' for one in unsure)}: more images (`training.heldout_images`) or runs lower it"
        )
    snr = np.where(np.isinf(rows), 0.0, np.exp(rows))
    return Fit(rule, snr, curve(rows), fitted, tuple(notes))


def _rows(heldout: Heldout) -> Array:
    low, high = heldout.span
    rows = np.linspace(low, high, max(2, 1 + round((high - low) / STEP)))
    return np.concatenate([[-np.inf], rows]) if heldout.ends_at_zero else rows


def _general_notes(heldout: Heldout) -> list[str]:
    low, high = heldout.span
    end = "0" if heldout.ends_at_zero else f"{np.exp(low):.3g}"
    beyond = " (beyond the timesteps by the half step that training draws)" if heldout.span != heldout.measured else ""
    notes = [
        "between the bins' mean log-SNRs the curve is a cubic spline of the logarithm, whose mean over each bin's "
        "timesteps is the one measured; beyond the first and the last the error of v is held. No other smoothing",
        f"the table covers SNR {end} to {np.exp(high):.3g}, where there are measurements{beyond}, and nothing else",
    ]
    if len(set(heldout.steps)) > 1:
        notes.append("the runs were measured after different numbers of steps, and are pooled as they are")
    if not heldout.is_whole:
        notes.append("some of the schedule's timesteps lie in bins without measurements, which the table leaves out")
    if heldout.spec.loss.metric != "mse":
        notes.append(
            f"training had loss.metric={heldout.spec.loss.metric}; what is measured and fitted is the squared error"
        )
    if any(one.se is None for one in heldout.bins):
        notes.append(
            "standard errors are not known: the run did not store its errors' deviations, as runs of this version do, "
            "and it is one alone"
        )
    return notes


def _spread(rule: str, heldout: Heldout, errors: Curve) -> Callable[[Array], Array]:
    """The root second moment of an image's error of v, or its standard deviation, over log-SNR."""
    if heldout.spec.loss.metric != "mse":
        raise UsageError(
            f"rule {rule} is for a loss that is a squared error, whose second moments runs store, and training had "
            f"loss.metric={heldout.spec.loss.metric}. Choose `timesteps=loss-second-moment`, which watches the losses"
        )
    moments = [one.second_moment for one in heldout.bins if one.second_moment is not None]
    if len(moments) < len(heldout.bins):
        kept = ", ".join(name for name, one in RULES.items() if not one.needs_variance)
        raise UsageError(
            f"rule {rule} needs the deviations of the held-out errors over images, which runs of older versions did "
            f"not store: {', '.join(heldout.runs)}. Train further with this version, or choose a rule that needs none: "
            f"{kept}"
        )
    second = curve_through(heldout.bins, moments)
    if rule == "loss-second-moment":
        return lambda log_snr: np.sqrt(second(log_snr))
    variances = [moment - one.error**2 for one, moment in zip(heldout.bins, moments, strict=True)]
    if min(variances) <= 0:
        raise UsageError(f"rule {rule} needs errors that differ from image to image, and in one bin they do not")
    variance = curve_through(heldout.bins, variances)
    return lambda log_snr: np.sqrt(variance(log_snr))


def _on_v(weighting: Weighting, heldout: Heldout, progress: float) -> Callable[[Array], Array]:
    """A weighting's weight on the error of v over log-SNR.

    Raises:
        UsageError: if it is learned.
    """
    if weighting.is_learned:
        raise UsageError(
            "the weighting is learned, and its weights are not those of any formula. Name the weighting whose "
            "loss is to be drawn: `weighting=debiased`"
        )
    drawn = torch.from_numpy(drawn_log_snr(heldout.process)).exp()
    settled = weighting.at(WeightingContext(bounded_snr(drawn), progress))

    def weight(log_snr: Array) -> Array:
        snr = torch.from_numpy(np.exp(np.maximum(log_snr, np.log(SNR_MIN))))
        found: Array = weight_in(settled, "v", snr=snr).numpy()
        return found

    return weight


def _least_error(
    heldout: Heldout, errors: Curve, optimum: Sequence[OptimalError], relative: Sequence[float | None]
) -> tuple[Callable[[Array], Array], list[float | None], str]:
    """The least error of v over log-SNR, its relative standard errors at the bins, and a sentence on it.

    Where the training images' best denoiser remembers them, the curve goes on in proportion to the held-out errors.
    """
    sound = [one for one in optimum if not one.is_remembered and one.train > 0]
    at = np.array([one.log_snr for one in sound])
    curve = Curve(at, np.log([one.train for one in sound]))
    shares = np.array([one.train_se / one.train for one in sound])
    end = float(at[-1])
    ratio = float((curve(at[-1:]) / errors(at[-1:]))[0])

    def least(log_snr: Array) -> Array:
        return np.where(log_snr <= end, curve(log_snr), ratio * errors(log_snr))

    found: list[float | None] = []
    for one, share in zip(heldout.bins, relative, strict=True):
        own = float(np.interp(one.at, at, shares))
        found.append(own if one.at <= end else None if share is None else float(np.hypot(own, share)))
    ended = (
        "the least error is that of the training images at every level"
        if len(sound) == len(optimum) and end >= heldout.span[1] - STEP
        else f"above log SNR {end:.3g} the least error of the finite training set is that of remembering it (on "
        f"held-out images the same denoiser's is more than {REMEMBERED} times as large), and is no aim: there the "
        f"curve continues in proportion to the runs' held-out error, from {ratio:.2f} of it"
    )
    return least, found, ended
