"""One arm against the reference in one cell: the estimates that a verdict rests on, or why there are none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from debiasctl.comparison.cells import ArmValues, Cell
from debiasctl.comparison.statistics.borrowed import Prior, fitted_prior
from debiasctl.comparison.statistics.estimates import Estimate, is_rounding, mean, squares
from debiasctl.comparison.statistics.nearness import Nearness, nearness
from debiasctl.comparison.statistics.paired import PAIRS, correlation, covariance, paired, pairs_decide, shared
from debiasctl.comparison.statistics.pooled import Spread, pooled, pooled_spread
from debiasctl.comparison.statistics.ratios import Means, Ratio, fieller, log_ratio, logarithms
from debiasctl.errors import UsageError

Method = Literal["pooled t", "paired t", "borrowed"]
Pairing = Literal["auto", "yes", "no"]
POOLED: Method = "pooled t"
PAIRED: Method = "paired t"
BORROWED: Method = "borrowed"
LARGEST = 1e150  # of a figure: the square of a larger one overflows
NO_RATIO = Ratio(None, None, None)
SAME = "the figures do not vary over seeds, so that nothing shows how much another seed would change"
SHIFTED = "all pairs of seeds differ by the same amount, so that nothing shows how much another seed would change"


@dataclass(frozen=True, slots=True)
class Contrast:
    """An arm against the reference; `found` is None where the seeds allow no test, and `reason` says why."""

    arm: str
    reference: str
    better: str
    num: tuple[int, int]
    blocked: Literal["withheld", "one seed", "no spread", "equal pairs"] | None = None
    reason: str | None = None
    means: tuple[float, float] | None = None  # of the arm and the reference
    difference: float | None = None
    found: Estimate | Nearness | None = None
    method: Method | None = None
    ratio: Ratio = NO_RATIO
    correlation: float | None = None
    arms: int = 2  # that the variance is pooled over
    pairs_from: int | None = None  # the seeds an arm from which more of them would be compared as pairs

    @property
    def improves(self) -> bool:
        """Whether the difference is for the better."""
        return (self.difference or 0.0) > 0 if self.better == "higher" else (self.difference or 0.0) < 0

    def run_spread(self, part: Estimate) -> float:
        """The standard deviation of one run; of a pair's difference over √2 where seeds are paired."""
        return part.error / math.sqrt(1 / self.num[0] + 1 / self.num[1])


@dataclass(frozen=True)
class _Prepared:
    """A cell with what all its contrasts share."""

    cell: Cell
    usable: dict[str, ArmValues]
    unusable: dict[str, str]  # arm -> reason
    spread: Spread | None
    log_spread: Spread | None


def contrasts(
    cells: Sequence[Cell], reference: str, *, pairing: Pairing, borrowing: bool, level: float
) -> list[list[Contrast]]:
    """For each cell, one contrast for each arm but the reference.

    Raises:
        UsageError: if pairs are demanded and the seeds of two arms differ.
    """
    prepared = [_prepare(cell) for cell in cells]
    prior = _prior(prepared) if borrowing else None
    return [
        [
            _contrast(one, values, reference, pairing, prior, level)
            for values in one.cell.arms
            if values.arm != reference
        ]
        for one in prepared
    ]


def _prepare(cell: Cell) -> _Prepared:
    unusable = {values.arm: reason for values in cell.arms if (reason := _unusable(cell, values))}
    usable = {values.arm: values for values in cell.arms if values.arm not in unusable}
    logs = [found for values in usable.values() if (found := logarithms(values.values))]
    return _Prepared(
        cell, usable, unusable, pooled_spread([one.values for one in usable.values()]), pooled_spread(logs)
    )


def _unusable(cell: Cell, values: ArmValues) -> str | None:
    if values.arm in cell.withheld:
        return cell.withheld[values.arm]
    if not values.values:
        return f"arm {values.arm!r} has no figure here"
    for seed, value in zip(values.seeds, values.values, strict=True):
        if not abs(value) < LARGEST:  # nor is nan
            return f"the figure of seed {seed} in arm {values.arm!r} is {value}"
    return None


def _prior(prepared: Sequence[_Prepared]) -> Prior | None:
    return fitted_prior(
        [
            (one.spread, one.cell.sampling)
            for one in prepared
            if one.spread is not None and one.cell.sampling is not None
        ]
    )


