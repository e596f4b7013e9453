"""How the way of drawing t changes the variance of the gradient, for `debiased` on linear and cosine.

python benchmarks/gradient_variance.py [--images 12800] [--train-steps 0,400,2000] [--schedules linear,cosine]

The objective and its gradient's expectation are the same under every way. What differs is Var = E||g||² - ||E g||²,
the trace of the covariance of the gradient g = correction · weight · ∇err of one image, t and noise. It is measured on
a small `dit` that predicts eps for `digits`, after trainings of some lengths with uniform t, and printed as multiples
of uniform's. One pool of draws, half of them uniform and half by importance, serves all ways: with m(t) the density
that the pool was drawn from, E||g||² under q is the pool's mean of base² weight²/(q m) ||∇err||². Standard errors are
the jackknife's over ten parts of the pool.

`stratified` draws each t as uniform does, so that one image's gradient has uniform's variance; in its column Var is
that of a batch's mean, times the batch size, where each image has a stratum of its own. "best q" is
q ∝ base · weight · √M with M(t) = E||∇err||², which no q can undercut; M comes from a pilot, in bins of t, and the last
column is √M in the first bin over √M in the last.
"""

import argparse
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from debiasctl.api import DataLocation, TimestepContext, TimestepDistribution
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.compute.device import make_accelerator
from debiasctl.diffusion.loss import squared_error, weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.process import per_image
from debiasctl.models.objective import build_objective
from debiasctl.specs.files import merge
from debiasctl.specs.resolve import resolve_spec
from debiasctl.specs.sections import RunSpec
from debiasctl.training import session
from debiasctl.training.setup import set_up
from debiasctl.training.step import train_step
from debiasctl.training.training import Training

SETTINGS = {
    "data": {"dataset": "digits"},
    "model": {"backbone": "dit:hidden_size=32,depth=2,num_heads=2", "prediction": "eps", "conditional": False},
    "loss": {"weighting": "debiased"},
}
LOCATION = DataLocation(data_dir=None, cache_dir=Path("not-needed"))
WAYS = ("uniform", "importance", "stratified", "loss-second-moment", "best")
PARTS = 10  # of the pool, for the jackknife
BATCH = 64  # images of a batch, and so strata
PILOT, BURN_IN, POOL = 10**6, 2 * 10**6, 3 * 10**6  # steps of the random numbers, far from those of training
BINS = 40  # of t, in the pilot
SECOND_MOMENT_BATCHES = 500  # until each of 1000 t's has its ten losses


