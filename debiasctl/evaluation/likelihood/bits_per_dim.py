"""Bits per dimension of images under a network, by the variational bound or the probability-flow ODE."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from debiasctl.api import Estimate
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.likelihood import (
    GREY_LEVEL,
    Estimator,
    Variance,
    bound_term,
    dequantised_bits,
    ode_log_density,
    prior_term,
    strata,
)
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import NoiseLevels
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.record import Bits, BitsFigure, Term

OnProgress = Callable[[int, int], None]
_EVALUATIONS = 4  # network evaluations per step of the ODE


@dataclass(frozen=True)
class Bound:
    """The method that estimates the variational bound from `num_terms` timesteps per image (see `strata`)."""

    num_terms: int
    variance: Variance


@dataclass(frozen=True)
class Ode:
    """The method that solves the probability-flow ODE in `num_steps` steps."""

    num_steps: int


@dataclass(frozen=True)
class Found:
    """A likelihood with the name of its metric, `nfe` forward passes per image, and the parts of a bound."""

    metric: str
    figure: BitsFigure
    nfe: int
    notes: list[str]
    prior: Bits | None = None
    terms: Sequence[Term] = ()


@dataclass(frozen=True)
class Draws:
    """The noise draws: `num` independent ones for each image, all from `seed`, with `batch_size` images at a time."""

    num: int
    seed: int
    batch_size: int


@dataclass(frozen=True)
class Model:
    """The network, its parameterization, and the images that it is measured on."""

    network: nn.Module
    parameterization: Parameterization
    images: HeldoutSet

    def estimator(self, part: slice) -> Estimator:
        """Make an estimator for the images in `part`, given their labels."""
        labels = None if self.images.labels is None else self.images.labels[part]

        def estimate(x_t: Tensor, levels: NoiseLevels) -> Estimate:
            return self.parameterization.estimate(
                self.parameterization.run(self.network, x_t, levels, labels), x_t, levels
            )

        return estimate


def bound_bits(model: Model, method: Bound, *, draws: Draws, on_progress: OnProgress) -> Found:
    """Compute the variational bound and its parts.

    Raises:
        EvaluationError: if a part is not finite.
    """
    process, x0 = model.parameterization.process, model.images.x0
    groups = strata(process, method.num_terms)
    terms = torch.zeros(draws.num, len(groups), len(x0), dtype=torch.float64)
    done, total = 0, terms.numel()
    for start in range(0, len(x0), draws.batch_size):
        part = slice(start, start + draws.batch_size)
        estimate = model.estimator(part)
        positions = torch.arange(len(x0))[part]
        for draw in range(draws.num):
            for number, group in enumerate(groups):
                step = 2 * (draw * len(groups) + number)
                u = counter_random.uniform(draws.seed, Stream.LIKELIHOOD, step=step, positions=positions)
                eps = _normal(draws.seed, step + 1, positions, like=x0)
                t = group.start + (u * len(group)).long()
                found = bound_term(estimate, process, x0=x0[part], eps=eps, t=t, variance=method.variance)
                terms[draw, number, part] = len(group) * found.cpu()
                done += len(positions)
                on_progress(done, total)
    prior = prior_term(process, x0).cpu()
    figure = _figure(terms.sum(dim=1) + prior)
    notes = [
        "bits/dim of 256 grey levels: an upper bound on -log2 P of the images under the ancestral sampler of "
        f"{process.num_timesteps} steps with {method.variance} variance, without clipping estimates of x0"
    ]
    if method.num_terms < process.num_timesteps:
        notes.append(f"{method.num_terms} of {process.num_timesteps} terms per image, drawn uniformly in strata of t")
    if process.continuous:
        notes.append("the schedule is continuous: the bound is for the chain of its whole timesteps")
    means = [_mean(terms[:, number].mean(dim=0)) for number in range(len(groups))]
    return Found(
        "bound_bits_per_dim",
        figure,
        draws.num * method.num_terms,
        notes,
        prior=_mean(prior),
        terms=[
            Term(low=group.start, high=group.stop - 1, bits=mean.bits, se=mean.se)
            for group, mean in zip(groups, means, strict=True)
        ],
    )


def ode_bits(model: Model, method: Ode, *, draws: Draws, on_progress: OnProgress) -> Found:
    """Compute the likelihood of the probability-flow ODE.

    Raises:
        EvaluationError: if a likelihood is not finite.
    """
    process, x0 = model.parameterization.process, model.images.x0
    dimension = math.prod(x0.shape[1:])
    bits = torch.zeros(draws.num, len(x0), dtype=torch.float64)
    discretisation = torch.zeros_like(bits)
    done, total = 0, bits.numel() * (method.num_steps + method.num_steps // 2)
    for start in range(0, len(x0), draws.batch_size):
        part = slice(start, start + draws.batch_size)
        positions = torch.arange(len(x0))[part]

        def on_step(size: int = len(positions)) -> None:
            nonlocal done
            done += size
            on_progress(done, total)

        for draw in range(draws.num):
            # the normal distribution function turns normal numbers into uniform ones
            within = torch.special.ndtr(_normal(draws.seed, 2 * draw, positions, like=x0).double()) - 0.5
            signs = torch.where(_normal(draws.seed, 2 * draw + 1, positions, like=x0) < 0, -1.0, 1.0)
            found = ode_log_density(
                model.estimator(part),
                process,
                x0[part] + (GREY_LEVEL * within).to(x0.dtype),
                probes=signs[None],
                num_steps=method.num_steps,
                on_step=on_step,
            )
            bits[draw, part] = dequantised_bits(found.log_density, dimension=dimension).cpu()
            discretisation[draw, part] = found.discretisation.cpu() / (dimension * math.log(2))
    sigma, last = (process.sigma[0] / process.alpha[0]).item(), process.num_timesteps - 1
    notes = [
        "bits/dim of 256 grey levels, uniformly dequantised: on average an upper bound on -log2 P of the images under "
        f"the deterministic sampler from N(0, 1) at t = {last} to t = 0",
        f"the noise at t = 0 is not removed: its standard deviation of {sigma:.4g} for images in [-1, 1] "
        f"({sigma / GREY_LEVEL:.2g} grey levels) counts as part of the model",
    ]
    if process.snr[-1] == 0:
        notes.append(f"one Heun step leads from t = {last - 1} to zero SNR at t = {last}")
    lost = float(_finite(discretisation).mean())
    figure = _figure(bits).model_copy(update={"discretisation": lost})
    nfe = draws.num * _EVALUATIONS * (method.num_steps + method.num_steps // 2)
    if process.snr[-1] == 0:
        nfe += draws.num * _EVALUATIONS  # Heun's two evaluations, at the end of the finer and of the coarser solution
    if lost > figure.se:
        notes.append("the integrator's error is larger than the standard error: raise `steps`")
    return Found("ode_bits_per_dim", figure, nfe, notes)


def _normal(seed: int, step: int, positions: Tensor, *, like: Tensor) -> Tensor:
    return counter_random.normal(
        seed, Stream.LIKELIHOOD, step=step, positions=positions.to(like.device), shape=like.shape[1:]
    )


def _figure(bits: Tensor) -> BitsFigure:
    """Average bits [draws, N], and compute the errors of the mean."""
    draws = len(bits)
    about = _mean(bits.mean(dim=0))
    noise = bits.var(dim=0).mean().div(draws * bits.shape[1]).sqrt() if draws > 1 else None
    return BitsFigure(
        value=about.bits,
        se=about.se,
        se_draws=None if noise is None else float(noise),
        better="lower",
        floor=None,
        floor_num=0,
        value_at_floor_num=None,
    )


def _mean(bits: Tensor) -> Bits:
    """Average bits over images [N], and compute the standard error of the mean."""
    return Bits(bits=float(_finite(bits).mean()), se=float(bits.std() / math.sqrt(len(bits))))


def _finite(bits: Tensor) -> Tensor:
    if not bool(torch.isfinite(bits).all()):
        raise EvaluationError("the likelihood is not finite. Use another checkpoint, or `weights=raw`")
    return bits
