"""Equivalence: the interval of a difference lies within a margin that was declared beforehand."""

from scipy.special import stdtr

from debiasctl.comparison.statistics.estimates import Estimate
from debiasctl.comparison.statistics.nearness import Nearness

MARGIN = 0.05  # of the reference's figure


def margin_of(reference: float, fraction: float) -> float | None:
    """The margin, a fraction of the reference's mean figure, or None if that is not above 0."""
    return fraction * reference if reference > 0 and fraction > 0 else None


def equivalence_p(found: Estimate | Nearness, margin: float) -> float:
    """Twice the p value of two one-sided tests: it is at most α just if the 1 - α interval lies within ± margin.

    A true difference of the margin or more is then called equivalent in at most α/2 of cases. Where closer to 0 is
    better, the distances from 0 are close if b - a or b + a is, so that it is at most α.
    """
    if isinstance(found, Nearness):
        return min(equivalence_p(found.difference, margin), equivalence_p(found.total, margin))
    return min(1.0, 2 * float(stdtr(found.freedom, (abs(found.value) - margin) / found.error)))
