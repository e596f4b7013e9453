"""How often equal arms are called different on real runs: runs that differ in seed alone, split into arms many times.

    python benchmarks/equal_arms.py 'digits-constant-s*' [--splits 2000] [--seeds 2,3,5] [--primary METRIC@STEPS]

Each split draws two disjoint arms of n runs at random and is one call of `judge` on all figures, as `compare` makes
them. Members of both arms are numbered from 0, as a sweep's seeds are, so that pairs are tested where they would be in
a sweep. If there are no more splits than `--splits`, each is taken once.

Splits of the same runs overlap, so their number says little about the error of a rate. It is given by a jackknife over
runs, and for the primary metric also by a simulation: sets of as many runs with normal figures, each split likewise.
"""

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from debiasctl.comparison.cells import ArmValues, Cell
from debiasctl.comparison.differences import difference
from debiasctl.comparison.evaluations import evaluations_of
from debiasctl.comparison.study import study_of
from debiasctl.comparison.study_record import Study, StudyCell
from debiasctl.comparison.verdict import Pairing, judge
from debiasctl.runs.selection import matching_runs
from debiasctl.runs.store import Run

DIFFERENT = ("better", "worse")
SETS = 2000  # of simulated runs
Split = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Outcome:
    """What one split came to: called different by the primary metric, by any, and any p value below 0.05."""

    split: Split
    different: tuple[bool, bool, bool]


def all_splits(runs: int, seeds: int) -> Iterator[Split]:
    for first in itertools.combinations(range(runs), seeds):
        rest = [run for run in range(first[0] + 1, runs) if run not in first]
        for second in itertools.combinations(rest, seeds):  # the arms' order does not matter: each pair of sets once
            yield first, second


def count_splits(runs: int, seeds: int) -> int:
    return math.comb(runs, seeds) * math.comb(runs - seeds, seeds) // 2


def drawn_splits(runs: int, seeds: int, most: int, draws: random.Random) -> list[Split]:
    """Different splits in random order, and their members too: who is paired with whom is part of the lot."""
    if count_splits(runs, seeds) <= most:
        found = list(all_splits(runs, seeds))
    else:
        unique: dict[frozenset[frozenset[int]], Split] = {}
        while len(unique) < most:
            drawn = draws.sample(range(runs), 2 * seeds)
            first, second = tuple(drawn[:seeds]), tuple(drawn[seeds:])
            unique[frozenset((frozenset(first), frozenset(second)))] = (first, second)
        found = list(unique.values())
    return [tuple(tuple(draws.sample(arm, len(arm))) for arm in split) for split in found]  # type: ignore[misc]


def figures_of(study: Study, seeds: Sequence[int]) -> dict[str, list[float]]:
    """The figures of all runs by cell, in the order of their seeds."""
    found = {}
    for cell in study.cells:
        values = {one.seed: one.value for one in cell.arms[0].figures}
        if values.keys() == set(seeds):
            found[cell.key] = [values[seed] for seed in seeds]
    return found


def cells_of(study: Study, figures: dict[str, list[float]], split: Split) -> list[Cell]:
    return [
        Cell(cell.key, cell.metric, None, cell.better, tuple(
            ArmValues(name, tuple(range(len(arm))), tuple(figures[cell.key][run] for run in arm))
            for name, arm in zip("ab", split, strict=True)
        ))
        for cell in study.cells
        if cell.key in figures
    ]  # fmt: skip


def outcomes(study: Study, figures: dict[str, list[float]], splits: Sequence[Split], paired: Pairing) -> list[Outcome]:
    found = []
    for split in splits:
        verdicts = judge(cells_of(study, figures, split), primary=study.primary, paired=paired)
        called = [one.word in DIFFERENT for one in verdicts]
        first = any(is_so for is_so, one in zip(called, verdicts, strict=True) if one.primary)
        found.append(Outcome(split, (first, any(called), any(one.p is not None and one.p <= 0.05 for one in verdicts))))
    return found


def jackknife_error(found: Sequence[Outcome], which: int, runs: int) -> float:
    """The standard error over runs of a rate; where splits were drawn, their own error is part of it."""
    rates = []
    for left_out in range(runs):
        kept = [one.different[which] for one in found if not any(left_out in arm for arm in one.split)]
        rates.append(sum(kept) / len(kept))
    mean = sum(rates) / runs
    return math.sqrt((runs - 1) / runs * sum((rate - mean) ** 2 for rate in rates))


def simulated_rates(splits: Sequence[Split], runs: int, *, paired: bool) -> tuple[float, float]:
    """The mean and standard deviation of the primary metric's rate over sets of runs with normal figures."""
    values = np.random.default_rng(0).normal(size=(SETS, runs))
    rates = np.zeros(SETS)
    seeds = len(splits[0][0])
    limit = student.ppf(0.975, seeds - 1 if paired else 2 * seeds - 2)
    for first, second in splits:
        one, other = values[:, list(first)], values[:, list(second)]
        if paired:
            error = (one - other).std(axis=1, ddof=1) / math.sqrt(seeds)
        else:
            error = np.sqrt((one.var(axis=1, ddof=1) + other.var(axis=1, ddof=1)) / seeds)
        rates += np.abs(one.mean(axis=1) - other.mean(axis=1)) > limit * error
    rates /= len(splits)
    return float(rates.mean()), float(rates.std())


