"""Variances between seeds shrunk over metrics, after Smyth (2004), limma: opt-in, and marked in the verdict."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, polygamma

from debiasctl.comparison.statistics.pooled import Spread

MOST_FREEDOM = 2.0  # of the prior: metrics are correlated, and no evidence says that they vary alike
METRICS = 3  # fewer say nothing about how variances scatter


@dataclass(frozen=True)
class Prior:
    """What the metrics together say of one: `scale` times its sampling variance, worth `freedom` degrees of freedom."""

    freedom: float
    scale: float

    def shrunk(self, spread: Spread, sampling: float) -> Spread:
        """s̃² = (d0 s0² v̄ + ν s²) / (d0 + ν), on ν + d0 degrees of freedom; `sampling` is v̄."""
        freedom = self.freedom + spread.freedom
        own = spread.freedom * spread.variance
        return Spread((self.freedom * self.scale * sampling + own) / freedom, freedom)


def fitted_prior(spreads: Sequence[tuple[Spread, float]]) -> Prior | None:
    """The prior with d0 and s0² from the moments of ln(s²/v̄) over metrics, or None of fewer than three metrics.

    d0 is at most 2, and s0² is that of the uncapped fit.
    """
    known = [(spread, v) for spread, v in spreads if v > 0 and spread.variance > 0]
    if len(known) < METRICS:
        return None
    half = np.array([spread.freedom / 2 for spread, _ in known])
    logs = np.log([spread.variance / v for spread, v in known]) - digamma(half) + np.log(half)
    excess = float(np.var(logs, ddof=1) - np.mean(polygamma(1, half)))
    center = float(np.mean(logs))
    if excess <= 0:  # the variances scatter no more than chance makes them
        return Prior(MOST_FREEDOM, math.exp(center))
    prior_half = _trigamma_inverse(excess)
    scale = math.exp(center + float(digamma(prior_half)) - math.log(prior_half))
    return Prior(min(2 * prior_half, MOST_FREEDOM), scale)


def _trigamma_inverse(value: float) -> float:
    """x with ψ'(x) = value, by Newton's method on 1/ψ' (Smyth's appendix), which converges from below."""
    if value > 1e7:
        return 1 / math.sqrt(value)
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if -step / x < 1e-9:
            break
    return x
