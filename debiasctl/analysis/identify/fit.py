"""Fits the formula of one scheme to measured weights: its options, a clamp of SNR, a factor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from debiasctl.analysis.identify.candidates import Floats, Parameter, Scheme, log_conversion
from debiasctl.analysis.identify.points import Points
from debiasctl.api import Prediction

_QUANTILES = (0.5, 0.75, 0.9, 0.95, 1.0)
_SIGMA_DATA = Parameter("sigma_data", 0.5, 0.02, 20.0)  # of the network's preconditioning
_USED = 240  # points that options are found from
_COARSE = 60  # points that the tried values are compared at
_CLOSE = 0.05  # the error, on nine levels of ten, of a form whose numbers are worth finding exactly
_FOUND = 1e-6  # residuals, in logs, of numbers that need no further search
_LARGE = 30.0  # the residual, in logs, of a weight that there is not


@dataclass(frozen=True)
class Form:
    """A formula: a scheme's weight on the error of `unit`, of SNR, or with `plus_one` of SNR + 1 in its place."""

    scheme: Scheme
    unit: Prediction
    plus_one: bool = False
    any_sigma_data: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The numbers to find: the scheme's, and the preconditioning's sigma_data if it is free."""
        return (*self.scheme.parameters, *((_SIGMA_DATA,) if self.any_sigma_data else ()))

    def log_weight(self, values: Sequence[float], snr: Floats) -> Floats:
        """The log of the formula, NaN where it gives no weight."""
        own, sigma_data = self.split(values)
        level = snr + 1 if self.plus_one else snr
        converted = log_conversion(self.scheme.space, self.unit, level, sigma_data=sigma_data)
        return self.scheme.log_weight(own, level) + converted

    def split(self, values: Sequence[float]) -> tuple[Sequence[float], float]:
        """The scheme's own values, and sigma_data."""
        if self.any_sigma_data:
            return values[:-1], values[-1]
        return values, 0.5


@dataclass(frozen=True)
class Fit:
    """A formula with its numbers found: the weight is `scale` times the formula at min(SNR, clamp)."""

    form: Form
    points: Points
    values: tuple[float, ...]
    clamp: float | None
    log_scale: float

    @cached_property
    def log_formula(self) -> Floats:
        """The log of the formula at the points."""
        snr = self.points.snr if self.clamp is None else np.minimum(self.points.snr, self.clamp)
        return self.form.log_weight(self.values, snr)

    @cached_property
    def errors(self) -> Floats:
        """By how much the larger of measured weight and formula exceeds the other, [n]; 1 where one alone is 0."""
        points = self.points
        formula = self.log_formula + self.log_scale
        with np.errstate(all="ignore"):
            found = np.exp(np.minimum(np.abs(points.log_weight - formula), _LARGE)) - 1
        vanishes = ~np.isfinite(formula) | (formula < points.log_weight.max() + math.log(1e-6))
        found = np.where(points.positive, found, np.where(vanishes, 0.0, 1.0))
        return np.where(np.isfinite(found), found, 1e6)

    @cached_property
    def excess(self) -> Floats:
        """The errors in units of what rounding explains, by quantile."""
        found: Floats = np.quantile(self.errors / self.points.tolerance, _QUANTILES)
        return found

    @property
    def scale(self) -> float:
        """The factor before the formula."""
        return math.exp(min(self.log_scale, 700.0))

    @property
    def worst(self) -> int:
        """The point where it is off most."""
        return int(np.argmax(self.errors))

    def share_within(self, error: float) -> float:
        """The share of the points where it is off by at most so much."""
        return float((self.errors <= error).mean())

    @property
    def is_exact(self) -> bool:
        """Whether rounding explains every difference."""
        return bool(self.excess[-1] <= 1)

    @property
    def fitted(self) -> int:
        """How many of its numbers are not defaults."""
        return sum(value != one.default for one, value in zip(self.form.parameters, self.values, strict=True))

    def is_as_good_as(self, other: "Fit") -> bool:
        """Whether it agrees with the points as well, or much better than rounding allows."""
        return bool((self.excess <= np.maximum(0.1, 1.2 * other.excess)).all())


