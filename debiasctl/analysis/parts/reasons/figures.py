"""The figures of the part `reasons`, from what was measured."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from debiasctl.analysis.parts.part import Found
from debiasctl.analysis.parts.reasons import products
from debiasctl.analysis.parts.reasons.copying import Copying, amplification
from debiasctl.analysis.parts.reasons.learning import FRACTION, Learning, reached
from debiasctl.analysis.parts.reasons.levels import LevelBin, bin_name
from debiasctl.analysis.parts.reasons.products import Array, Estimate, Products, jackknifed
from debiasctl.analysis.record import Missing, Quantity, Series
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import PluginRef, parse_ref

NOISY = "noisy_half"
_COVERS = "the interval covers the draw of images, noise and timesteps, not the training seed"


@dataclass(frozen=True)
class _Scheme:
    """A weighting's gradients and losses over the groups: `case` is "" for the run's own."""

    case: str
    products: Products
    losses: Array  # [J, B]
    weights: Sequence[float]

    def named(self, name: str, *cases: str) -> str:
        """A figure's name with its cases, the weighting's among them unless it is the run's own."""
        found = ",".join([*cases, *([self.case] if self.case else [])])
        return f"{name}[{found}]" if found else name

    @property
    def whose(self) -> str:
        """Whose it is in words."""
        return f" if the weighting were {self.case}" if self.case else ""


def short_cases(refs: Sequence[str]) -> list[str]:
    """Weightings' references with the options alone that are not the scheme's defaults."""
    found = []
    for ref in map(parse_ref, refs):
        try:
            usual = complete("weightings", PluginRef(ref.name)).ref.options
        except UsageError:  # it has no defaults
            usual = {}
        own = complete("weightings", ref).ref.options
        found.append(str(PluginRef(ref.name, {key: value for key, value in own.items() if usual.get(key) != value})))
    return found


def together(*parts: Found) -> Found:
    """All figures in one."""
    return Found(
        [one for part in parts for one in part.quantities],
        [one for part in parts for one in part.series],
        notes=[one for part in parts for one in part.notes],
    )


def gradient_figures(
    bins: Sequence[LevelBin],
    refs: Sequence[str],
    gradients: NDArray[np.floating],
    losses: Array,
    *,
    size: int,
    weights: Sequence[Sequence[float]],
) -> Found:
    """Shares, signal-to-noise and conflicts, from gradients [J, W, B, D] and losses [J, W, B] of groups of `size`."""
    cases = ["", *short_cases(refs)]
    schemes = [
        _Scheme(case, Products(gradients[:, number]), losses[:, number], weights[number])
        for number, case in enumerate(cases)
    ]
    parts = [_levels(bins)]
    for scheme in schemes:
        parts += [_shares(bins, scheme, size), _conflicts(bins, scheme)]
    if len(schemes) > 1:
        parts.append(_directions(gradients.sum(axis=2), cases))
    return together(*parts)


def _levels(bins: Sequence[LevelBin]) -> Found:
    t = [one.timesteps.double() for one in bins]
    means = [float((one.probability * at).sum()) for one, at in zip(bins, t, strict=True)]
    timesteps = Series(
        name="timesteps", axis="log_snr", x=[one.centre for one in bins], value=list(means),
        low=[float(at.min()) for at in t], high=[float(at.max()) for at in t], unit="timesteps",
        text="the timesteps t in each bin: their mean, the first and the last",
    )  # fmt: skip
    draws = _series("draw_share", bins, np.array([one.share for one in bins]), "share", "the share of t drawn there")
    noisy = sum(one.share for one in bins if _is_noisy(one))
    quantity = Quantity(
        name=f"draw_share[{NOISY}]", value=noisy, unit="share",
        text="the share of t that the objective has where there is more noise than image (log SNR below 0)",
    )  # fmt: skip
    return Found([quantity], [timesteps, draws])


