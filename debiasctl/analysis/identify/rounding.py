"""Makes the numbers of a fit as round as the points allow, and says whether they matter."""

import math
from dataclasses import replace

from debiasctl.analysis.identify.forms import Fit, completed

_ROUND = 0.5  # how much of what rounding explains defaults and numbers of two digits may use up


def rounded(fit: Fit, *, clamped: bool) -> Fit:
    """The fit with numbers of the fewest digits with which it is as good."""
    parameters = fit.form.parameters

    def tried(values: tuple[float, ...], *, slack: float = 0.1) -> Fit | None:
        if any(not one.low <= value <= one.high for one, value in zip(parameters, values, strict=True)):
            return None
        found = completed(fit.form, fit.points, values, fit.log_scale, clamped=clamped)
        return found if found is not None and found.is_as_good_as(fit, slack=slack) else None

    best = fit
    for place, one in enumerate(parameters):
        if one.default is not None and one.default != best.values[place]:
            best = tried((*best.values[:place], one.default, *best.values[place + 1 :]), slack=_ROUND) or best
    for digits in range(1, 5):
        found = tried(tuple(_digits(value, digits) for value in best.values), slack=_ROUND if digits <= 2 else 0.1)
        if found is not None:
            best = found
            break
    else:
        for place in range(len(fit.values)):
            for digits in range(1, 7):
                values = (*best.values[:place], _digits(best.values[place], digits), *best.values[place + 1 :])
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


def shortened(fit: Fit) -> Fit:
    """A fit that is far off, with numbers of three digits."""
    values = tuple(_digits(value, 3) for value in fit.values)
    found = completed(fit.form, fit.points, values, fit.log_scale, clamped=fit.clamp is not None)
    return fit if found is None else found


def rounded_scale(fit: Fit) -> Fit:
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
        if fit.values[place] == one.default:
            continue
        for by in (0.01, -0.01):
            moved = one.moved(fit.values[place], by)
            values = (*fit.values[:place], moved, *fit.values[place + 1 :])
            if moved == fit.values[place]:
                continue
            found = completed(fit.form, fit.points, values, fit.log_scale, clamped=clamped)
            if found is not None and found.is_as_good_as(fit):
                return False
    return True
