"""How often the intervals hold the truth, on features whose distance to the reference is known.

python benchmarks/interval_coverage.py [--num 1024,2000,10000] [--replicates 1000] [--dimension 64] [--bootstrap]
    [--metric fd|kd] [--lognormal SIGMA | --classes K]

The estimand is the distance of infinitely many images to a fixed reference; differences are those of two sets, whose
noise is shared (correlation 0.8) or not. `--lognormal` replaces Gaussian features by skewed ones with the same means
and covariances, `--classes` by a mixture of K Gaussians of which equal numbers are drawn; `--bootstrap` shows a
percentile bootstrap of single distances for contrast.
"""

import argparse
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.evaluation.metrics.distances import Moments, covariance_root, frechet_distance, kernel_self_mean
from debiasctl.evaluation.uncertainty.intervals import GROUPS, Jackknife, difference_interval, jackknife_interval
from debiasctl.evaluation.uncertainty.jackknife import (
    Division,
    Gaussian,
    KernelSums,
    frechet_jackknife,
    moments_jackknife,
)

SHARED = 0.8
REFERENCE_IMAGES = 5000  # of the kernel distance, whose reference is a set of features


@dataclass(frozen=True)
class Case:
    """Generated features: the reference's, moved by `shift` in four directions, scaled, and turned by `angle`."""

    name: str
    shift: float
    scale: float
    angle: float


CASES = (
    Case("tiny shift", 0.02, 1.0, 0.0),
    Case("mean shift", 0.15, 1.0, 0.0),
    Case("scale", 0.0, 1.2, 0.0),
    Case("rotation", 0.0, 1.0, 0.3),
    Case("all three", 0.1, 0.8, 0.3),
    Case("far", 0.5, 1.5, 3.0),
)


class Population:
    """A distribution [D] with a power-law spectrum, moved as a case says, `strength` times as far."""

    def __init__(self, case: Case, dimension: int, *, strength: float) -> None:
        generator = torch.Generator().manual_seed(1)
        spectrum = torch.arange(1, dimension + 1, dtype=torch.float64) ** -1.0
        turn = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64) / dimension**0.5
        rotation = torch.linalg.matrix_exp(case.angle * strength * (turn - turn.T))
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self.mean[:4] = case.shift * strength
        self.factor = rotation * (spectrum * (1 + (case.scale - 1) * strength)).sqrt()
        self.covariance = self.factor @ self.factor.T

    def features(self, noise: Tensor) -> Tensor:
        """[N, D] from uncorrelated noise [N, D] of mean 0 and variance 1."""
        return noise @ self.factor.T + self.mean

    def moments(self, noise: Moments, *, part: slice) -> Moments:
        """Of the features of noise with these moments, of which `part` is this population's."""
        found = Moments(len(self.mean))
        found.num, found.mean = noise.num, self.factor @ noise.mean[part] + self.mean
        found.scatter = self.factor @ noise.scatter[part, part] @ self.factor.T
        return found


def unmoved(dimension: int) -> Population:
    return Population(Case("", 0.0, 1.0, 0.0), dimension, strength=0.0)


# ---------------------------------------------------------------- the Fréchet distance


def gaussian(population: Population) -> Gaussian:
    return Gaussian(population.mean, population.covariance, covariance_root(population.covariance))


def frechet(population: Population, target: Gaussian) -> float:
    return frechet_distance(population.mean, population.covariance, target.mean, target.covariance, root2=target.root)


def normal_moments(num: int, dimension: int, generator: torch.Generator) -> Moments:
    """Those of `num` standard normal rows, from their own law: the scatter is Wishart's (Bartlett, 1933)."""
    found = Moments(dimension)
    found.num = num
    found.mean = torch.randn(dimension, generator=generator, dtype=torch.float64) / math.sqrt(num)
    freedom = num - 1
    if freedom < dimension:
        rows = torch.randn(freedom, dimension, generator=generator, dtype=torch.float64)
        found.scatter = rows.T @ rows
        return found
    half = (freedom - torch.arange(dimension, dtype=torch.float64)) / 2
    lower = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64).tril(-1)
    lower += torch.diag((2 * torch._standard_gamma(half, generator=generator)).sqrt())
    found.scatter = lower @ lower.T
    return found


def mixed(noise: Moments) -> Moments:
    """Of rows (z, other) [2 D]: those of (z, what shares most of its noise with z)."""
    dimension = len(noise.mean) // 2
    one = torch.eye(dimension, dtype=torch.float64)
    mix = torch.cat(
        [
            torch.cat([one, torch.zeros_like(one)], dim=1),
            torch.cat([SHARED * one, math.sqrt(1 - SHARED**2) * one], dim=1),
        ]
    )
    found = Moments(2 * dimension)
    found.num, found.mean, found.scatter = noise.num, mix @ noise.mean, mix @ noise.scatter @ mix.T
    return found


