"""Finds the numbers of a formula from measured weights."""

import math

import numpy as np
from scipy.optimize import least_squares

from debiasctl.analysis.identify.candidates import Floats, log_conversion
from debiasctl.analysis.identify.forms import LARGEST, Fit, Form, completed, used
from debiasctl.analysis.identify.points import Points
from debiasctl.analysis.identify.rounding import rounded, rounded_scale, shortened

_COARSE = 60  # points that the tried values are compared at
_CLOSE = 0.05  # the error, on nine levels of ten, of a form whose numbers are worth finding exactly
_MOST = 700.0  # whose exponential is still a float
_FOUND = 1e-6  # residuals, in logs, of numbers that need no further search


def coarse(form: Form, points: Points, *, clamped: bool) -> list[tuple[float, tuple[float, ...]]]:
    """The best of the tried values of a form's numbers, with the mean misfit in logs, best first."""
    mask = used(points, clamped=False, most=_COARSE)
    kept = ~points.plateau[mask] if clamped else np.ones(len(mask), dtype=bool)
    if not kept.any():
        return []
    table = form.scheme.tried(points.snr[mask] + form.plus_one)[:, kept]  # [tried, points]
    mask = mask[kept]
    level = points.snr[mask] + form.plus_one
    starts = min(2, len(form.parameters)) or 1
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
    fit = completed(form, points, values, offset, clamped=clamped)
    if fit is None:
        return None
    close = float(np.quantile(fit.errors, 0.9)) <= _CLOSE
    return rounded_scale(rounded(fit, clamped=clamped) if close else shortened(fit))


def _least(
    form: Form, snr: Floats, target: Floats, values: tuple[float, ...], offset: float
) -> tuple[tuple[float, ...], float]:
    """Values and the log of the factor for which few points are off: a robust loss, which is narrowed step by step."""
    free = [place for place, one in enumerate(form.parameters) if not one.whole]

    def unpacked(theta: Floats) -> tuple[float, ...]:
        found = list(values)
        for place, number in zip(free, theta, strict=False):
            one = form.parameters[place]
            value = math.exp(min(number, _MOST)) if one.is_logarithmic else float(number)
            found[place] = min(max(value, one.low), one.high)
        return tuple(found)

    def residuals(theta: Floats) -> Floats:
        rest = target - form.log_weight(unpacked(theta), snr) - theta[-1]
        clipped: Floats = np.clip(np.nan_to_num(rest, nan=LARGEST), -LARGEST, LARGEST)
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
