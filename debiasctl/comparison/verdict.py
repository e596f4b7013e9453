"""The verdict over training seeds: which arm is better, by how much, and how many more seeds would settle it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from debiasctl.comparison.cells import ArmValues, Better, Cell
from debiasctl.comparison.contrasts import Contrast, Method, Pairing, contrasts
from debiasctl.comparison.evidence import evidence, undecided
from debiasctl.comparison.statistics.equivalence import MARGIN, equivalence_p, margin_of
from debiasctl.comparison.statistics.estimates import LEVEL, Estimate
from debiasctl.comparison.statistics.looks import Looks
from debiasctl.comparison.statistics.multiplicity import gated, holm
from debiasctl.comparison.statistics.nearness import Nearness
from debiasctl.comparison.statistics.planning import Design, seeds_for_difference, seeds_for_equivalence
from debiasctl.comparison.statistics.probability import NextRuns, nearer_probability, probability_intervals
from debiasctl.errors import UsageError

__all__ = ["ArmValues", "Better", "Cell", "Looks", "Method", "Pairing", "Verdict", "Word", "judge"]

Word = Literal["better", "worse", "equivalent", "inconclusive", "withheld", "one seed"]


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of one arm against the reference in one cell.

    `low` and `high` are a 95 % interval of the difference, as are `ratio_low` and `ratio_high` of the ratio. Where
    closer to 0 is better, `difference` and `ratio` are of the distances of the two means from 0.
    """

    cell: str
    arm: str
    reference: str
    word: Word
    difference: float | None  # arm minus reference
    low: float | None
    high: float | None
    ratio: float | None  # arm over reference
    ratio_low: float | None
    ratio_high: float | None
    ratio_note: str | None  # why the ratio or a limit is missing: "unbounded", ...
    p: float | None  # of this comparison alone
    p_corrected: float | None  # for all comparisons, the primary metric first, and for looks
    probability_better: float | None  # that the next run of the arm beats the next of the reference
    probability_low: float | None
    probability_high: float | None
    margin: float | None  # within which a difference counts as none
    seeds_more: int | None  # an arm, for 80 % power at the difference seen; 0 if decided; None if unknown or > 1,000
    seeds_more_equivalence: int | None  # an arm, to find two equal arms equivalent with 80 % power
    method: Method | None
    num: tuple[int, int]  # seeds of the arm and of the reference that the verdict rests on
    primary: bool
    seed_correlation: float | None  # of the two arms' figures over the seeds they share
    evidence: str  # one plain sentence
    reason: str | None  # why there is no better, worse or equivalent


@dataclass(frozen=True, slots=True)
class _Tested:
    """A contrast with its p values: of a difference and of being equivalent, corrected for all comparisons."""

    contrast: Contrast
    margin: float | None
    p: float | None
    p_corrected: float | None
    p_equivalent: float | None  # corrected
    primary: bool
    comparisons: int  # that p is corrected for


def judge(
    cells: Sequence[Cell],
    *,
    primary: str,
    reference: str | None = None,
    margin: float = MARGIN,
    paired: Pairing = "auto",
    borrowed: bool = False,
    looks: Looks | None = None,
) -> list[Verdict]:
    """The verdicts of all cells, in their order, on every arm but the reference (by default the first).

    `primary` is the key of the cell that decides, declared before the figures were seen; `margin` is a fraction of the
    reference's figure. Seeds are paired from five complete pairs on, or as `paired` says. With `borrowed`, variances
    between seeds are shrunk over metrics. With `looks`, this is one of several looks at growing numbers of seeds.

    Raises:
        UsageError: if the primary cell or the reference is unknown, the margin is no fraction, cells are named twice
            or have different arms, or pairs are demanded and the seeds differ.
    """
    names = _checked(cells, primary, margin, paired)
    base = names[0] if reference is None else reference
    if base not in names:
        raise UsageError(f"`reference` names no arm: {base!r}. The arms are {', '.join(map(repr, names))}")
    level = looks.nominal(LEVEL) if looks is not None else LEVEL
    table = contrasts(cells, base, pairing=paired, borrowing=borrowed, level=level)
    tested = _tested(cells, table, primary, margin, looks)
    chances = iter(_chances([one.contrast for row in tested for one in row], level))
    gates = [_gate(one, primary) for one in tested[[cell.key for cell in cells].index(primary)]]
    return [
        _verdict(cell, one, gate, level, next(chances), looks is not None)
        for cell, row in zip(cells, tested, strict=True)
        for one, gate in zip(row, gates, strict=True)
    ]