def coarse(form: Form, points: Points, *, clamped: bool, starts: int = 3) -> list[tuple[float, tuple[float, ...]]]:
    """The best of the tried values of a form's numbers, with the mean misfit in logs, best first."""
    mask = used(points, clamped=False, most=_COARSE)
    kept = ~points.plateau[mask] if clamped else np.ones(len(mask), dtype=bool)
    if not kept.any():
        return []
    table = form.scheme.tried(points.snr[mask] + form.plus_one)[:, kept]  # [tried, points]
    mask = mask[kept]
    level = points.snr[mask] + form.plus_one
    found = []
    for sigma in (0.25, 0.5, 1.0) if form.any_sigma_data else (None,):
        converted = log_conversion(form.scheme.space, form.unit, level, sigma_data=sigma or 0.5)
        rest = points.log_weight[mask] - converted - table
        rest -= np.median(rest, axis=1, keepdims=True)
        misfit = np.minimum(np.abs(rest), 3).mean(axis=1)
        for place in np.argsort(misfit)[:starts]:
            if np.isfinite(misfit[place]):
                found.append((float(misfit[place]), (*form.scheme.spread[place], *(() if sigma is None else (sigma,)))))
    return sorted(found)[:starts]


def used(points: Points, *, clamped: bool, most: int = _USED) -> NDArray[np.int64]:
    """Indices of the points that numbers are found from, evenly spaced; with `clamped` those below the plateau."""
    mask = points.positive & ~points.plateau if clamped else points.positive
    (indices,) = np.nonzero(mask)
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(np.int64)]


def refined(form: Form, points: Points, values: tuple[float, ...], *, clamped: bool) -> Fit | None:
    """The form fitted from a start on; if it comes close, with numbers as round as the points allow.

    None if it cannot be fitted.
    """
    mask = used(points, clamped=clamped)
    if len(mask) < len(values) + 4:
        return None
    snr, target = points.snr[mask], points.log_weight[mask]
    rest = target - form.log_weight(values, snr)
    if not np.isfinite(rest).all():
        return None
    offset = float(np.median(rest))
    if any(not one.whole for one in form.parameters) and np.abs(rest - offset).max() > _FOUND:
        values, offset = _least(form, snr, target, values, offset)
    fit = _completed(form, points, values, offset, clamped=clamped)
    if fit is None:
        return None
    close = float(np.quantile(fit.errors, 0.9)) <= _CLOSE
    return _rounded_scale(_rounded(fit, clamped=clamped) if close else _shortened(fit))


def _least(
    form: Form, snr: Floats, target: Floats, values: tuple[float, ...], offset: float
) -> tuple[tuple[float, ...], float]:
    """Values and the log of the factor for which few points are off: a robust loss, which is narrowed step by step."""
    free = [place for place, one in enumerate(form.parameters) if not one.whole]

    def unpacked(theta: Floats) -> tuple[float, ...]:
        found = list(values)
        for place, number in zip(free, theta, strict=False):
            one = form.parameters[place]
            found[place] = min(max(math.exp(number) if one.is_logarithmic else float(number), one.low), one.high)
        return tuple(found)

    def residuals(theta: Floats) -> Floats:
        rest = target - form.log_weight(unpacked(theta), snr) - theta[-1]
        clipped: Floats = np.clip(np.nan_to_num(rest, nan=_LARGE), -_LARGE, _LARGE)
        return clipped

    packed = [math.log(values[place]) if form.parameters[place].is_logarithmic else values[place] for place in free]
    theta = np.array([*packed, offset])
    for width in (0.1, 3e-3, 1e-4):
        theta = least_squares(
            residuals, theta, loss="soft_l1", f_scale=width, max_nfev=15, diff_step=1e-6,
            ftol=1e-15, gtol=1e-15, xtol=1e-12,
        ).x  # fmt: skip
        rest = np.abs(residuals(theta))
        if rest.max() < _FOUND or np.quantile(rest, 0.9) > _CLOSE:
            break
    return unpacked(theta), float(theta[-1])


