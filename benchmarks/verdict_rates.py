"""How often the whole verdict errs and finds, on simulated figures whose truth is known.

python benchmarks/verdict_rates.py [--replicates 2000] [--seed 0] [--only a-a,power,...]

Each figure is a mean, an effect of the training seed and sampling error, with the ratio of both variances and the
correlation of the two arms' seed effects as measured on runs of `digits` (60 steps, 1,000 images). Effects of one seed
on different metrics are correlated. Every replicate is one call of `judge` on figures of all metrics and arms.
"""

import argparse
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from debiasctl.comparison.cells import ArmValues, Better, Cell
from debiasctl.comparison.statistics.looks import Looks
from debiasctl.comparison.statistics.speed_up import SpeedUp, speed_up
from debiasctl.comparison.verdict import Verdict, judge

SHARED = 0.5  # correlation of one run's effects on two metrics
DIFFERENT = ("better", "worse")
DECIDED = (*DIFFERENT, "equivalent")
SEEDS = (2, 3, 5, 10)


@dataclass(frozen=True)
class Metric:
    """One metric: its mean figure, standard deviation between runs, and what this is made of."""

    name: str
    better: Better
    mean: float
    spread: float
    seed_share: float  # of the variance
    correlation: float  # of the two arms' seed effects


def _metric(name: str, better: Better, mean: float, spread: float, ratio: float, correlation: float) -> Metric:
    return Metric(name, better, mean, spread, ratio / (1 + ratio), correlation)


METRICS = (
    _metric("fd_local", "lower", 1.0, 0.1, 1.1, 0.0),
    _metric("kd_local", "lower", 0.02, 0.004, 1.3, -0.2),
    _metric("precision", "higher", 0.7, 0.05, 1.0, 0.2),
    _metric("density", "higher", 0.9, 0.1, 1.7, 0.3),
    _metric("spectrum_distance", "lower", 0.05, 0.01, 5.5, 0.1),
    _metric("mean_shift", "zero", 0.0, 0.02, 2.5, 0.5),
    _metric("std_shift", "zero", 0.05, 0.02, 2.5, 0.3),
    _metric("recall", "higher", 0.6, 0.05, 0.5, 0.0),
    _metric("colour_fd", "lower", 0.001, 0.0003, 3.4, 0.5),
)


def simulated(
    generator: np.random.Generator,
    metrics: Sequence[Metric],
    *,
    seeds: Sequence[int],
    effects: Sequence[float] | None = None,
    effect_on: int | None = None,
    spreads: Sequence[float] | None = None,
    skewed: bool = False,
) -> list[Cell]:
    """Figures of one study: `seeds` runs an arm; arm k differs by `effects[k]` standard deviations of one run.

    The effect is on all metrics, or on the one that `effect_on` counts; arm k varies `spreads[k]` times as much.
    """
    arms, most = len(seeds), max(seeds)
    seed_share = np.array([metric.seed_share for metric in metrics])
    rho = np.array([metric.correlation for metric in metrics])
    if arms > 2:
        rho = np.maximum(rho, -0.4 / (arms - 1))  # as low as it can be for so many arms

    def correlated(*shape: int) -> np.ndarray:  # over metrics, the last axis
        own, common = generator.standard_normal((*shape, len(metrics))), generator.standard_normal((*shape, 1))
        return math.sqrt(1 - SHARED) * own + math.sqrt(SHARED) * common

    each = correlated(arms, most)
    root_within, root_mean = np.sqrt(1 - rho), np.sqrt(1 + (arms - 1) * rho)
    center = each.mean(axis=0, keepdims=True)  # scaled so that arms correlate by rho, be it below 0
    seed_effects = root_within * (each - center) + root_mean * center
    noise = np.sqrt(seed_share) * seed_effects + np.sqrt(1 - seed_share) * correlated(arms, most)
    if skewed:  # chi-squared of 8 degrees of freedom, by the cube root transformation
        noise = (8 * (1 - 2 / 72 + noise / 6) ** 3 - 8) / 4
    cells = []
    for index, metric in enumerate(metrics):
        values = []
        for arm, count in enumerate(seeds):
            moved = effects is not None and effect_on in (None, index)
            shift = effects[arm] if moved and effects is not None else 0.0
            scale = 1.0 if spreads is None else spreads[arm]
            figures = metric.mean + metric.spread * (shift + scale * noise[arm, :count, index])
            values.append(ArmValues(f"arm{arm}", tuple(range(count)), tuple(figures.tolist())))
        sampling = metric.spread**2 * (1 - metric.seed_share)
        cells.append(Cell(metric.name, metric.name, 50, metric.better, tuple(values), sampling=sampling))
    return cells