@dataclass(frozen=True)
class Ratio:
    """A variance as a multiple of uniform's, and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        if not self.error:
            return f"{self.value:g}"
        digits = max(0, 1 - math.floor(math.log10(self.error)))  # two of the error
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


class Best(TimestepDistribution):
    """q ∝ base · weight · √E||∇err||², for `norms` float64 [T], E||∇err||² at each t; the base is uniform."""

    corrected = True

    def __init__(self, norms: Tensor) -> None:
        super().__init__(self.Options())
        self.norms = norms

    def probabilities(self, context: TimestepContext) -> Tensor:
        return context.weight * self.norms.sqrt()


@dataclass(frozen=True)
class Sample:
    """Drawn images: `norms` ||∇err||² float64 [N], `gradients` ∇err [N, P], and their `timestep` int64 [N]."""

    timestep: Tensor
    norms: Tensor
    gradients: Tensor


def make_training(schedule: str, *, train_steps: int) -> Training:
    spec, _ = resolve_spec(
        [SETTINGS, {"diffusion": {"schedule": schedule}, "training": {"steps": train_steps, "batch_size": BATCH}}],
        LOCATION,
    )
    return set_up(spec, session.load_data(spec, LOCATION), accelerator=make_accelerator("cpu"))


def objective_by(spec: RunSpec, timesteps: str) -> Objective:
    changed = merge(spec.model_dump(mode="json"), {"loss": {"timesteps": timesteps}})
    return build_objective(RunSpec.model_validate(changed))


def drawn(training: Training, objective: Objective, step: int) -> tuple[Draw, Tensor, Tensor]:
    """A batch as a training step draws it: t, x_t and what the network is to give."""
    seed, batch = training.spec.training.seed, training.batches(step)
    draw = objective.draw(
        counter_random.uniform(seed, Stream.TIMESTEP, step=step, positions=batch.positions),
        shared=counter_random.uniform(seed, Stream.TIMESTEP, step=step, positions=torch.zeros(1, dtype=torch.int64)),
        positions=batch.positions,
        batch_size=BATCH,
        progress=0.0,
    )
    eps = counter_random.normal(seed, Stream.NOISE, step=step, positions=batch.positions, shape=batch.x0.shape[1:])
    x_t = objective.process.add_noise(batch.x0, eps, draw.levels)
    return draw, x_t, objective.parameterization.target(batch.x0, eps, draw.levels)


def sample_gradients(training: Training, objective: Objective, steps: range) -> Iterator[Sample]:
    """∇err of every image of every step."""
    network = training.network
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def error(parameters: Mapping[str, Tensor], x_t: Tensor, t: Tensor, target: Tensor) -> Tensor:
        output = torch.func.functional_call(network, dict(parameters), (x_t[None], t[None]))
        return squared_error(output, target[None]).sum()

    gradient = torch.func.vmap(torch.func.grad(error), in_dims=(None, 0, 0, 0))
    for step in steps:
        draw, x_t, target = drawn(training, objective, step)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no gradient an image
            found = gradient(parameters, x_t, per_image(draw.levels.t, like=x_t)[0].flatten(), target)
        gradients = torch.cat([value.flatten(1) for value in found.values()], dim=1)
        yield Sample(draw.timestep, gradients.square().sum(dim=1, dtype=torch.float64), gradients)


def best_distribution(training: Training, objective: Objective, *, batches: int) -> Best:
    """The best q, from the mean of ||∇err||² in bins of t."""
    num_timesteps = objective.process.num_timesteps
    totals, counts = torch.zeros(BINS, dtype=torch.float64), torch.zeros(BINS, dtype=torch.float64)
    for sample in sample_gradients(training, objective, range(PILOT, PILOT + batches)):
        bins = sample.timestep * BINS // num_timesteps
        totals.index_add_(0, bins, sample.norms)
        counts.index_add_(0, bins, torch.ones_like(sample.norms))
    assert bool((counts > 0).all()), "the pilot saw every bin"
    return Best((totals / counts)[torch.arange(num_timesteps) * BINS // num_timesteps])


@torch.no_grad()
def watch_losses(training: Training, objective: Objective) -> None:
    """Let loss-second-moment see what training would show it."""
    for step in range(BURN_IN, BURN_IN + SECOND_MOMENT_BATCHES):
        draw, x_t, target = drawn(training, objective, step)
        output = objective.parameterization.run(training.network, x_t, draw.levels, None)
        objective.observe(draw.timestep, weighted_losses(output.prediction.double(), target.double(), draw.weight))


@dataclass(frozen=True)
class Part:
    """One part of the pool: E||g||² under each way's q, and unbiased ||E g||² and mean over strata of ||E g||²."""

    second_moments: dict[str, float]
    mean_squared: float
    strata_means_squared: float

    def variance(self, way: str) -> float:
        explained = self.strata_means_squared if way == "stratified" else self.mean_squared
        return self.second_moments[way] - explained


