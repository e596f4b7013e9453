"""How often evaluation's intervals hold the truth, on real images.

python benchmarks/coverage_real.py CIFAR [--features pixels,local-ssl,local] [--num 1000,2000] [--replicates 400]
    [--seed 0] [--metrics fd,kd] [--cache FOLDER] [--cells]

CIFAR is a folder with CIFAR-10 as JPEG files (train/CLASS/*.jpg, test/CLASS/*.jpg) or a tar archive of one. Images are
drawn with replacement from populations of 4,000 (benchmarks/real_populations.py), so that the truth is exact. Each
replicate draws every population at the same places: differences of two populations share their noise, or, with the
replicate before, do not. Held-out images are drawn anew too. The kernel is replaced by its 200 leading directions and
that of the mean, whose distances are known exactly as well. `--cells` prints every cell, and on which side misses lie.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from real_populations import SIZE, prepared
from torch import Tensor

from debiasctl.evaluation import copies
from debiasctl.evaluation.metrics.distances import covariance_root, gaussian_moments
from debiasctl.evaluation.metrics.neighbours import manifolds, nearest_distances
from debiasctl.evaluation.uncertainty.intervals import (
    GROUPS,
    Interval,
    Jackknife,
    difference_interval,
    jackknife,
    jackknife_interval,
    squared_interval,
    with_skewness,
)
from debiasctl.evaluation.uncertainty.jackknife import Division, left_out_sets
from debiasctl.evaluation.uncertainty.shares import paired_difference, reaching, share_interval
from debiasctl.evaluation.uncertainty.squared_length import squared_distance_limits, squared_length_limits

NEAR = 40  # directions of the kernel that the limits take from a sample
DIRECTIONS, LANDMARKS, HELDOUT = 200, 1000, 1000
SQUARED = ("fd", "kd", "mean_shift_squared", "colour_fd", "spectrum_distance")
Rows = dict[str, Tensor]


@dataclass(frozen=True)
class Found:
    """One figure of one replicate: its interval, and what the interval of a difference needs."""

    interval: Interval
    jackknife: Jackknife | None = None
    ones: list[bool] | None = None
    reach: tuple[float, ...] = ()
    effect: float = 0.0


Metric = Callable[[Tensor, int], Found]  # of the drawn indices [N] and the replicate's number


def statistics_left_out(sums: Tensor, size: int, statistic: Callable[[Tensor], Tensor]) -> tuple[Jackknife, float]:
    """The jackknife of `statistic` (of means [S, ...] of S sets) from the sums of groups [G, ...], and its value."""
    sets = left_out_sets()
    keeps = torch.ones(len(sets), GROUPS, dtype=torch.float64)
    for number, left_out in enumerate(sets):
        keeps[number, list(left_out)] = 0
    means = torch.tensordot(keeps, sums, dims=1) / (keeps.sum(dim=1) * size).view(-1, *[1] * (sums.ndim - 1))
    values = dict(zip(sets, statistic(means).tolist(), strict=True))
    return jackknife(values.__getitem__), values[()]


def of_groups(rows: Tensor, indices: Tensor) -> Tensor:
    """Sums of rows over groups, [G, ...]; the images are drawn independently, so that any division is random."""
    return rows[indices].view(GROUPS, -1, *rows.shape[1:]).sum(dim=1)


def mean_metric(rows: Tensor, statistic: Callable[[Tensor], Tensor], *, squared: bool = False) -> tuple[float, Metric]:
    """A metric that is a statistic of mean rows, with its truth."""

    def metric(indices: Tensor, _: int) -> Found:
        found, plain = statistics_left_out(of_groups(rows, indices), len(indices) // GROUPS, statistic)
        return Found(squared_interval(found, plain) if squared else jackknife_interval(found), found)

    return float(statistic(rows.mean(dim=0, keepdim=True))), metric


def means_and_covariances(rows: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and its covariance of each draw of rows, [R, D] and [R, D, D]."""
    found = [rows[indices] for indices in draws]
    return torch.stack([one.mean(dim=0) for one in found]), torch.stack([one.T.cov() / len(one) for one in found])


def length_metric(rows: Tensor, draws: Tensor) -> tuple[float, Metric]:
    truth, usual = mean_metric(rows, lambda means: means.square().sum(dim=1))
    means, covariances = means_and_covariances(rows, draws)
    lows, highs = squared_length_limits(means.numpy(), covariances.numpy())

    def metric(indices: Tensor, number: int) -> Found:
        found = usual(indices, number)
        return Found(Interval(found.interval.estimate, lows[number], highs[number], 0.95), found.jackknife)

    return truth, metric


