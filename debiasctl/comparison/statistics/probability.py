"""The probability that the next run of one arm beats the next run of the other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtr

from debiasctl.comparison.statistics.estimates import LEVEL, Estimate
from debiasctl.comparison.statistics.noncentral import noncentrality


@dataclass(frozen=True, slots=True)
class NextRuns:
    """What the next pair of runs is predicted from: the estimated advantage, and the spread of one such pair."""

    advantage: Estimate  # above 0 where the arm is better
    spread: float  # standard deviation of the next difference, seeds alone

    @property
    def probability(self) -> float:
        """The predictive probability, with the uncertainty of mean and spread in it: bets at these odds are fair."""
        width = math.hypot(self.spread, self.advantage.error)
        return float(stdtr(self.advantage.freedom, self.advantage.value / width))


def probability_intervals(found: Sequence[NextRuns], *, level: float = LEVEL) -> list[tuple[float, float]]:
    """Intervals of Φ(δ/σ), where δ is the true advantage and σ the standard deviation of the next difference.

    The observed t is noncentral with δ over its standard error, so that its limits are exact for normal figures.
    """
    if not found:
        return []
    freedom = np.array([one.advantage.freedom for one in found], dtype=float)
    error = np.array([one.advantage.error for one in found])
    spread = np.array([one.spread for one in found])
    observed = np.array([one.advantage.value for one in found]) / error
    limits = [noncentrality(freedom, observed, tail) * error / spread for tail in (1 - level / 2, level / 2)]
    return list(zip(*(ndtr(limit).tolist() for limit in limits), strict=True))


def nearer_probability(difference: NextRuns, total: NextRuns) -> float:
    """The probability that the next figure of the arm is nearer to 0, given b - a and b + a of the next pair.

    It is nearer where the two have opposite signs; they are independent where both arms vary alike.
    """
    less, more = difference.probability, total.probability
    return less * (1 - more) + more * (1 - less)