def measure_part(training: Training, objectives: dict[str, Objective], *, number: int, batches: int) -> Part:
    """A part's estimates; ||E g||² is the product of two means over halves of it, of independent draws."""
    tables = {way: objective.tables() for way, objective in objectives.items()}
    base, weight = tables["uniform"].base, tables["uniform"].weight
    pool = (tables["uniform"].probability + tables["importance"].probability) / 2
    squares = {way: base**2 * weight**2 / (table.probability * pool) for way, table in tables.items()}
    moments = dict.fromkeys(tables, 0.0)
    size = sum(parameter.numel() for parameter in training.network.parameters())
    sums = torch.zeros(2, BATCH, size)
    first = POOL + number * batches
    for way in ("uniform", "importance"):
        for step, sample in enumerate(sample_gradients(training, objectives[way], range(first, first + batches))):
            t = sample.timestep
            for name, square in squares.items():
                moments[name] += float((square[t] * sample.norms).mean()) / (2 * batches)
            share = (base * weight / pool)[t] / (BATCH * batches)  # of the mean over a half of both ways' draws
            strata = (base.cumsum(0) - base / 2)[t] * BATCH  # of uniform t, whose strata are of equal probability
            sums[step % 2].index_add_(0, strata.long(), share.float()[:, None] * sample.gradients)
    halves = sums.double()
    return Part(
        moments | {"stratified": moments["uniform"]},
        float(halves.sum(dim=1).prod(dim=0).sum()),
        BATCH * float(halves.prod(dim=0).sum()),
    )


def ratios(parts: list[Part]) -> dict[str, Ratio]:
    """Each way's variance over uniform's, from all parts, with the jackknife's standard error."""

    def ratio(way: str, chosen: list[Part]) -> float:
        return sum(part.variance(way) for part in chosen) / sum(part.variance("uniform") for part in chosen)

    found = {}
    for way in WAYS:
        without = [ratio(way, [*parts[:number], *parts[number + 1 :]]) for number in range(len(parts))]
        centre = sum(without) / len(without)
        error = math.sqrt((len(parts) - 1) / len(parts) * sum((value - centre) ** 2 for value in without))
        found[way] = Ratio(ratio(way, parts), error)
    return found


@dataclass(frozen=True)
class Measurement:
    """Each way's ratio; and how √M = √E||∇err||² falls, its value in the first bin of t over that in the last."""

    ratios: dict[str, Ratio]
    fall: float


def measure(training: Training, *, images: int) -> Measurement:
    """The ratios for a network as it is, from `images` gradients of single images."""
    objectives = {way: objective_by(training.spec, way) for way in ("uniform", "importance", "loss-second-moment")}
    watch_losses(training, objectives["loss-second-moment"])
    uniform = objectives["uniform"]
    batches = max(2, images // (2 * PARTS * BATCH) // 2 * 2)  # of each of the pool's two ways, in two halves
    best = best_distribution(training, uniform, batches=max(PARTS, batches * PARTS // 3))
    objectives["best"] = Objective(uniform.parameterization, uniform.weighting, best)
    parts = [measure_part(training, objectives, number=number, batches=batches) for number in range(PARTS)]
    return Measurement(ratios(parts), math.sqrt(best.norms[0] / best.norms[-1]))


def print_table(rows: dict[tuple[str, int], Measurement]) -> None:
    ways = " | ".join(f"`{way}`" if way != "best" else "best q" for way in WAYS)
    print(f"| schedule | steps trained | {ways} | fall of √M |")
    print("|" + "---|" * (3 + len(WAYS)))
    for (schedule, steps), found in rows.items():
        cells = [schedule, str(steps), *[str(found.ratios[way]) for way in WAYS], f"{found.fall:.2g}"]
        print(f"| {' | '.join(cells)} |")


def trained(schedule: str, *, steps: int) -> Training:
    """A network after a whole training of so many steps, its learning rate's decay included."""
    training = make_training(schedule, train_steps=max(1, steps))
    for step in range(steps):
        train_step(training, step)
    return training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=12800, help="gradients of single images, a row")
    parser.add_argument("--train-steps", default="0,400,2000", help="trainings to measure after")
    parser.add_argument("--schedules", default="linear,cosine")
    options = parser.parse_args()
    print_table(
        {
            (schedule, steps): measure(trained(schedule, steps=steps), images=options.images)
            for schedule in options.schedules.split(",")
            for steps in map(int, options.train_steps.split(","))
        }
    )


if __name__ == "__main__":
    main()