@dataclass(frozen=True)
class Rate:
    """A share of replicates, what it is of, and the most or least that is promised."""

    what: str
    value: float
    most: float = 1.0
    least: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the promise is kept."""
        return self.least <= self.value <= self.most

    def __str__(self) -> str:
        limit = f"<= {100 * self.most:g}" if self.most < 1 else f">= {100 * self.least:g}" if self.least else ""
        return f"{self.what:<100} {100 * self.value:5.1f} % {limit:<6} {'' if self.kept else '  MISSED'}".rstrip()


def share(count: int, once: Callable[[], bool]) -> float:
    """The share of replicates in which it is so."""
    return sum(once() for _ in range(count)) / count


def is_different(found: Verdict) -> bool:
    """Whether an arm is called better or worse."""
    return found.word in DIFFERENT


def equal_arms(
    generator: np.random.Generator, count: int, *, arms: int, seeds: int, skewed: bool = False, borrowed: bool = False
) -> tuple[float, float, float]:
    """Of equal arms called different: by the primary metric, by any metric, and by any if nothing were corrected."""
    found = [0, 0, 0]
    for _ in range(count):
        cells = simulated(generator, METRICS, seeds=[seeds] * arms, skewed=skewed)
        verdicts = judge(cells, primary="fd_local", borrowed=borrowed)
        found[0] += any(is_different(one) for one in verdicts if one.primary)
        found[1] += any(map(is_different, verdicts))
        found[2] += any(one.p is not None and one.p <= 0.05 for one in verdicts)
    return found[0] / count, found[1] / count, found[2] / count


def one_metric(correlation: float, *, cv: float = 0.1, seed_share: float = 1.0) -> Metric:
    """A metric of mean 1 whose figures in both arms correlate as given."""
    return Metric("only", "lower", 1.0, cv, seed_share, correlation)


def until_decided(
    generator: np.random.Generator,
    metrics: Sequence[Metric],
    planned: Sequence[int],
    *,
    effect: float = 0.0,
    margin: float = 0.05,
) -> tuple[Verdict, int]:
    """The primary verdict, and its seeds, of a sweep that adds seeds until it is decided."""
    whole = simulated(generator, metrics, seeds=[planned[-1]] * 2, effects=(0.0, effect))
    for at in planned:
        arms = [
            tuple(replace(values, seeds=values.seeds[:at], values=values.values[:at]) for values in cell.arms)
            for cell in whole
        ]
        cells = [replace(cell, arms=own) for cell, own in zip(whole, arms, strict=True)]
        verdict = judge(cells, primary=cells[0].key, looks=Looks(tuple(planned), at), margin=margin)[0]
        if verdict.word in DECIDED:
            break
    return verdict, at


def learning_curves(
    generator: np.random.Generator, seeds: int, *, faster: float = 1.0, last: float = 64000
) -> dict[int, list[tuple[float, float]]]:
    """Distances that fall with the root of the images seen, from 1,000 on, and reach 1 near 16,000 / `faster`."""
    images = np.geomspace(1000, last, 13)
    curves = {}
    for seed in range(seeds):
        noise = generator.normal(0, 0.08) + generator.normal(0, 0.03, len(images))
        curves[seed] = list(
            zip(images.tolist(), (np.sqrt(16000 / faster / images) * np.exp(noise)).tolist(), strict=True)
        )
    return curves


def sped_up(generator: np.random.Generator, seeds: int, *, faster: float = 1.0, last: float = 64000) -> SpeedUp:
    """One comparison of two arms' curves at the level 1."""
    arms = [learning_curves(generator, seeds, faster=rate, last=last) for rate in (faster, 1.0)]
    return speed_up(arms[0], arms[1], level=1.0, better="lower")


def a_a_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """Equal arms."""
    for arms in (2, 4):
        for seeds in SEEDS:
            first, any_metric, bare = equal_arms(generator, count, arms=arms, seeds=seeds)
            name = f"{arms} equal arms, {seeds} seeds, 9 metrics"
            yield Rate(f"{name}: different by the primary metric", first, most=0.06)
            yield Rate(f"{name}: different by any metric", any_metric, most=0.06)
            yield Rate(f"{name}: any uncorrected p below 0.05", bare)
    for seeds in (3, 5):
        first, any_metric, _ = equal_arms(generator, count, arms=2, seeds=seeds, skewed=True)
        yield Rate(f"2 equal arms, {seeds} seeds, skewed figures: different by any metric", any_metric, most=0.06)
        first, any_metric, _ = equal_arms(generator, count, arms=2, seeds=seeds, borrowed=True)
        yield Rate(f"2 equal arms, {seeds} seeds, borrowed: different by any metric", any_metric, most=0.06)


