"""A scheme's formula for a prediction, and such a formula fitted to measured weights: options, a clamp, a factor."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from debiasctl.analysis.identify.candidates import Floats, Parameter, Scheme, log_conversion
from debiasctl.analysis.identify.points import Points
from debiasctl.api import Prediction

QUANTILES = (0.5, 0.75, 0.9, 0.95, 1.0)
LARGEST = 30.0  # the residual, in logs, of a weight that there is not
_SIGMA_DATA = Parameter("sigma_data", 0.5, 0.02, 20.0)  # of the network's preconditioning


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

    @property
    def formula(self) -> Floats:
        """The formula with its factor at the points, NaN where it gives no weight."""
        with np.errstate(over="ignore"):
            found: Floats = np.exp(self.log_formula + self.log_scale)
        return found

    @cached_property
    def errors(self) -> Floats:
        """By how much the larger of measured weight and formula exceeds the other, [n]; 1 where one alone is 0."""
        points = self.points
        formula = self.log_formula + self.log_scale
        with np.errstate(all="ignore"):
            found = np.exp(np.minimum(np.abs(points.log_weight - formula), LARGEST)) - 1
        vanishes = ~np.isfinite(formula) | (formula < points.log_weight.max() + math.log(1e-6))
        found = np.where(points.positive, found, np.where(vanishes, 0.0, 1.0))
        return np.where(np.isfinite(found), found, 1e6)

    @cached_property
    def excess(self) -> Floats:
        """The errors in units of what rounding explains, by quantile."""
        found: Floats = np.quantile(self.errors / self.points.tolerance, QUANTILES)
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

    def is_as_good_as(self, other: "Fit", *, slack: float = 0.1) -> bool:
        """Whether it agrees with the points as well, or within `slack` of what rounding explains."""
        return bool((self.excess <= np.maximum(slack, 1.2 * other.excess)).all())


def used(points: Points, *, clamped: bool, most: int = 240) -> NDArray[np.int64]:
    """Indices of the points that numbers are found from, evenly spaced; with `clamped` those below the plateau."""
    mask = points.positive & ~points.plateau if clamped else points.positive
    (indices,) = np.nonzero(mask)
    if len(indices) <= most:
        return indices
    return indices[np.linspace(0, len(indices) - 1, most).round().astype(np.int64)]


def completed(form: Form, points: Points, values: tuple[float, ...], offset: float, *, clamped: bool) -> Fit | None:
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