def _shares(bins: Sequence[LevelBin], scheme: _Scheme, size: int) -> Found:
    found, shares = scheme.products, [one.share for one in bins]
    whole = found.jackknifed(lambda of: np.array([of.products.sum()]))
    is_known = np.full(len(bins), bool(whole.low[0] > 0))
    loss = jackknifed(lambda left_out: _loss_shares(scheme.losses, left_out), groups=found.groups)
    norm = products.known_norm_shares(found)
    projection = found.jackknifed(products.projections).where(is_known)
    square = found.jackknifed(lambda of: products.square_shares(of, shares, size))
    scale = found.jackknifed(lambda of: products.noise_scale(of, shares, size))
    ratio = found.jackknifed(lambda of: products.signal_to_noise(of, size))
    weight = np.array(scheme.weights) * np.array(shares)
    whose = scheme.whose
    series = [
        _series(scheme.named("weight_share"), bins, weight / weight.sum(), "share",
                f"the share of the weight on the network's output, times the density of t{whose}"),
        _estimates(scheme.named("loss_share"), bins, loss, "share", f"the share of the loss{whose}"),
        _estimates(scheme.named("gradient_norm_share"), bins, norm, "share",
                   f"the norm of the bin's mean gradient, as a share of the sum of the bins' norms{whose}"),
        _estimates(scheme.named("gradient_share"), bins, projection, "share",
                   f"the projection of the bin's mean gradient on the whole one, as a share of its length{whose}; the "
                   "sum is 1, and a bin that pulls the other way has a negative share"),
        _estimates(scheme.named("gradient_square_share"), bins, square, "share",
                   f"the share of the mean squared norm of single images' gradients{whose}"),
        _estimates(scheme.named("gradient_snr"), bins, ratio, "",
                   f"the squared norm of the mean gradient over the variance of a single image's{whose}"),
    ]  # fmt: skip
    noisy = np.array([_is_noisy(one) for one in bins])
    quantities = [
        _quantity(scheme.named("loss_share", NOISY), _loss_of(scheme, noisy).limited(0, 1), "share",
                  f"the share of the loss at log SNR below 0{whose}"),
        _quantity(scheme.named("gradient_share", NOISY),
                  found.jackknifed(lambda of: np.array([products.projections(of)[noisy].sum()])).where(is_known[:1]),
                  "share", f"the share of the mean gradient at log SNR below 0{whose}"),
        _quantity(scheme.named("gradient_square_share", NOISY),
                  found.jackknifed(lambda of: np.array([products.square_shares(of, shares, size)[noisy].sum()])),
                  "share", f"the share of the mean squared norm of single images' gradients at log SNR below 0{whose}"),
        _quantity(scheme.named("gradient_noise_scale"),
                  scale.limited(0, np.inf).where(is_known[:1]), "images",
                  f"the batch size at which the gradient's squared norm equals its variance{whose}"),
    ]  # fmt: skip
    notes = []
    if not is_known[0]:
        notes.append(
            f"the whole mean gradient{whose} cannot be told from 0 with {size * found.groups} draws of images, so that "
            "there are no shares of it; give more with `num`"
        )
    return Found([one for one in quantities if one is not None], series, notes=notes)


def _loss_of(scheme: _Scheme, chosen: NDArray[np.bool_]) -> Estimate:
    """The chosen bins' share of the loss, [1]."""
    return jackknifed(
        lambda left_out: np.array([_loss_shares(scheme.losses, left_out)[chosen].sum()]), groups=scheme.products.groups
    )


def _loss_shares(losses: Array, left_out: int | None) -> Array:
    means = (losses if left_out is None else np.delete(losses, left_out, axis=0)).mean(axis=0)
    return np.asarray(means / means.sum())