def correlation_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """Equal arms whose figures correlate, with and without sampling error that does not."""
    for correlation in (-0.2, 0.0, 0.2, 0.5):
        for seeds in SEEDS:
            for name, seed_share in (("seeds alone", 1.0), ("seed/sampling variance 1.3", 1.3 / 2.3)):
                metric = one_metric(correlation, seed_share=seed_share)
                yield Rate(
                    f"correlation {correlation:+.1f}, {name}, {seeds} seeds: different",
                    share(count, lambda: is_different(_one(generator, metric, seeds, 0.0))),  # noqa: B023
                    most=0.085 if correlation < 0 and seeds < 5 else 0.07,  # of 32 at once, some are 3 errors off
                )

    for correlation in (-0.13, 0.5):
        for seeds in (3, 5, 10):

            def any_arm() -> bool:
                cells = simulated(generator, [one_metric(correlation)], seeds=[seeds] * 4)  # noqa: B023
                return any(map(is_different, judge(cells, primary="only")))

            what = f"correlation {correlation:+.2f}, seeds alone, 4 arms, {seeds} seeds: any different"
            yield Rate(what, share(count, any_arm), most=0.085 if correlation < 0 and seeds < 9 else 0.07)


def _one(generator: np.random.Generator, metric: Metric, seeds: int, effect: float, margin: float = 0.05) -> Verdict:
    cells = simulated(generator, [metric], seeds=[seeds] * 2, effects=(0.0, effect))
    return judge(cells, primary=metric.name, margin=margin)[0]


def power_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """A true difference, in standard deviations of one run over seeds, on the primary metric (fd_local)."""
    for seeds in (2, 3, 5):
        for effect in (2.0, 3.0, 4.0):
            found = share(count, lambda: _one(generator, METRICS[0], seeds, effect).word == "worse")  # noqa: B023
            promised = 0.8 if seeds == 5 and effect == 3 else 0.0
            yield Rate(f"{seeds} seeds, true difference of {effect:.0f} SD of runs: found", found, least=promised)
    for seeds in (3, 5):

        def one_of_four() -> bool:
            cells = simulated(generator, METRICS[:1], seeds=[seeds] * 4, effects=(0, 0, 3, 0))  # noqa: B023
            return judge(cells, primary="fd_local")[1].word == "worse"

        yield Rate(
            f"4 arms, {seeds} seeds, one differs by 3 SD of runs: found",
            share(count, one_of_four),
            least=0.8 * (seeds == 5),
        )
    alone = 3 * math.sqrt(METRICS[0].seed_share)
    for method in ("auto", "no"):

        def once() -> bool:
            cells = simulated(generator, METRICS[:1], seeds=[5, 5], effects=(0.0, alone))
            return judge(cells, primary="fd_local", paired=method)[0].word == "worse"  # noqa: B023

        yield Rate(
            f"5 seeds, 3 SD of the seeds' part alone ({alone:.2f} SD of runs), paired {method}: found",
            share(count, once),
        )


def equivalence_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """A true difference of just the margin, and none."""
    for cv in (0.01, 0.02, 0.03):
        for seeds in (3, 5, 10):
            metric = one_metric(0.0, cv=cv)
            wrong = share(count, lambda: _one(generator, metric, seeds, 0.05 / cv).word == "equivalent")  # noqa: B023
            right = share(count, lambda: _one(generator, metric, seeds, 0.0).word == "equivalent")  # noqa: B023
            yield Rate(
                f"CV {cv:.0%}, {seeds} seeds, true difference of the margin: equivalent (wrong)", wrong, most=0.05
            )
            yield Rate(f"CV {cv:.0%}, {seeds} seeds, no difference: equivalent (right)", right)


def stopping_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """Seeds added until the verdict is decided."""
    for planned in (tuple(range(2, 11)), (3, 5, 8), (2, 3, 4, 5), (3, 4, 5)):
        name = f"until decided, looks at {', '.join(map(str, planned))}"
        ends = [until_decided(generator, METRICS[:3], planned) for _ in range(count)]
        yield Rate(f"{name}: equal arms different", sum(is_different(one) for one, _ in ends) / count, most=0.06)
        near = [until_decided(generator, [one_metric(0.0, cv=0.02)], planned, effect=2.5) for _ in range(count)]
        wrong = sum(one.word == "equivalent" for one, _ in near) / count
        yield Rate(f"{name}, CV 2 %, at the margin: equivalent (wrong)", wrong, most=0.05)
        far = [until_decided(generator, METRICS[:1], planned, effect=3.0) for _ in range(count)]
        mean = sum(at for _, at in far) / count
        yield Rate(f"{name}, 3 SD of runs: found, after {mean:.1f} seeds", sum(is_different(v) for v, _ in far) / count)