def _contrast(
    one: _Prepared, values: ArmValues, reference: str, pairing: Pairing, prior: Prior | None, level: float
) -> Contrast:
    cell, base = one.cell, next(found for found in one.cell.arms if found.arm == reference)
    names = (values.arm, reference, cell.better)
    num = (len(values.values), len(base.values))
    for arm in (values.arm, reference):
        if arm in one.unusable:
            return Contrast(*names, num, "withheld", one.unusable[arm])
    first, second = shared(_by_seed(values), _by_seed(base))
    if pairing == "yes" and set(values.seeds) != set(base.seeds):
        odd = ", ".join(str(seed) for seed in sorted(set(values.seeds) ^ set(base.seeds)))
        raise UsageError(
            f"`paired` asks for pairs of seeds, and these are in only one of {values.arm!r} and {reference!r}: {odd}"
        )
    pairs = pairing == "yes" or (pairing == "auto" and pairs_decide(len(first), max(num)))
    a, b = (first, second) if pairs else (list(values.values), list(base.values))
    means = (mean(a), mean(b))
    num = (len(a), len(b))
    related = correlation(first, second)
    if min(num) < 2:
        single = " and ".join(repr(arm) for arm, n in zip((values.arm, reference), num, strict=True) if n < 2)
        reason = (
            f"there is one seed of {single}, so that nothing can be said about the settings: nothing shows how much"
            " another seed would change"
        )
        return Contrast(
            *names, num, "one seed", reason, means, _difference(cell, means), ratio=_plain_ratio(cell, means)
        )
    found, method, ratio = _paired(cell, a, b, level) if pairs else _pooled(one, a, b, prior, level)
    if found is None:
        return Contrast(
            *names, num, *_without_spread(a, b), means, _difference(cell, means), method=method, correlation=related
        )
    complete = set(values.seeds) == set(base.seeds)
    pairs_from = {"yes": 2, "auto": PAIRS if complete or pairs else None, "no": None}[pairing]
    arms = sum(len(arm.values) > 1 for arm in one.usable.values())
    return Contrast(*names, num, None, None, means, found.value, found, method, ratio, related, arms, pairs_from)


def _pooled(
    one: _Prepared, a: list[float], b: list[float], prior: Prior | None, level: float
) -> tuple[Estimate | Nearness | None, Method, Ratio]:
    spread, logs, method, zero = one.spread, one.log_spread, POOLED, one.cell.better == "zero"
    if spread is None:
        return None, method, NO_RATIO
    if prior is not None and one.cell.sampling is not None:
        own = spread
        spread, method = prior.shrunk(own, one.cell.sampling), BORROWED
        if logs is not None:
            logs = Spread(logs.variance * spread.variance / own.variance, spread.freedom)
    found: Estimate | Nearness = pooled(a, b, spread)
    if zero:
        found = Nearness(pooled(a, b, spread), pooled(a, b, spread, sign=-1))
    log_a, log_b = logarithms(a), logarithms(b)
    if not zero and logs is not None and log_a is not None and log_b is not None:
        return found, method, log_ratio(pooled(log_a, log_b, logs), level=level)
    variances = spread.variance / len(a), spread.variance / len(b)
    return found, method, fieller(Means(mean(a), mean(b), *variances, 0.0, spread.freedom), level=level, absolute=zero)


def _paired(
    cell: Cell, a: list[float], b: list[float], level: float
) -> tuple[Estimate | Nearness | None, Method, Ratio]:
    zero = cell.better == "zero"
    found: Estimate | Nearness | None = paired(a, b)
    if zero and isinstance(found, Estimate):
        total = paired(a, b, sign=-1)
        found = Nearness(found, total) if total is not None else None
    if found is None:
        return None, PAIRED, NO_RATIO
    log_a, log_b = logarithms(a), logarithms(b)
    logs = paired(log_a, log_b) if not zero and log_a is not None and log_b is not None else None
    if logs is not None:
        return found, PAIRED, log_ratio(logs, level=level)
    variances = [squares(values) / (len(a) - 1) / len(a) for values in (a, b)]
    means = Means(mean(a), mean(b), variances[0], variances[1], covariance(a, b) / len(a), len(a) - 1)
    return found, PAIRED, fieller(means, level=level, absolute=zero)


def _without_spread(a: list[float], b: list[float]) -> tuple[Literal["no spread", "equal pairs"], str | None]:
    """Why there is no test. Pairs that are equal throughout, while seeds differ, are of arms that are the same."""
    size = [*a, *b]
    if len(a) == len(b) and not is_rounding(squares(b) / (len(b) - 1), size):
        largest = max(abs(first - second) for first, second in zip(a, b, strict=True))
        return ("equal pairs", None) if is_rounding(largest**2, size) else ("no spread", SHIFTED)
    return "no spread", SAME


def _difference(cell: Cell, means: tuple[float, float]) -> float:
    arm, reference = means
    return nearness(arm - reference, arm + reference) if cell.better == "zero" else arm - reference


def _plain_ratio(cell: Cell, means: tuple[float, float]) -> Ratio:
    arm, reference = (abs(value) for value in means) if cell.better == "zero" else means
    return Ratio(arm / reference, None, None) if reference > 0 else NO_RATIO


def _by_seed(values: ArmValues) -> dict[int, float]:
    return dict(zip(values.seeds, values.values, strict=True))