def _conflicts(bins: Sequence[LevelBin], scheme: _Scheme) -> Found:
    found, whose = scheme.products, scheme.whose
    is_known = found.jackknifed(products.squared_norms, pairs=len(bins)).low > 0
    both = np.outer(is_known, is_known)
    pairs = int(both.sum() - is_known.sum()) // 2
    usual = found.jackknifed(products.cosines).limited(-1, 1).where(both)
    strict = found.jackknifed(products.cosines, pairs=max(pairs, 1)).where(both)
    series = []
    for number, one in enumerate(bins):
        row = usual.at(number)
        series.append(
            _estimates(
                scheme.named("conflict", one.name), bins, row, "cosine",
                f"the cosine between the mean gradient at log SNR {one.name} and each other one{whose}",
            )
        )  # fmt: skip
    above = np.triu(np.ones_like(both), 1).astype(bool) & both
    against, along = int((strict.high[above] < 0).sum()), int((strict.low[above] > 0).sum())
    quantities: list[Quantity | None] = [
        Quantity(name=scheme.named("gradients_known"), value=float(is_known.sum()), unit="bins",
                 text=f"bins of log SNR whose mean gradient can be told from noise, of {len(bins)}, at once{whose}"),
        Quantity(name=scheme.named("conflicting_pairs"), value=float(against), unit="pairs",
                 text=f"pairs of bins, of {pairs}, whose mean gradients point against one another (cosine below 0; all "
                 f"intervals hold at once){whose}"),
        Quantity(name=scheme.named("agreeing_pairs"), value=float(along), unit="pairs",
                 text=f"pairs of bins, of {pairs}, whose mean gradients point the same way{whose}"),
    ]  # fmt: skip
    halves = [[n for n, one in enumerate(bins) if _is_noisy(one) is side] for side in (True, False)]
    if all(halves):
        ends = found.jackknifed(lambda of: products.squared_norms(products.merged(of, halves)))
        cosine = found.jackknifed(lambda of: np.array([products.cosines(products.merged(of, halves))[0, 1]]))
        known = np.array([bool((ends.low > 0).all())])
        quantities.append(
            _quantity(
                scheme.named("conflict", "noisy_half", "image_half"), cosine.limited(-1, 1).where(known), "cosine",
                f"the cosine between the mean gradients at log SNR below 0 and above{whose}",
            )
        )  # fmt: skip
    return Found([one for one in quantities if one is not None], series)


def _directions(totals: NDArray[np.floating], cases: Sequence[str]) -> Found:
    """How far the whole mean gradients [J, W, D] of other weightings point where the run's own does."""
    found = Products(totals)
    squares = found.jackknifed(products.squared_norms)
    cosines = found.jackknifed(products.cosines).limited(-1, 1)
    quantities = []
    for number, case in enumerate(cases[1:], start=1):
        one = Estimate(
            *(np.array([part[0, number]]) for part in (cosines.value, cosines.se, cosines.low, cosines.high))
        )
        known = np.array([bool(squares.low[0] > 0 and squares.low[number] > 0)])
        quantities.append(
            _quantity(
                f"gradient_cosine[{case}]", one.where(known), "cosine",
                f"the cosine between the whole mean gradient and the one that the weighting {case} would have",
            )
        )  # fmt: skip
    return Found([one for one in quantities if one is not None])


