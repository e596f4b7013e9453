"""Bits per dimension of a network on images: the variational bound with its parts, and the probability-flow ODE's."""

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
_EVALUATIONS = 4  # of the network, a step of the ODE


@dataclass(frozen=True)
class Bound:
    """The variational bound, by `num_terms` timesteps an image (see `strata`)."""

    num_terms: int
    variance: Variance


@dataclass(frozen=True)
class Ode:
    """The probability-flow ODE's likelihood, by `num_steps` steps."""

    num_steps: int


@dataclass(frozen=True)
class Found:
    """A likelihood by the name of its metric; `nfe` forwards an image, and the parts of a bound."""

    metric: str
    figure: BitsFigure
    nfe: int
    notes: list[str]
    prior: Bits | None = None
    terms: Sequence[Term] = ()


@dataclass(frozen=True)
class Draws:
    """`num` independent noises for each image, all from `seed`; `batch_size` images at a time."""

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
        """Estimates for those images, told their labels."""
        labels = None if self.images.labels is None else self.images.labels[part]

        def estimate(x_t: Tensor, levels: NoiseLevels) -> Estimate:
            return self.parameterization.estimate(
                self.parameterization.run(self.network, x_t, levels, labels), x_t, levels
            )

        return estimate


def bound_bits(model: Model, method: Bound, *, draws: Draws, on_progress: OnProgress) -> Found:
    """The variational bound with its parts.

    Raises:
        EvaluationError: a part is not finite.
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
        f"{process.num_timesteps} steps with {method.variance} variance, estimates of x0 not clipped"
    ]
    if method.num_terms < process.num_timesteps:
        notes.append(f"{method.num_terms} of {process.num_timesteps} terms an image, drawn evenly within groups of t")
    if process.continuous:
        notes.append("the schedule is continuous: the bound is that of the chain of its whole timesteps")
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
    """The likelihood of the probability flow.

    Raises:
        EvaluationError: a likelihood is not finite.
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
            # the normal distribution's function makes even numbers of normal ones
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
        f"nothing is denoised at t = 0: its noise, {sigma:.4g} of an image in [-1, 1] ({sigma / GREY_LEVEL:.2g} grey "
        "levels), counts as the model's own",
    ]
    if process.snr[-1] == 0:
        notes.append(f"one step of Heun's leads from t = {last - 1} to zero SNR at t = {last}")
    lost = float(_finite(discretisation).mean())
    figure = _figure(bits).model_copy(update={"discretisation": lost})
    nfe = draws.num * _EVALUATIONS * (method.num_steps + method.num_steps // 2)
    if process.snr[-1] == 0:
        nfe += draws.num * _EVALUATIONS  # Heun's two, at the end of the finer and of the coarser solution
    if lost > figure.se:
        notes.append("the integrator's error is larger than the standard error: raise `steps`")
    return Found("ode_bits_per_dim", figure, nfe, notes)


def _normal(seed: int, step: int, positions: Tensor, *, like: Tensor) -> Tensor:
    return counter_random.normal(
        seed, Stream.LIKELIHOOD, step=step, positions=positions.to(like.device), shape=like.shape[1:]
    )


def _figure(bits: Tensor) -> BitsFigure:
    """The mean of bits [draws, N] and its errors."""
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
    """The mean over images [N], and its standard error."""
    return Bits(bits=float(_finite(bits).mean()), se=float(bits.std() / math.sqrt(len(bits))))


def _finite(bits: Tensor) -> Tensor:
    if not bool(torch.isfinite(bits).all()):
        raise EvaluationError("the likelihood is not finite. Use another checkpoint, or `weights=raw`")
    return bits
