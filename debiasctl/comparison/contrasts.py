"""One arm against the reference in one cell: the estimates that a verdict rests on, or why there are none."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from debiasctl.comparison.cells import ArmValues, Cell
from debiasctl.comparison.statistics.borrowed import Prior, fitted_prior
from debiasctl.comparison.statistics.estimates import Estimate, is_rounding, squares
from debiasctl.comparison.statistics.nearness import Nearness, nearness
from debiasctl.comparison.statistics.paired import correlation, covariance, paired, pairs_decide, shared
from debiasctl.comparison.statistics.planning import pairs_from
from debiasctl.comparison.statistics.pooled import Spread, Summary, alike, pooled, pooled_spread, summary
from debiasctl.comparison.statistics.ratios import Means, Ratio, fieller, log_ratio, logarithms
from debiasctl.errors import UsageError

Method = Literal["pooled t", "paired t", "borrowed"]
Pairing = Literal["auto", "yes", "no"]
Found = Estimate | Nearness
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
    found: Found | None = None
    method: Method | None = None
    ratio: Ratio = NO_RATIO
    correlation: float | None = None
    arms: int = 2  # that the variance is pooled over
    pairs_from: int | None = None  # the seeds an arm from which more of them would be compared as pairs
    by_seeds: float | None = None  # with one seed: how often other seeds would do as much, if another arm shows it

    @property
    def improves(self) -> bool:
        """Whether the difference is for the better."""
        return (self.difference or 0.0) > 0 if self.better == "higher" else (self.difference or 0.0) < 0

    def run_spread(self, part: Estimate) -> float:
        """The standard deviation of one run; that of a pair's difference over √2 where seeds are paired."""
        return part.error / math.sqrt(1 / self.num[0] + 1 / self.num[1])


@dataclass(frozen=True, slots=True)
class _Arm:
    """An arm's figures by seed, and their summaries; `logs` is None if one is not above 0."""

    by_seed: dict[int, float]
    plain: Summary
    logs: Summary | None


@dataclass(frozen=True)
class _Prepared:
    """A cell with what all its contrasts share."""

    cell: Cell
    usable: dict[str, _Arm]
    unusable: dict[str, str]  # arm -> reason


def contrasts(
    cells: Sequence[Cell], reference: str, *, pairing: Pairing, borrowing: bool, level: float
) -> list[list[Contrast]]:
    """For each cell, one contrast for each arm but the reference.

    Raises:
        UsageError: if pairs are demanded and the seeds of two arms differ.
    """
    prepared = [_prepare(cell) for cell in cells]
    prior = _prior(prepared) if borrowing else None
    others = [values.arm for values in cells[0].arms if values.arm != reference]
    return [[_contrast(one, arm, reference, pairing, prior, level) for arm in others] for one in prepared]


def _prepare(cell: Cell) -> _Prepared:
    unusable = {values.arm: reason for values in cell.arms if (reason := _unusable(cell, values))}
    usable = {}
    for values in cell.arms:
        if values.arm not in unusable:
            logs = logarithms(values.values)
            by_seed = dict(zip(values.seeds, values.values, strict=True))
            usable[values.arm] = _Arm(by_seed, summary(values.values), summary(logs) if logs is not None else None)
    return _Prepared(cell, usable, unusable)


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
    found = []
    for one in prepared:
        spread = pooled_spread(arm.plain for arm in one.usable.values())
        if spread is not None and one.cell.sampling is not None:
            found.append((spread, one.cell.sampling))
    return fitted_prior(found)


def _contrast(
    one: _Prepared, arm: str, reference: str, pairing: Pairing, prior: Prior | None, level: float
) -> Contrast:
    names = (arm, reference, one.cell.better)
    for name in (arm, reference):
        if name in one.unusable:
            sizes = {values.arm: len(values.values) for values in one.cell.arms}
            return Contrast(*names, (sizes[arm], sizes[reference]), "withheld", one.unusable[name])
    a, b = one.usable[arm], one.usable[reference]
    if pairing == "yes" and a.by_seed.keys() != b.by_seed.keys():
        odd = ", ".join(str(seed) for seed in sorted(a.by_seed.keys() ^ b.by_seed.keys()))
        raise UsageError(
            f"`paired` asks for pairs of seeds, and these are in only one of {arm!r} and {reference!r}: {odd}"
        )
    both, larger, least = shared(a.by_seed, b.by_seed), max(a.plain.num, b.plain.num), pairs_from(len(one.cell.arms))
    pairs = pairing == "yes" or (pairing == "auto" and pairs_decide(len(both[0]), larger, least=least))
    values = both if pairs else (list(a.by_seed.values()), list(b.by_seed.values()))
    some = pairs and len(both[0]) < larger
    sides = (summary(both[0]), summary(both[1])) if some else (a.plain, b.plain)
    means, num = (sides[0].mean, sides[1].mean), (sides[0].num, sides[1].num)
    difference = nearness(means[0] - means[1], sum(means)) if one.cell.better == "zero" else means[0] - means[1]
    related = correlation(*both)
    pool = list(one.usable.values())
    if not pairs and one.cell.better != "zero":
        pool = [other for other in pool if alike(other.plain, a.plain, b.plain)]
    if min(num) < 2:
        reason = _one_seed([name for name, n in zip((arm, reference), num, strict=True) if n < 2])
        ratio, often = _plain_ratio(one.cell, means), _by_seeds(one.cell, a, b, pool)
        return Contrast(*names, num, "one seed", reason, means, difference, ratio=ratio, by_seeds=often)
    found, method, ratio = _paired(one.cell, *values, level) if pairs else _pooled(one.cell, a, b, pool, prior, level)
    if found is None:
        return Contrast(*names, num, *_without_spread(*values), means, difference, None, method, correlation=related)
    complete = a.by_seed.keys() == b.by_seed.keys()
    later = {"yes": 2, "auto": least if complete or pairs else None, "no": None}[pairing]
    arms = sum(other.plain.num > 1 for other in pool)
    return Contrast(*names, num, None, None, means, difference, found, method, ratio, related, arms, later)