def _completed(form: Form, points: Points, values: tuple[float, ...], offset: float, *, clamped: bool) -> Fit | None:
    """The fit with its clamp, which follows from the height of the plateau, and its factor."""
    if not clamped:
        fit = Fit(form, points, values, None, offset)
    else:
        clamp = _clamp(form, points, values, offset)
        if clamp is None:
            return None
        fit = Fit(form, points, values, clamp, offset)
    rest = (points.log_weight - fit.log_formula)[used(points, clamped=clamped)]
    if not np.isfinite(rest).all():
        return None
    return replace(fit, log_scale=float(np.median(rest)))


def _clamp(form: Form, points: Points, values: Sequence[float], offset: float) -> float | None:
    """The SNR at which the formula reaches the plateau; None if it does not, or is flat there."""
    inside = points.plateau
    below = points.positive & ~inside
    target = float(np.median(points.log_weight[inside])) - offset
    low, high = float(points.snr[below].max()), float(points.snr[inside].min())
    if low >= high:
        return None
    slack = 3 * float(points.tolerance[inside].max())
    for zoom in range(4):
        grid = np.geomspace(low, high, 65)
        miss = form.log_weight(values, grid) - target
        if not np.isfinite(miss).all() or (zoom == 0 and (np.abs(miss[[0, -1]]) <= 1e-9).all()):
            return None
        (crossed,) = np.nonzero(np.signbit(miss[1:]) != np.signbit(miss[:-1]))
        if not len(crossed):
            nearest = int(np.argmin(np.abs(miss)))
            return float(grid[nearest]) if abs(miss[nearest]) <= slack else None
        low, high = float(grid[crossed[0]]), float(grid[crossed[0] + 1])
    return math.sqrt(low * high)


def _rounded(fit: Fit, *, clamped: bool) -> Fit:
    """The fit with numbers of the fewest digits with which it is as good."""
    parameters = fit.form.parameters

    def tried(values: tuple[float, ...]) -> Fit | None:
        if any(not one.low <= value <= one.high for one, value in zip(parameters, values, strict=True)):
            return None
        found = _completed(fit.form, fit.points, values, fit.log_scale, clamped=clamped)
        return found if found is not None and found.is_as_good_as(fit) else None

    best = fit
    for digits in range(1, 5):
        found = tried(tuple(_digits(value, digits) for value in fit.values))
        if found is not None:
            best = found
            break
    else:
        for place in range(len(fit.values)):
            for digits in range(1, 7):
                values = (*best.values[:place], _digits(fit.values[place], digits), *best.values[place + 1 :])
                found = tried(values)
                if found is not None:
                    best = found
                    break
    if best.clamp is None:
        return best
    for digits in range(1, 7):
        found = replace(best, clamp=_digits(best.clamp, digits))
        if found.is_as_good_as(best):
            return found
    return best


def _shortened(fit: Fit) -> Fit:
    """A fit that is far off, with numbers of three digits."""
    values = tuple(_digits(value, 3) for value in fit.values)
    found = _completed(fit.form, fit.points, values, fit.log_scale, clamped=fit.clamp is not None)
    return fit if found is None else found


def _rounded_scale(fit: Fit) -> Fit:
    """The fit with the factor 1 or one of few digits, if it is as good."""
    for digits in range(1, 7):
        found = replace(fit, log_scale=math.log(float(f"{fit.scale:.{digits}g}")))
        if found.is_as_good_as(fit):
            return found
    return fit


def _digits(value: float, digits: int) -> float:
    return 0.0 if abs(value) < 1e-4 and digits < 4 else float(f"{value:.{digits}g}")


def is_identified(fit: Fit) -> bool:
    """Whether every number that is not a default matters: moved a little, it is no longer as good."""
    clamped = fit.clamp is not None
    for place, one in enumerate(fit.form.parameters):
        for by in (0.05, -0.05):
            moved = one.moved(fit.values[place], by)
            values = (*fit.values[:place], moved, *fit.values[place + 1 :])
            if moved == fit.values[place]:
                continue
            found = _completed(fit.form, fit.points, values, fit.log_scale, clamped=clamped)
            if found is not None and found.is_as_good_as(fit):
                return False
    return True
