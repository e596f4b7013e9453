"""Which of two means is nearer to 0, by their difference and their sum together."""

from dataclasses import dataclass
from itertools import product

from debiasctl.comparison.statistics.estimates import LEVEL, Estimate


def nearness(difference: float, total: float) -> float:
    """|b| - |a|, given b - a and b + a: it has the sign of their product and the size of the smaller."""
    return (abs(total + difference) - abs(total - difference)) / 2


@dataclass(frozen=True, slots=True)
class Nearness:
    """|b| - |a| for two means, from the estimates of b - a and of b + a.

    The arms' distances from 0 differ only if b - a and b + a both differ from 0, so that the test is the
    intersection–union of both: p is the larger of two, and needs no correction for being two (Berger, 1982).
    """

    difference: Estimate
    total: Estimate

    @property
    def value(self) -> float:
        """|b| - |a|."""
        return nearness(self.difference.value, self.total.value)

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The least and the largest |b| - |a| that the intervals of b - a and b + a allow.

        It is monotone in each of both, so that it is least and largest at corners. It leaves out 0 just if p is below
        the level.
        """
        corners = [nearness(*corner) for corner in product(self.difference.interval(level), self.total.interval(level))]
        return min(corners), max(corners)

    def p(self) -> float:
        """The p value of both means being equally far from 0."""
        return max(self.difference.p(), self.total.p())
