"""Differences of two arms over the seeds that they share."""

import math
from collections.abc import Mapping, Sequence

from debiasctl.comparison.statistics.estimates import Estimate, is_rounding, mean, squares

COMPLETE = 0.8  # of the larger arm's seeds: at the correlations seen, leaving out more costs more than pairing gains


def shared(arm: Mapping[int, float], reference: Mapping[int, float]) -> tuple[list[float], list[float]]:
    """The figures of both arms at the seeds that both have, in the same order."""
    seeds = [seed for seed in arm if seed in reference]
    return [arm[seed] for seed in seeds], [reference[seed] for seed in seeds]


def pairs_decide(pairs: int, larger: int, *, least: int) -> bool:
    """Whether the paired test is used: by the numbers of seeds alone, so that the figures have no say in it."""
    return pairs >= least and pairs >= COMPLETE * larger


def paired(arm: Sequence[float], reference: Sequence[float], *, sign: int = 1) -> Estimate | None:
    """The mean of arm minus reference over pairs (of arm plus reference with a `sign` of -1).

    It is None if there are fewer than two pairs, or all differ by the same amount: the spread is then unknown.
    """
    if len(arm) < 2:
        return None
    differences = [first - sign * second for first, second in zip(arm, reference, strict=True)]
    variance = squares(differences) / (len(differences) - 1)
    if is_rounding(variance, [*arm, *reference]):
        return None
    return Estimate(mean(differences), math.sqrt(variance / len(differences)), len(differences) - 1)


def correlation(arm: Sequence[float], reference: Sequence[float]) -> float | None:
    """Pearson's correlation over the pairs, or None of fewer than three or where one arm does not vary."""
    if len(arm) < 3:
        return None
    both = squares(arm), squares(reference)
    if any(is_rounding(one / (len(arm) - 1), values) for one, values in zip(both, (arm, reference), strict=True)):
        return None
    return covariance(arm, reference) * (len(arm) - 1) / math.sqrt(both[0]) / math.sqrt(both[1])


def covariance(arm: Sequence[float], reference: Sequence[float]) -> float:
    """The sample covariance of two or more pairs."""
    centers = mean(arm), mean(reference)
    products = ((a - centers[0]) * (b - centers[1]) for a, b in zip(arm, reference, strict=True))
    return math.fsum(products) / (len(arm) - 1)
