"""Student's estimates: a value, its standard error and degrees of freedom, with interval and p value."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import stdtr, stdtrit

LEVEL = 0.05  # of all tests here; intervals cover with 1 - LEVEL
ROUNDING = 1e-12  # of the largest figure: a spread that is no larger is of rounding alone


@lru_cache(maxsize=4096)
def quantile(freedom: float, level: float = LEVEL) -> float:
    """The number of standard errors on either side of an estimate that cover with 1 - `level`."""
    return float(-stdtrit(freedom, level / 2))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its standard error, above 0, on `freedom` degrees of freedom."""

    value: float
    error: float
    freedom: float

    def interval(self, level: float = LEVEL) -> tuple[float, float]:
        """The interval that covers with 1 - `level`."""
        half = quantile(self.freedom, level) * self.error
        return self.value - half, self.value + half

    def p(self, null: float = 0.0) -> float:
        """The two-sided p value of the true value being `null`."""
        return 2 * float(stdtr(self.freedom, -abs(self.value - null) / self.error))


def mean(values: Sequence[float]) -> float:
    """The mean of one or more values."""
    return math.fsum(values) / len(values)


def squares(values: Sequence[float]) -> float:
    """The sum of squared deviations from the mean."""
    center = mean(values)
    return math.fsum((value - center) * (value - center) for value in values)


def is_rounding(variance: float, values: Sequence[float]) -> bool:
    """Whether a variance is no larger than rounding makes it between equal values of this size."""
    return variance <= (ROUNDING * max(abs(value) for value in values)) ** 2