def sampling_rates(study: Study, runs: Sequence[Run], primary: str) -> tuple[dict[str, float], float, int]:
    """How often the sampling intervals of two single runs call them different: by each metric, and by any."""
    records = {(run.name, one.key): one.record for run in runs for one in evaluations_of(run)}
    names = {member.seed: member.source for member in study.arms[0].members}
    pairs = list(itertools.combinations(sorted(names), 2))
    apart: dict[str, list[bool]] = {}
    for cell in study.cells:
        keys = {one.seed: one.record for one in cell.arms[0].figures}
        figures = {
            seed: records[names[seed], key].metrics[cell.metric] for seed, key in keys.items() if key is not None
        }
        found = [_apart(cell, figures.get(one), figures.get(other)) for one, other in pairs]
        if None not in found:
            apart[cell.key] = [bool(one) for one in found]
    anywhere = [any(one) for one in zip(*apart.values(), strict=True)]
    return {key: sum(found) / len(pairs) for key, found in apart.items()}, sum(anywhere) / len(pairs), len(pairs)


def _apart(cell: StudyCell, one: object, other: object) -> bool | None:
    """Whether the interval of the difference leaves out 0; closer to 0 is another figure, if that of the sum does."""
    if one is None or other is None:
        return None
    parts = [difference(one, other, sign=sign) for sign in ((1, -1) if cell.better == "zero" else (1,))]  # type: ignore[arg-type]
    if any(part is None for part in parts):
        return None
    return all(part is not None and not part.low <= 0 <= part.high for part in parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN_PATTERN")
    parser.add_argument("--splits", type=int, default=2000)
    parser.add_argument("--seeds", default="2,3,5")
    parser.add_argument("--primary")
    parser.add_argument("--seed", type=int, default=0, help="of the lot")
    given = parser.parse_args()
    begun = time.perf_counter()
    runs = matching_runs(given.runs)
    study = study_of(runs, primary=given.primary, with_curves=False)
    if len(study.arms) != 1:
        parser.error(f"these runs are {len(study.arms)} arms, not one: {', '.join(arm.name for arm in study.arms)}")
    seeds = study.arms[0].seeds
    figures = figures_of(study, seeds)
    print(f"{len(seeds)} runs, {len(figures)} figures of each, the primary one is {study.primary}")
    first = next(cell for cell in study.cells if cell.key == study.primary).arms[0]
    print(f"its mean is {first.mean:.4g}, its standard deviation over seeds {first.sd:.3g}")
    if first.withheld:
        print(f"a study of these runs would withhold its verdict, which is ignored here: {first.withheld}")
    for number in map(int, given.seeds.split(",")):
        if 2 * number > len(seeds):
            parser.error(f"two arms of {number} seeds need {2 * number} runs, not {len(seeds)}")
        splits = drawn_splits(len(seeds), number, given.splits, random.Random(given.seed))
        for paired in ("auto", "no") if number >= 5 else ("auto",):
            _print_row(study, figures, splits, paired, runs=len(seeds))  # type: ignore[arg-type]
    by_metric, anywhere, pairs = sampling_rates(study, runs, study.primary)
    print(f"sampling intervals of two single runs, {pairs} pairs: different by any of {len(by_metric)} figures "
          f"{anywhere:.0%}, by " + ", ".join(f"{key} {rate:.0%}" for key, rate in by_metric.items()))  # fmt: skip
    print(f"{time.perf_counter() - begun:.0f} s")


def _print_row(
    study: Study, figures: dict[str, list[float]], splits: Sequence[Split], paired: Pairing, *, runs: int
) -> None:
    seeds = len(splits[0][0])
    found = outcomes(study, figures, splits, paired)
    rates = [sum(one.different[which] for one in found) / len(found) for which in range(3)]
    room = 2 * seeds < runs
    errors = [f"{100 * jackknife_error(found, which, runs):.1f}" if room else "unknown" for which in range(3)]
    lot = " (all)" if len(splits) == count_splits(runs, seeds) else ""
    said = ", ".join(
        f"{what} {100 * rate:.1f} ± {error} %"
        for what, rate, error in zip(("primary", "any figure", "any bare p below 0.05"), rates, errors, strict=True)
    )
    mean, deviation = simulated_rates(splits, runs, paired=paired == "auto" and seeds >= 5)
    test = "pairs" if paired == "auto" and seeds >= 5 else "pooled"
    print(f"{seeds} seeds an arm, {test}, {len(splits):,} splits{lot}: different by {said}; of {runs} normal runs the "
          f"primary metric would have {100 * mean:.1f} ± {100 * deviation:.1f} %", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