def _checked(cells: Sequence[Cell], primary: str, margin: float, paired: str) -> list[str]:
    """The names of the arms."""
    keys = [cell.key for cell in cells]
    if primary not in keys:
        raise UsageError(f"`primary` names no figure: {primary!r}. Known: {', '.join(keys) or 'none'}")
    if len(set(keys)) != len(keys):
        raise UsageError(f"figures are named twice: {', '.join(sorted({key for key in keys if keys.count(key) > 1}))}")
    if not 0 <= margin < 1:
        raise UsageError(f"`margin` is a fraction of the reference's figure, from 0 to less than 1, not {margin}")
    if paired not in ("auto", "yes", "no"):
        raise UsageError(f"`paired` is auto, yes or no, not {paired!r}")
    names = [values.arm for values in cells[0].arms]
    for cell in cells:
        if [values.arm for values in cell.arms] != names:
            raise UsageError(f"{cell.key} has not the arms of {cells[0].key}: {', '.join(map(repr, names))}")
    if not names or len(set(names)) != len(names):
        raise UsageError(f"arms need names that differ, not {', '.join(map(repr, names)) or 'none'}")
    return names


def _tested(
    cells: Sequence[Cell], table: list[list[Contrast]], primary: str, margin: float, looks: Looks | None
) -> list[list[_Tested]]:
    def over_looks(p: float | None) -> float | None:
        return p if p is None or looks is None else looks.spent(p)

    margins = [
        [_margin(contrast, margin) for contrast in row]
        for row in table
    ]  # fmt: skip
    p = [[_p(contrast) for contrast in row] for row in table]
    equal = [
        [_p_equivalent(*pair) for pair in zip(row, own, strict=True)] for row, own in zip(table, margins, strict=True)
    ]
    first = [cell.key for cell in cells].index(primary)
    rest = [index for index in range(len(cells)) if index != first]
    spent = [[over_looks(value) for value in row] for row in p]
    spent_equal = [[over_looks(value) for value in row] for row in equal]
    corrected, corrected_equal = {first: holm(spent[first])}, {first: holm(spent_equal[first])}
    corrected |= dict(zip(rest, gated(corrected[first], [spent[index] for index in rest]), strict=True))
    never = [0.0] * len(table[first])  # being equivalent passes no gate
    corrected_equal |= dict(zip(rest, gated(never, [spent_equal[index] for index in rest]), strict=True))
    arms = len(table[first])
    return [
        [
            _Tested(
                contrast, margins[i][j], p[i][j], corrected[i][j], corrected_equal[i][j], i == first,
                arms if i == first else arms * len(rest),
            )
            for j, contrast in enumerate(row)
        ]
        for i, row in enumerate(table)
    ]  # fmt: skip


def _margin(contrast: Contrast, fraction: float) -> float | None:
    if contrast.means is None:
        return None
    reference = contrast.means[1]
    return margin_of(abs(reference) if contrast.better == "zero" else reference, fraction)


def _p(contrast: Contrast) -> float | None:
    if contrast.found is not None:
        return contrast.found.p()
    return 1.0 if contrast.blocked == "equal pairs" else None


def _p_equivalent(contrast: Contrast, margin: float | None) -> float | None:
    if margin is None:
        return None
    if contrast.found is not None:
        return equivalence_p(contrast.found, margin)
    return 0.0 if contrast.blocked == "equal pairs" else None


def _word(one: _Tested) -> Word:
    """Equivalent comes first: a difference beyond chance that lies within the margin is one that does not matter."""
    blocked = one.contrast.blocked
    if blocked == "withheld" or blocked == "one seed":
        return blocked
    if one.p_equivalent is not None and one.p_equivalent <= LEVEL:
        return "equivalent"
    if one.p_corrected is not None and one.p_corrected <= LEVEL:
        return "better" if one.contrast.improves else "worse"
    return "inconclusive"