def frechet_metric(features: Tensor, reference: Tensor) -> tuple[float, Metric]:
    mean, covariance = gaussian_moments(reference)
    root, centre = covariance_root(covariance), features.mean(dim=0)
    rows = features - centre
    dimension = rows.shape[1]
    packed = torch.cat([rows, (rows[:, :, None] * rows[:, None]).flatten(1)], dim=1) if dimension < 8 else None

    def distance(means: Tensor, num: Tensor) -> Tensor:
        first, second = means[:, :dimension], means[:, dimension:].view(-1, dimension, dimension)
        scatter = second - first[:, :, None] * first[:, None]
        spread = scatter * (num / (num - 1))[:, None, None]
        roots = torch.linalg.eigvalsh(root @ spread @ root).clamp(min=0).sqrt().sum(dim=1)
        traces = spread.diagonal(dim1=1, dim2=2).sum(dim=1) + covariance.trace()
        return (first + centre - mean).square().sum(dim=1) + traces - 2 * roots

    def metric(indices: Tensor, _: int) -> Found:
        size = len(indices) // GROUPS
        if packed is not None:
            sums = of_groups(packed, indices)
        else:
            drawn = rows[indices].view(GROUPS, size, dimension)
            sums = torch.cat([drawn.sum(dim=1), (drawn.mT @ drawn).flatten(1)], dim=1)
        nums = torch.tensor([(GROUPS - len(left_out)) * size for left_out in left_out_sets()]).double()
        found, plain = statistics_left_out(sums, size, lambda means: distance(means, nums))
        return Found(squared_interval(found, plain), found)

    second = (rows.T @ rows / len(rows)).flatten()
    everything = torch.cat([torch.zeros(dimension), second])[None]
    return float(distance(everything, torch.tensor([1e15]).double())), metric


def kernel_metric(features: Tensor, reference: Tensor, draws: Tensor) -> tuple[float, Metric]:
    rows = kernel_directions(features, reference)
    squares = rows.square().sum(dim=1)
    means, covariances = means_and_covariances(rows[:, :NEAR], draws)
    num, counts = draws.shape[1], torch.zeros(len(draws), len(rows), dtype=torch.float64)
    counts.scatter_add_(1, draws, torch.ones_like(draws, dtype=torch.float64))
    estimates = ((counts @ rows).square().sum(dim=1) - counts @ squares) / (num * (num - 1))
    lows, highs, _ = squared_distance_limits(estimates.numpy(), means.numpy(), covariances.numpy())

    def metric(indices: Tensor, number: int) -> Found:
        size = len(indices) // GROUPS
        sums, own = of_groups(rows, indices), of_groups(squares, indices)
        nums = torch.tensor([(GROUPS - len(left_out)) * size for left_out in left_out_sets()]).double()

        def distance(means: Tensor) -> Tensor:
            return (means[:, 1:].square().sum(dim=1) * nums - means[:, 0]) / (nums - 1)

        found, _ = statistics_left_out(torch.cat([own[:, None], sums], dim=1), size, distance)
        estimate = jackknife_interval(found).estimate
        return Found(Interval(estimate, lows[number], highs[number], 0.95), found)

    return float(rows.mean(dim=0).square().sum()), metric


