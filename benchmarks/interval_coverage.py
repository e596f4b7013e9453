"""How often the intervals of the Fréchet distance hold the truth, on Gaussian features whose distance is known.

python benchmarks/interval_coverage.py [--num 1024,2000,10000] [--replicates 1000] [--dimension 64] [--bootstrap]

The estimand is the distance of infinitely many images to a fixed reference; differences are those of two sets, whose
noise is shared (correlation 0.8) or not. `--bootstrap` shows a percentile bootstrap of single distances for contrast.
"""

import argparse
import math
import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.evaluation.distances import Moments, covariance_root, frechet_distance, gaussian_moments
from debiasctl.evaluation.intervals import Jackknife, difference_interval, jackknife_interval
from debiasctl.evaluation.jackknife import Gaussian, frechet_jackknife

SHARED = 0.8


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


@dataclass(frozen=True)
class Tally:
    """Shares of replicates whose interval held the truth, and the means of what was estimated."""

    name: str
    truth: float
    plain: float
    corrected: float
    half_width: float
    single: float
    shared: float
    unshared: float


class Population:
    """A Gaussian [D] with a power-law spectrum, moved as a case says, `strength` times as far."""

    def __init__(self, case: Case, dimension: int, *, strength: float) -> None:
        generator = torch.Generator().manual_seed(1)
        spectrum = torch.arange(1, dimension + 1, dtype=torch.float64) ** -1.0
        turn = torch.randn(dimension, dimension, generator=generator, dtype=torch.float64) / dimension**0.5
        rotation = torch.linalg.matrix_exp(case.angle * strength * (turn - turn.T))
        self.mean = torch.zeros(dimension, dtype=torch.float64)
        self.mean[:4] = case.shift * strength
        self.factor = rotation * (spectrum * (1 + (case.scale - 1) * strength)).sqrt()
        self.covariance = self.factor @ self.factor.T

    def draw(self, noise: Tensor) -> Tensor:
        return noise @ self.factor.T + self.mean


def reference(dimension: int) -> Gaussian:
    unmoved = Population(Case("", 0.0, 1.0, 0.0), dimension, strength=0.0)
    return Gaussian(unmoved.mean, unmoved.covariance, covariance_root(unmoved.covariance))


def true_distance(population: Population, target: Gaussian) -> float:
    return frechet_distance(population.mean, population.covariance, target.mean, target.covariance, root2=target.root)


def tally(case: Case, *, num: int, dimension: int, replicates: int, seed: int = 0) -> Tally:
    target = reference(dimension)
    one, other = (Population(case, dimension, strength=strength) for strength in (1.0, 1.3))
    truth, further = true_distance(one, target), true_distance(other, target)
    generator = torch.Generator().manual_seed(seed)

    def noise() -> Tensor:
        return torch.randn(num, dimension, generator=generator, dtype=torch.float64)

    def taken(population: Population, z: Tensor) -> Jackknife:
        return frechet_jackknife(population.draw(z), target)

    held = {"single": 0, "shared": 0, "unshared": 0}
    plain, corrected, widths = [], [], []
    earlier = taken(other, noise())  # the last replicate's second set shares nothing with this one's first
    for _ in range(replicates):
        z = noise()
        first = one.draw(z)
        values = frechet_jackknife(first, target)
        second = taken(other, SHARED * z + math.sqrt(1 - SHARED**2) * noise())
        interval = jackknife_interval(values)
        corrected.append(interval.estimate)
        widths.append((interval.high - interval.low) / 2)
        mean, covariance = gaussian_moments(first)
        plain.append(frechet_distance(mean, covariance, target.mean, target.covariance, root2=target.root))
        held["single"] += interval.low <= truth <= interval.high
        for name, values_of_other in (("shared", second), ("unshared", earlier)):
            interval = difference_interval(values, values_of_other)
            held[name] += interval.low <= further - truth <= interval.high
        earlier = second
    shares = {name: count / replicates for name, count in held.items()}
    means = [statistics.fmean(values) for values in (plain, corrected, widths)]
    return Tally(case.name, truth, *means, **shares)


def bootstrap_coverage(case: Case, *, num: int, dimension: int, replicates: int, draws: int = 100) -> float:
    """The share of percentile bootstrap intervals of one distance that hold the truth."""
    target = reference(dimension)
    population = Population(case, dimension, strength=1.0)
    truth = true_distance(population, target)
    generator = torch.Generator().manual_seed(0)
    held = 0
    for _ in range(replicates):
        x = population.draw(torch.randn(num, dimension, generator=generator, dtype=torch.float64))
        found = []
        for _ in range(draws):
            moments = Moments(dimension)
            moments.add(x[torch.randint(num, (num,), generator=generator)])
            found.append(target.distance(moments))
        low, high = torch.quantile(torch.tensor(found), torch.tensor([0.025, 0.975])).tolist()
        held += low <= truth <= high
    return held / replicates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", default="1024,2000,10000")
    parser.add_argument("--replicates", type=int, default=1000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--bootstrap", action="store_true")
    options = parser.parse_args()
    error = 100 * math.sqrt(0.95 * 0.05 / options.replicates)
    print(f"{options.replicates} replicates: Monte Carlo standard error of a coverage of 95 %: {error:.1f} points\n")
    if options.bootstrap:
        print("| N | distance | bootstrap, covered |\n| --- | --- | --- |")
    else:
        print(
            "| N | distance | true | plain | corrected | half width | covered | difference, shared noise | "
            "difference, own noise |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
        )
    for num in map(int, options.num.split(",")):
        for case in CASES:
            given = {"num": num, "dimension": options.dimension, "replicates": options.replicates}
            if options.bootstrap:
                print(f"| {num} | {case.name} | {100 * bootstrap_coverage(case, **given):.1f} % |", flush=True)
                continue
            found = tally(case, **given)
            numbers = (found.truth, found.plain, found.corrected, found.half_width)
            cells = [f"{value:.4g}" for value in numbers]
            cells += [f"{100 * share:.1f} %" for share in (found.single, found.shared, found.unshared)]
            print(f"| {num} | {case.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