def coverage_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """Intervals of differences, ratios, distances from 0 and the probability of the next run."""
    for cv in (0.05, 0.15, 0.3):
        for seeds in SEEDS:
            found = [_one(generator, one_metric(0.0, cv=cv), seeds, 1.0) for _ in range(count)]
            yield Rate(f"CV {cv:.0%}, {seeds} seeds: interval of the difference holds", _held(found, "low", "high", cv))
            equal = [_one(generator, one_metric(0.0, cv=cv), seeds, 0.0) for _ in range(count)]
            yield Rate(
                f"CV {cv:.0%}, {seeds} seeds: interval of the ratio holds", _held(equal, "ratio_low", "ratio_high", 1.0)
            )
            truth = 0.2398  # that a figure one standard deviation higher on average comes out lower
            held = _held(found, "probability_low", "probability_high", truth)
            yield Rate(f"CV {cv:.0%}, {seeds} seeds: interval of the probability holds", held)
    for mean, effect in ((0.0, 0.0), (0.0, 2.0), (3.0, -6.0), (3.0, 0.0), (1.0, 1.0)):
        metric = Metric("shift", "zero", mean, 1.0, 1.0, 0.0)
        truth = abs(mean + effect) - abs(mean)
        for seeds in (3, 5):
            found = [_one(generator, metric, seeds, effect) for _ in range(count)]
            name = f"nearer to 0, means {mean:.0f} and {mean + effect:.0f} SD, {seeds} seeds"
            yield Rate(f"{name}: interval holds", _held(found, "low", "high", truth))
            if truth == 0:
                yield Rate(f"{name}: different", sum(map(is_different, found)) / count, most=0.06)


def _held(found: Sequence[Verdict], low: str, high: str, truth: float) -> float:
    def limit(one: Verdict, name: str, without: float) -> float:
        return without if getattr(one, name) is None else float(getattr(one, name))

    return sum(limit(one, low, -math.inf) <= truth <= limit(one, high, math.inf) for one in found) / len(found)


def speed_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """First crossings of a level, with curves that reach it and with curves that may not."""
    for seeds in (3, 5):
        equal = [sped_up(generator, seeds) for _ in range(count)]
        yield Rate(f"speed-up, {seeds} seeds, equal arms: p below 0.05", _significant(equal), most=0.06)
        cut = [sped_up(generator, seeds, last=16000) for _ in range(count)]
        yield Rate(
            f"speed-up, {seeds} seeds, equal arms, half of the curves end before: p below 0.05",
            _significant(cut),
            most=0.06,
        )
        twice = [sped_up(generator, seeds, faster=2.0) for _ in range(count)]
        yield Rate(
            f"speed-up, {seeds} seeds, twice as fast: p below 0.05", _significant(twice), least=0.8 * (seeds == 5)
        )
        cut = [sped_up(generator, seeds, faster=2.0, last=14000) for _ in range(count)]
        above = sum(one.low is not None and one.low > 2 for one in cut) / count
        yield Rate(
            f"speed-up, {seeds} seeds, twice as fast, most of the reference ends before: lower limit above 2",
            above,
            most=0.05,
        )


def _significant(found: Sequence[SpeedUp]) -> float:
    return sum(one.p is not None and one.p <= 0.05 for one in found) / len(found)


def mixed_rates(generator: np.random.Generator, count: int) -> Iterator[Rate]:
    """Some arms differ, some do not; arms of different sizes and spreads."""
    for seeds in (3, 5):
        wrong = 0
        for _ in range(count):
            cells = simulated(generator, METRICS, seeds=[seeds] * 4, effects=(0, 8, 0, 0), effect_on=0)
            verdicts = judge(cells, primary="fd_local")
            wrong += any(is_different(one) for one in verdicts if not (one.primary and one.arm == "arm1"))
        yield Rate(f"4 arms, {seeds} seeds, one differs in the primary metric alone: any false word", wrong / count)
    for sizes, spreads in (
        ((3, 6), (1, 1)),
        ((3, 3), (1, 2)),
        ((3, 3), (1, 4)),
        ((3, 6), (2, 1)),
        ((3, 3, 3, 3), (1, 1, 1, 2)),
    ):
        wrong = 0
        for _ in range(count):
            cells = simulated(generator, METRICS[:1], seeds=sizes, spreads=spreads)
            wrong += any(map(is_different, judge(cells, primary="fd_local")))
        yield Rate(f"equal arms of {sizes} seeds with spreads {spreads}: different", wrong / count)


PARTS: dict[str, Callable[[np.random.Generator, int], Iterator[Rate]]] = {
    "a-a": a_a_rates,
    "correlation": correlation_rates,
    "power": power_rates,
    "equivalence": equivalence_rates,
    "stopping": stopping_rates,
    "coverage": coverage_rates,
    "speed-up": speed_rates,
    "mixed": mixed_rates,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(PARTS))
    given = parser.parse_args()
    start = time.perf_counter()
    for name in given.only.split(","):
        for rate in PARTS[name](np.random.default_rng(given.seed), given.replicates):
            print(rate, flush=True)
    print(f"{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