@dataclass(frozen=True, slots=True)
class _Chance:
    """The probability that the next run is better, with its interval."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


def _chances(found: Sequence[Contrast], level: float) -> list[_Chance]:
    """For all contrasts at once, as the noncentral t is slow one by one."""
    chances, single, where = [_Chance()] * len(found), [], []
    for index, contrast in enumerate(found):
        if isinstance(contrast.found, Nearness):
            both = (_next_runs(contrast, contrast.found.difference), _next_runs(contrast, contrast.found.total))
            chances[index] = _Chance(nearer_probability(*both))
        elif contrast.found is not None:
            single.append(_next_runs(contrast, contrast.found))
            where.append(index)
    for index, next_runs, limits in zip(where, single, probability_intervals(single, level=level), strict=True):
        value = next_runs.probability  # with two pairs of seeds, it may lie beyond a limit that is next to 0 or 1
        chances[index] = _Chance(value, min(limits[0], value), max(limits[1], value))
    return chances


def _next_runs(contrast: Contrast, part: Estimate) -> NextRuns:
    sign = -1 if contrast.better == "lower" else 1
    advantage = Estimate(sign * part.value, part.error, part.freedom)
    return NextRuns(advantage, contrast.run_spread(part) * math.sqrt(2))


def _more(one: _Tested) -> tuple[int | None, int | None]:
    """How many more seeds an arm: for the difference seen, and to find equal arms equivalent."""
    contrast = one.contrast
    if contrast.found is None:
        return None, None
    design = Design(contrast.arms, contrast.pairs_from)
    level = LEVEL / one.comparisons
    found = contrast.found
    parts = (found.difference, found.total) if isinstance(found, Nearness) else (found,)
    spreads = [contrast.run_spread(part) for part in parts]
    seen = [seeds_for_difference(p.value, s, design, level=level) for p, s in zip(parts, spreads, strict=True)]
    equal = seeds_for_equivalence(one.margin, min(spreads), design, level=level) if one.margin else None
    have = min(contrast.num)
    largest = None if None in seen else max(number for number in seen if number is not None)
    return _beyond(largest, have), _beyond(equal, have)


def _beyond(needed: int | None, have: int) -> int | None:
    """At least one more, as those at hand did not settle it."""
    return None if needed is None else max(needed - have, 1)


@dataclass(frozen=True, slots=True)
class _Gate:
    """What the primary metric says of one arm, for the others: its name if undecided, and the seeds it lacks."""

    closed: str | None
    more: int | None


def _gate(one: _Tested, primary: str) -> _Gate:
    decided = one.p_corrected is not None and one.p_corrected <= LEVEL
    return _Gate(None, 0) if decided else _Gate(primary, _more(one)[0])


def _verdict(cell: Cell, one: _Tested, gate: _Gate, level: float, chance: _Chance, looking: bool) -> Verdict:
    contrast, ratio, word = one.contrast, one.contrast.ratio, _word(one)
    low, high = (None, None)
    if contrast.found is not None:
        low, high = contrast.found.interval(level)
    elif contrast.blocked == "equal pairs":
        low = high = contrast.difference  # 0, but for rounding
    more, more_equal = (0, 0) if word in ("better", "worse", "equivalent") else _more(one)
    closed = None if one.primary else gate.closed
    if word == "inconclusive" and closed is not None and more is not None:
        more = None if gate.more is None else max(more, gate.more)
    if word == "inconclusive":
        interval = None if low is None or high is None else (low, high)
        reason = undecided(contrast, interval=interval, margin=one.margin, corrected=one.p_corrected, primary=closed)
    else:
        reason = contrast.reason
    return Verdict(
        cell=cell.key,
        arm=contrast.arm,
        reference=contrast.reference,
        word=word,
        difference=contrast.difference,
        low=low,
        high=high,
        ratio=ratio.value,
        ratio_low=ratio.low,
        ratio_high=ratio.high,
        ratio_note=ratio.note,
        p=one.p,
        p_corrected=one.p_corrected,
        probability_better=chance.value,
        probability_low=chance.low,
        probability_high=chance.high,
        margin=one.margin,
        seeds_more=more,
        seeds_more_equivalence=more_equal,
        method=contrast.method,
        num=contrast.num,
        primary=one.primary,
        seed_correlation=contrast.correlation,
        evidence=evidence(contrast, p=one.p, corrected=one.p_corrected, comparisons=one.comparisons, looking=looking),
        reason=reason,
    )