# One set and another that shares its noise: the jackknife of each, and what other tools print of the first.
Drawn = tuple[Jackknife, Jackknife, float]


def frechet_pairs(
    one: Population, other: Population, *, num: int, generator: torch.Generator
) -> tuple[tuple[float, float], Callable[[], Drawn]]:
    dimension = len(one.mean)
    target = gaussian(unmoved(dimension))
    first, second = slice(0, dimension), slice(dimension, 2 * dimension)
    sizes = [num // GROUPS + (group < num % GROUPS) for group in range(GROUPS)]

    def draw() -> Drawn:
        noise = [mixed(normal_moments(size, 2 * dimension, generator)) for size in sizes]
        groups = [one.moments(part, part=first) for part in noise]
        total = groups[0]
        for group in groups[1:]:
            total = total.merged(group)
        others = [other.moments(part, part=second) for part in noise]
        return moments_jackknife(groups, target), moments_jackknife(others, target), target.distance(total)

    return (frechet(one, target), frechet(other, target)), draw


def other_frechet_pairs(
    one: Population,
    other: Population,
    law: Callable[[Tensor], Tensor],
    *,
    num: int,
    generator: torch.Generator,
    classes: Tensor | None = None,
) -> tuple[tuple[float, float], Callable[[], Drawn]]:
    """Of features that `law` makes of standard normal rows [N, D], of mean 0 and covariance 1 as these."""
    dimension = len(one.mean)
    target, division = gaussian(unmoved(dimension)), Division.of(num, classes)

    def draw() -> Drawn:
        z, rest = torch.randn(2, num, dimension, generator=generator, dtype=torch.float64)
        x = one.features(law(z))
        moments = Moments(dimension)
        moments.add(x)
        second = other.features(law(SHARED * z + math.sqrt(1 - SHARED**2) * rest))
        first, second = (frechet_jackknife(rows, target, division) for rows in (x, second))
        return first, second, target.distance(moments)

    return (frechet(one, target), frechet(other, target)), draw


def lognormal(sigma: float) -> Callable[[Tensor], Tensor]:
    return lambda z: ((sigma * z - sigma**2 / 2).exp() - 1) / math.sqrt(math.exp(sigma**2) - 1)


def mixture(classes: Tensor, dimension: int) -> Callable[[Tensor], Tensor]:
    """Rows of `classes` [N], of equal numbers, about centres of their own, which make up half of the covariance."""
    count = int(classes.max()) + 1
    generator = torch.Generator().manual_seed(2)
    centres = torch.randn(count, dimension, generator=generator, dtype=torch.float64) / math.sqrt(2)
    centres -= centres.mean(dim=0)
    covariance = torch.eye(dimension, dtype=torch.float64) / 2 + centres.T @ centres / count
    values, vectors = torch.linalg.eigh(covariance)
    whitening = vectors * values.rsqrt() @ vectors.T
    return lambda z: (z / math.sqrt(2) + centres[classes]) @ whitening


# ---------------------------------------------------------------- the kernel distance


def kernel_mean(one: Population, other: Population) -> float:
    """E (x.y / D + 1)³ for independent Gaussian x and y."""
    m, n, s, t = one.mean, other.mean, one.covariance, other.covariance
    dot = m @ n
    square = (s * t).sum() + m @ t @ m + n @ s @ n + dot**2
    cube = dot**3 + 3 * dot * (m @ t @ m + n @ s @ n + (s * t).sum()) + 6 * m @ t @ s @ n
    d = len(m)
    return float(1 + 3 * dot / d + 3 * square / d**2 + cube / d**3)


def kernel_to(population: Population, y: Tensor) -> float:
    """The mean over y [M, D] of E (x.y / D + 1)³ for Gaussian x."""
    mean, variance = y @ population.mean, ((y @ population.covariance) * y).sum(dim=1)
    d = y.shape[1]
    square, cube = mean**2 + variance, mean**3 + 3 * mean * variance
    return float((1 + 3 * mean / d + 3 * square / d**2 + cube / d**3).mean())


def kernel_pairs(
    one: Population, other: Population, *, num: int, generator: torch.Generator
) -> tuple[tuple[float, float], Callable[[], Drawn]]:
    dimension = len(one.mean)
    y = unmoved(dimension).features(torch.randn(REFERENCE_IMAGES, dimension, generator=generator, dtype=torch.float64))
    y_self = kernel_self_mean(y)

    def distance(population: Population) -> float:
        return kernel_mean(population, population) + y_self - 2 * kernel_to(population, y)

    def draw() -> Drawn:
        z, rest = torch.randn(2, num, dimension, generator=generator, dtype=torch.float64)
        first = KernelSums(one.features(z), y, y_self=y_self)
        second = KernelSums(other.features(SHARED * z + math.sqrt(1 - SHARED**2) * rest), y, y_self=y_self)
        return first.jackknife(), second.jackknife(), first.distance()

    return (distance(one), distance(other)), draw


# ---------------------------------------------------------------- counting


@dataclass(frozen=True)
class Tally:
    """Shares of replicates whose interval held the truth, and the means of what was estimated."""

    truth: float
    plain: float
    corrected: float
    half_width: float
    single: float
    shared: float
    own: float


def tally(truths: tuple[float, float], draw: Callable[[], Drawn], *, replicates: int) -> Tally:
    truth, further = truths
    held = {"single": 0, "shared": 0, "own": 0}
    plain, corrected, widths = [], [], []
    earlier = draw()[1]  # the last replicate's second set shares nothing with this one's first
    for _ in range(replicates):
        values, second, value = draw()
        interval = jackknife_interval(values)
        plain.append(value)
        corrected.append(interval.estimate)
        widths.append((interval.high - interval.low) / 2)
        held["single"] += interval.low <= truth <= interval.high
        for name, values_of_other in (("shared", second), ("own", earlier)):
            interval = difference_interval(values, values_of_other)
            held[name] += interval.low <= further - truth <= interval.high
        earlier = second
    means = [statistics.fmean(values) for values in (plain, corrected, widths)]
    return Tally(truth, *means, *(count / replicates for count in held.values()))


def bootstrap_coverage(case: Case, *, num: int, dimension: int, replicates: int, draws: int = 100) -> float:
    """The share of percentile bootstrap intervals of one distance that hold the truth."""
    target = gaussian(unmoved(dimension))
    population = Population(case, dimension, strength=1.0)
    truth = frechet(population, target)
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(replicates):
        x = population.features(torch.randn(num, dimension, generator=generator, dtype=torch.float64))
        found = []
        for _ in range(draws):
            moments = Moments(dimension)
            moments.add(x[torch.randint(num, (num,), generator=generator)])
            found.append(target.distance(moments))
        low, high = torch.quantile(torch.tensor(found), torch.tensor([0.025, 0.975])).tolist()
        held += low <= truth <= high
    return held / replicates


def row(case: Case, options: argparse.Namespace, *, num: int) -> list[str]:
    one, other = (Population(case, options.dimension, strength=strength) for strength in (1.0, 1.3))
    generator = torch.Generator().manual_seed(0)
    if options.metric == "kd":
        pairs = kernel_pairs(one, other, num=num, generator=generator)
    elif options.lognormal is not None:
        pairs = other_frechet_pairs(one, other, lognormal(options.lognormal), num=num, generator=generator)
    elif options.classes is not None:
        classes = torch.arange(num) % options.classes
        law = mixture(classes, options.dimension)
        pairs = other_frechet_pairs(one, other, law, num=num, generator=generator, classes=classes)
    else:
        pairs = frechet_pairs(one, other, num=num, generator=generator)
    found = tally(*pairs, replicates=options.replicates)
    numbers = (found.truth, found.plain, found.corrected, found.half_width)
    shares = (found.single, found.shared, found.own)
    return [*(f"{value:.4g}" for value in numbers), *(f"{100 * share:.1f} %" for share in shares)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", default="1024,2000,10000")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--metric", choices=("fd", "kd"), default="fd")
    parser.add_argument("--lognormal", type=float, metavar="SIGMA")
    parser.add_argument("--classes", type=int, metavar="K")
    parser.add_argument("--bootstrap", action="store_true")
    options = parser.parse_args()
    if options.metric == "kd" and (options.lognormal, options.classes) != (None, None):
        parser.error("the kernel distance of features that are not Gaussian is not known in closed form")
    if options.classes is not None and any(int(num) % options.classes for num in options.num.split(",")):
        parser.error("--classes: the distance is known for equal numbers of images alone. Choose a divisor of --num")
    error = 100 * math.sqrt(0.95 * 0.05 / options.replicates)
    print(f"{options.replicates} replicates: Monte Carlo standard error of a coverage of 95 %: {error:.1f} points\n")
    measured = ["true", "plain", "corrected", "half width", "covered"]
    measured += [f"difference, {whose} noise" for whose in ("shared", "own")]
    columns = ["N", "distance", *(["bootstrap, covered"] if options.bootstrap else measured)]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    for num in map(int, options.num.split(",")):
        for case in CASES:
            if options.bootstrap:
                given = {"num": num, "dimension": options.dimension, "replicates": options.replicates}
                cells = [f"{100 * bootstrap_coverage(case, **given):.1f} %"]
            else:
                cells = row(case, options, num=num)
            print(f"| {num:,} | {' | '.join([case.name, *cells])} |", flush=True)


if __name__ == "__main__":
    main()