def copying_figures(bins: Sequence[LevelBin], found: Copying, process: DiffusionProcess) -> Found:
    """How far eps_hat copies x_t, what predictors that learn nothing score, and errors' amplification into x0."""
    amplified = [amplification(process, one) for one in bins]
    factors = np.array([factor for factor, _ in amplified])
    series = [
        _estimates("copy_slope", bins, found.slope, "", "the slope of the regression of eps_hat on x_t"),
        _estimates("copy_r2", bins, found.r2, "", "the part of eps_hat's variance that is linear in x_t (R²)"),
        _estimates("eps_error", bins, found.error, "mean square", "the network's error of eps, on held-out images"),
        _estimates("eps_error[copy]", bins, found.error_of_copy, "mean square", "that of eps_hat = x_t"),
        _estimates("eps_error[linear]", bins, found.error_of_linear, "mean square",
                   "that of the best linear predictor, from the training images' mean and covariance"),
        _estimates("gain_over_linear", bins, found.gain, "share",
                   "the part of the linear predictor's error that the network does not have"),
        _series("amplification", bins, factors, "", "1/√SNR, by which errors of eps are larger in x0: root mean "
                "square over the timesteps"),
    ]  # fmt: skip
    first = f"at log SNR {bins[0].name}"
    quantities = [
        _quantity("copy_slope[noisiest]", found.slope.at(0), "", f"the slope of eps_hat on x_t {first}"),
        _quantity("copy_r2[noisiest]", found.r2.at(0), "", f"R² of eps_hat on x_t {first}"),
        _quantity("gain_over_linear[noisiest]", found.gain.at(0), "share",
                  f"the part of the linear predictor's error of eps that the network does not have {first}"),
    ]  # fmt: skip
    if math.isfinite(factors[0]):
        text = f"1/√SNR, by which errors of eps are larger in x0 {first}"
        quantities.append(Quantity(name="amplification[noisiest]", value=float(factors[0]), text=text))
    without = sum(number for _, number in amplified)
    notes = []
    if without:
        notes.append(
            f"{without} timestep{'s have' if without > 1 else ' has'} an SNR of 0: no estimate of x0 follows from one "
            "of eps there, and the amplification leaves it out"
        )
    return Found([one for one in quantities if one is not None], series, notes=notes)


def learning_figures(found: Learning, bins: Sequence[LevelBin]) -> Found:
    """The curves of each bin's error of v, and when it had fallen by 90 % of its fall."""
    centres = {one.log_snr: one.centre for one in bins}
    shown = {bounds: errors for bounds, errors in found.errors.items() if bounds in centres}
    if len(found.images) < 2 or not shown:
        return Found(
            notes=[
                "held-out errors were measured only once, so that there are no learning curves; train with a smaller "
                "`training.heldout_every`"
            ]
        )
    images = [float(one) for one in found.images]
    series = [
        Series(
            name=f"heldout_v[{bin_name(bounds)}]", axis="images", x=images, value=list(errors), unit="mean square",
            text=f"the held-out error of v at log SNR {bin_name(bounds)}, of averaged weights",
        )
        for bounds, errors in shown.items()
    ]  # fmt: skip
    times = [reached(found.images, errors) for errors in shown.values()]
    series.append(
        Series(
            name="images_to_90_percent", axis="log_snr", x=[centres[bounds] for bounds in shown],
            value=[None if one is None else one.images for one in times],
            low=[None if one is None else float(one.after) for one in times],
            high=[None if one is None else float(one.by) for one in times], unit="images",
            text=f"training images until the error had fallen by {FRACTION:.0%} of its whole fall, interpolated "
            "between the measurements before and after it",
        )
    )  # fmt: skip
    return Found(series=series)


def _is_noisy(one: LevelBin) -> bool:
    return one.log_snr[1] is not None and one.log_snr[1] <= 0


def _quantity(name: str, found: Estimate, unit: str, text: str) -> Quantity | None:
    """A figure with its interval; None where there is no value."""
    value, se, low, high = (float(part[0]) for part in (found.value, found.se, found.low, found.high))
    if not math.isfinite(value):
        return None
    if not math.isfinite(se):
        return Quantity(name=name, value=value, unit=unit, text=text)
    return Quantity(name=name, value=value, se=se, low=low, high=high, unit=unit, text=text)


def _series(name: str, bins: Sequence[LevelBin], values: Array, unit: str, text: str) -> Series:
    return Series(
        name=name, axis="log_snr", x=[one.centre for one in bins], value=_missing(values), unit=unit, text=text
    )  # fmt: skip


def _estimates(name: str, bins: Sequence[LevelBin], found: Estimate, unit: str, text: str) -> Series:
    return Series(
        name=name, axis="log_snr", x=[one.centre for one in bins], value=_missing(found.value),
        se=_missing(found.se), low=_missing(found.low), high=_missing(found.high), unit=unit, text=f"{text}; {_COVERS}",
    )  # fmt: skip


def _missing(values: Array) -> list[Missing]:
    return [float(value) if math.isfinite(value) else None for value in values]
