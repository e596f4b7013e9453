"""Looks for the formulas that measured weights agree with, the plainest first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from debiasctl.analysis.identify.candidates import Scheme
from debiasctl.analysis.identify.fit import coarse, refined
from debiasctl.analysis.identify.forms import Fit, Form
from debiasctl.analysis.identify.points import Points
from debiasctl.analysis.identify.rounding import is_identified
from debiasctl.api import Prediction

_PROMISING = 0.2  # the mean misfit, in logs, of tried numbers near which exact ones may lie
_AS_WELL = 0.13  # the same, where another form is exact
_FAR = 0.5  # that of a form without numbers which is not worth naming
_CLOSE = 0.05  # the largest error of a scheme that is named, though it is not the formula
_MOST_T = 0.9  # and the share of the points within 1 %
_SETTLED = 0.99  # the share of points beyond which it is the formula, with exceptions
_ALL_BUT = 0.95  # the share of points on which it agrees exactly, if it is off by more elsewhere


@dataclass(frozen=True)
class Found:
    """A fit, and which SNRs it is a function of: those of `schedule`, if that is not the one that was stated.

    `place` is what counts the points: t, or the rows of a table.
    """

    fit: Fit
    schedule: str | None = None
    place: str = "t"

    @property
    def agreeing(self) -> float:
        """The share of the points on which it agrees, or nearly so."""
        errors = self.fit.errors
        return float(((errors <= 3 * self.fit.points.tolerance) | (errors <= 1e-3)).mean())

    @property
    def settles(self) -> bool:
        """Whether no other formula need be looked for: it agrees everywhere, or but for a few points."""
        return self.grade == 0 or self.agreeing >= _SETTLED

    @property
    def grade(self) -> int:
        """0 exact, 1 exact but for some points, 2 close, 3 not to be named."""
        fit = self.fit
        if fit.is_exact:
            return 0
        if self.agreeing >= _ALL_BUT:
            return 1
        free = sum(float(f"{value:.2g}") != value for value in fit.values)
        if fit.errors.max() <= _CLOSE and fit.share_within(0.01) >= _MOST_T and free <= 1:
            return 2
        return 3

    @property
    def complexity(self) -> tuple[int, int, bool, int, int, str]:
        """What orders formulas that agree equally: changes to the published one, options given, options there are."""
        form = self.fit.form
        changes = (self.schedule is not None) + form.plus_one + (self.fit.clamp is not None)
        given = self.fit.fitted + len(form.scheme.choices)
        digits = sum(len(f"{value:.12g}".replace(".", "").strip("-0")) for value in self.fit.values)
        return (changes, given, self.fit.scale != 1, digits, form.scheme.num_options, form.scheme.name)

    @property
    def order(self) -> tuple[object, ...]:
        """What orders all that was found, best first."""
        misfit = 0.0 if self.grade == 0 else float(np.minimum(self.fit.errors, 3).mean())
        if self.grade < 3:
            return (self.grade, 0, round(misfit, 4), *self.complexity)
        changes, given, *rest = self.complexity
        return (self.grade, changes, round(misfit + 0.1 * given, 4), *rest)  # the nearest is one that says something


def search(
    schemes: Sequence[Scheme],
    points: Points,
    units: Sequence[Prediction],
    *,
    plus_one: bool = False,
    any_sigma_data: bool = False,
    schedule: str | None = None,
    nearest: bool = True,
) -> list[Found]:
    """The fits of the schemes' formulas for these units, the best first; of exact ones with numbers, those that matter.

    With `plus_one` the formulas are of SNR + 1 in SNR's place; with `nearest` the nearest form of each unit is among
    them, however far off it is.
    """
    found: list[Found] = []
    for unit in units:
        free = any_sigma_data and unit == "edm"
        forms = [Form(scheme, unit, plus_one, free) for scheme in schemes]
        fits = list(_fits(forms, points, clamped=False, nearest=nearest))
        if points.plateau.any():
            if any(fit.is_exact for fit in fits):
                forms = [form for form in forms if not form.parameters]
            fits += _fits(forms, points, clamped=True, nearest=False)
        found += [Found(fit, schedule) for fit in fits]
    return sorted(found, key=lambda one: one.order)


def _fits(forms: Sequence[Form], points: Points, *, clamped: bool, nearest: bool) -> Iterator[Fit]:
    """The best fit of each form that may come close, and with `nearest` of the nearest one."""
    tried = [(form, coarse(form, points, clamped=clamped)) for form in forms]
    tried = sorted(((form, starts) for form, starts in tried if starts), key=lambda one: one[1][0][0])
    settled = False
    for place, (form, starts) in enumerate(tried):
        promising = _AS_WELL if settled else _PROMISING
        if not (nearest and place == 0) and starts[0][0] > (promising if form.parameters else _FAR):
            continue
        best: Fit | None = None
        for misfit, values in starts:
            if best is not None and (best.is_exact or misfit > promising):
                break
            fit = refined(form, points, values, clamped=clamped)
            if fit is not None and (best is None or fit.errors.mean() < best.errors.mean()):
                best = fit
        if best is not None and (not best.is_exact or is_identified(best)):
            settled = settled or bool(best.excess[2] <= 1)
            yield best