def _pooled(
    cell: Cell, a: _Arm, b: _Arm, pool: Sequence[_Arm], prior: Prior | None, level: float
) -> tuple[Found | None, Method, Ratio]:
    spread, method = pooled_spread(arm.plain for arm in pool), POOLED
    if spread is None:
        return None, method, NO_RATIO
    logs = pooled_spread(arm.logs for arm in pool if arm.logs is not None)
    if prior is not None and cell.sampling is not None:
        own = spread
        spread, method = prior.shrunk(own, cell.sampling), BORROWED
        if logs is not None:
            logs = Spread(logs.variance * spread.variance / own.variance, spread.freedom)
    found: Found = pooled(a.plain, b.plain, spread)
    if cell.better == "zero":
        found = Nearness(pooled(a.plain, b.plain, spread), pooled(a.plain, b.plain, spread, sign=-1))
    elif logs is not None and a.logs is not None and b.logs is not None:
        return found, method, log_ratio(pooled(a.logs, b.logs, logs), level=level)
    variances = spread.variance / a.plain.num, spread.variance / b.plain.num
    means = Means(a.plain.mean, b.plain.mean, *variances, 0.0, spread.freedom)
    return found, method, fieller(means, level=level, absolute=cell.better == "zero")


def _paired(cell: Cell, a: list[float], b: list[float], level: float) -> tuple[Found | None, Method, Ratio]:
    zero = cell.better == "zero"
    found: Found | None = paired(a, b)
    if zero and isinstance(found, Estimate):
        total = paired(a, b, sign=-1)
        found = Nearness(found, total) if total is not None else None
    if found is None:
        return None, PAIRED, NO_RATIO
    log_a, log_b = logarithms(a), logarithms(b)
    logs = paired(log_a, log_b) if not zero and log_a is not None and log_b is not None else None
    if logs is not None:
        return found, PAIRED, log_ratio(logs, level=level)
    sides = [summary(values) for values in (a, b)]
    variances = [side.squares / (len(a) - 1) / len(a) for side in sides]
    means = Means(sides[0].mean, sides[1].mean, variances[0], variances[1], covariance(a, b) / len(a), len(a) - 1)
    return found, PAIRED, fieller(means, level=level, absolute=zero)


def _one_seed(arms: Sequence[str]) -> str:
    single = " and of ".join(map(repr, arms))
    return (
        f"there is one seed of {single}, so that nothing can be said about the settings: nothing shows how much another"
        " seed would change"
    )


def _without_spread(a: list[float], b: list[float]) -> tuple[Literal["no spread", "equal pairs"], str | None]:
    """Why there is no test. Pairs that are equal throughout, while seeds differ, are of arms that are the same."""
    size = [*a, *b]
    if len(a) == len(b) and not is_rounding(squares(b) / (len(b) - 1), size):
        largest = max(abs(first - second) for first, second in zip(a, b, strict=True))
        return ("equal pairs", None) if is_rounding(largest**2, size) else ("no spread", SHIFTED)
    return "no spread", SAME


def _by_seeds(cell: Cell, a: _Arm, b: _Arm, pool: Sequence[_Arm]) -> float | None:
    """How often equal arms of so few seeds differ by as much, if an arm with more seeds shows their spread."""
    spread = pooled_spread(arm.plain for arm in pool)
    if spread is None:
        return None
    found = pooled(a.plain, b.plain, spread)
    return Nearness(found, pooled(a.plain, b.plain, spread, sign=-1)).p() if cell.better == "zero" else found.p()


def _plain_ratio(cell: Cell, means: tuple[float, float]) -> Ratio:
    arm, reference = (abs(value) for value in means) if cell.better == "zero" else means
    return Ratio(arm / reference, None, None) if reference > 0 else NO_RATIO