def kernel_directions(x: Tensor, y: Tensor) -> Tensor:
    """Rows [N, K] whose inner products are nearly those of the cubic kernel about the mean of `y`."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    across = torch.cat([kernel(part, y).mean(dim=1) for part in torch.split(x, 500)])
    itself = sum(float(kernel(part, y).sum()) for part in torch.split(y, 500)) / len(y) ** 2
    whole = kernel(x, x) - across - across[:, None] + itself
    marks = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))[:LANDMARKS]
    some = whole[marks][:, marks]
    rows = some.mean(dim=1)
    values, vectors = torch.linalg.eigh(some - rows - rows[:, None] + rows.mean())
    order = torch.arange(len(values)).flip(0)[:DIRECTIONS]
    found = whole[:, marks] @ vectors[:, order] / values[order].clamp(min=1e-9 * float(values[-1])).sqrt()
    mean = whole.mean(dim=1)
    rest = mean - found @ found.mean(dim=0)
    length = max(float(rest.mean()), 1e-12 * abs(float(mean.mean())))
    return torch.cat([found, rest[:, None] / length**0.5], dim=1)


def share_metric(ones: Tensor) -> tuple[float, Metric]:
    def metric(indices: Tensor, _: int) -> Found:
        drawn = ones[indices]
        return Found(share_interval(int(drawn.sum()), len(drawn)), ones=drawn.bool().tolist())

    return float(ones.mean()), metric


def copies_metrics(distances: Tensor, heldout: Tensor, replicates: int, seed: int) -> dict[str, tuple[float, Metric]]:
    generator = torch.Generator().manual_seed(1_000_000 + seed)  # apart from the images' draws
    drawn = [heldout[torch.randint(len(heldout), (HELDOUT,), generator=generator)] for _ in range(replicates)]
    many = heldout[torch.randint(len(heldout), (4000, HELDOUT), generator=generator)]
    thresholds = many.quantile(copies.QUANTILE, dim=1)
    share = float((torch.searchsorted(distances.sort().values, thresholds) / len(distances)).mean())

    def gap(indices: Tensor, number: int) -> Found:
        outcome = copies.copies(distances[indices], drawn[number], Division.of(len(indices)))["nearest_train_gap"]
        assert outcome.jackknife is not None, "a mean has one"
        found = outcome.jackknife()
        return Found(jackknife_interval(found, effect=outcome.effect), found, effect=outcome.effect)

    def memorised(indices: Tensor, number: int) -> Found:
        outcome = copies.copies(distances[indices], drawn[number], Division.of(len(indices)))["memorised_share"]
        assert outcome.ones is not None, "it is a share"
        assert outcome.reach is not None, "it has a threshold"
        interval = reaching(share_interval(int(outcome.ones.sum()), len(indices)), len(indices), *outcome.reach)
        return Found(interval, ones=outcome.ones.tolist(), reach=outcome.reach)

    return {
        "nearest_train_gap": (float(distances.mean() / heldout.mean() - 1), gap),
        "memorised_share": (share, memorised),
    }


def spectrum_distances(power: Tensor, reference: Tensor) -> Tensor:
    """As metrics/spectrum.py, of many mean spectra [S, B]."""
    rounding = (2 / 255) ** 2 / 12
    return ((power + rounding) / (reference + rounding)).log().square().mean(dim=1)


def metrics_of_pixels(rows: Rows, reference: Rows, draws: Tensor) -> dict[str, tuple[float, Metric]]:
    own, real = rows["pixels"], reference["pixels"]
    colours, target = own[:, :3], real[:, :3].mean(dim=0)
    red = torch.stack([own[:, 0], own[:, 3]], dim=1)
    real_std = float((real[:, 3].mean() - target[0] ** 2).sqrt())
    power = real[:, 6:].mean(dim=0)
    return {
        "mean_shift_r": mean_metric(colours[:, :1] - target[0], lambda means: means[:, 0]),
        "std_shift_r": mean_metric(red, lambda m: (m[:, 1] - m[:, 0].square()).clamp(min=0).sqrt() - real_std),
        "mean_shift_squared": length_metric(colours - target, draws),
        "colour_fd": frechet_metric(colours, real[:, :3]),
        "spectrum_distance": mean_metric(own[:, 6:], lambda means: spectrum_distances(means, power), squared=True),
    }


def metrics_of_features(rows: Rows, real: dict[str, Rows], draws: Tensor, seed: int) -> dict[str, tuple[float, Metric]]:
    x, y = rows["features"], real["train"]["features"]
    near = manifolds(x, y[torch.arange(draws.shape[1]) * len(y) // draws.shape[1]])
    heldout = nearest_distances(real["heldout"]["features"], y)
    return {
        "fd": frechet_metric(x, y),
        "kd": kernel_metric(x, y, draws),
        "precision": share_metric(near.inside),
        "density": mean_metric(near.density[:, None], lambda means: means[:, 0]),
        **copies_metrics(nearest_distances(x, y), heldout, len(draws), seed),
    }


def difference(first: Found, second: Found) -> Interval:
    if first.ones is not None and second.ones is not None:
        return paired_difference(first.ones, second.ones)
    effect = abs(second.effect - first.effect)  # the held-out images are the same
    assert first.jackknife is not None and second.jackknife is not None, "only shares have none"  # noqa: PT018
    found = difference_interval(first.jackknife, second.jackknife, effect=effect)
    if first.effect or second.effect:
        return found
    return with_skewness(found, (first.interval, first.jackknife), (second.interval, second.jackknife))


Cell = tuple[str, str, str, int]  # metric, kind, populations, N


def measured(
    populations: dict[str, dict[str, tuple[float, Metric]]], draws: Tensor
) -> Iterator[tuple[Cell, Interval, float]]:
    """Each interval of each replicate, with the truth."""
    before: dict[str, dict[str, Found]] = {}
    num = draws.shape[1]
    for number, indices in enumerate(draws):
        drawn = {
            name: {metric: of(indices, number) for metric, (_, of) in metrics.items()}
            for name, metrics in populations.items()
        }
        for name, metrics in populations.items():
            for metric, (truth, _) in metrics.items():
                yield (metric, "single", name, num), drawn[name][metric].interval, truth
        for a, b in itertools.combinations_with_replacement(populations, 2):
            for metric, (truth, _) in populations[a].items():
                change = populations[b][metric][0] - truth
                first, second = drawn[a][metric], drawn[b][metric]
                if metric == "memorised_share":
                    continue  # no interval is printed
                if a != b and "uneven classes" not in (a, b):
                    yield (metric, "shared noise", f"{a}, {b}", num), difference(first, second), change
                if before and a == "fresh" and metric != "nearest_train_gap":
                    yield (metric, "own noise", f"{a}, {b}", num), difference(first, before[b][metric]), change
        before = drawn


def tally(results: Iterator[tuple[Cell, Interval, float]]) -> dict[Cell, list[int]]:
    """Of each cell: how often the truth lay within, above and below the interval."""
    counts: dict[Cell, list[int]] = defaultdict(lambda: [0, 0, 0])
    for cell, interval, truth in results:
        slack = 1e-12 * max(abs(truth), 1e-12)
        counts[cell][1 if truth > interval.high + slack else 2 if truth < interval.low - slack else 0] += 1
    return counts


def summary(counts: dict[Cell, list[int]], features: str) -> list[str]:
    """A line for each metric: the least, most and mean coverage over populations, by kind and N."""
    lines = []
    for metric in dict.fromkeys(cell[0] for cell in counts):
        parts = []
        for kind in ("single", "shared noise", "own noise"):
            for num in sorted({cell[3] for cell in counts}):
                shares = [100 * held[0] / sum(held) for cell, held in counts.items()
                          if (cell[0], cell[1], cell[3]) == (metric, kind, num)]  # fmt: skip
                mean = sum(shares) / max(len(shares), 1)
                parts.append(f"{min(shares):.1f} to {max(shares):.1f} ({mean:.1f})" if shares else "-")
        lines.append(f"| {metric} | {features} | {' | '.join(parts)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--features", default="pixels,local-ssl,local")
    parser.add_argument("--num", default="1000,2000")
    parser.add_argument("--replicates", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--metrics", default="", help="these alone")
    parser.add_argument("--cache", type=Path, default=Path("coverage-cache"))
    parser.add_argument("--cells", action="store_true")
    options = parser.parse_args()
    nums = [int(num) for num in options.num.split(",")]
    wanted = options.metrics.split(",") if options.metrics else None
    kinds = [f"{kind}, N {num:,}" for kind in ("single", "shared noise", "own noise") for num in nums]
    print(f"| metric | features | {' | '.join(kinds)} |\n|{' --- |' * (2 + len(kinds))}", flush=True)
    for position, features in enumerate(["none", *options.features.split(",")]):
        rows = prepared(options.source, options.features.split(",")[max(position - 1, 0)], options.cache)
        real = {name: rows.pop(name) for name in ("train", "heldout")}
        counts: dict[Cell, list[int]] = {}
        for num in nums:
            generator = torch.Generator().manual_seed(options.seed)
            draws = torch.randint(SIZE, (options.replicates, num), generator=generator)
            populations = {
                name: metrics_of_pixels(of, real["train"], draws)
                if features == "none"
                else metrics_of_features(of, real, draws, options.seed)
                for name, of in rows.items()
            }
            populations = {
                name: {metric: found for metric, found in metrics.items() if wanted is None or metric in wanted}
                for name, metrics in populations.items()
            }
            counts |= tally(measured(populations, draws))
        if options.cells:
            for cell, (held, above, below) in counts.items():
                total = held + above + below
                shown = "; ".join(map(str, (features, *cell)))
                print(f"{shown}: {100 * held / total:.1f} (above {above}, below {below})")
        print("\n".join(summary(counts, features)), flush=True)


if __name__ == "__main__":
    main()
