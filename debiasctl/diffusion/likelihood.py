"""The likelihood that a model gives images: the variational bound's terms and the probability-flow ODE's density."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from debiasctl.api import Estimate
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels
from debiasctl.diffusion.variance import bound_terms
from debiasctl.errors import UsageError

Variance = Literal["learned", "fixed-small", "fixed-large"]
VARIANCES: tuple[Variance, ...] = get_args(Variance)
Estimator = Callable[[Tensor, NoiseLevels], Estimate]  # maps x_t [N, C, H, W] at N noise levels to an estimate
GREY_LEVEL = 2 / 255  # the width of one of 256 levels in [-1, 1]


# ---------------------------------------------------------------- the variational bound (DDPM, Eq. 5)


def strata(process: DiffusionProcess, num_terms: int) -> list[range]:
    """Divide the timesteps into `num_terms` contiguous strata for a stratified estimate; t = 0 is a stratum of its own.

    One timestep of each stratum is drawn uniformly and weighted by len(stratum). Half of the strata's density follows
    t and half ln(1 + SNR), along which the bound of an image of independent pixels of variance 1 is uniform.

    Raises:
        UsageError: if `num_terms` is below 2 or exceeds the number of timesteps.
    """
    count = process.num_timesteps
    if not 2 <= num_terms <= count:
        raise UsageError(f"{num_terms} terms of the bound: choose from 2 to {count}, the schedule's timesteps, or all")
    falls = -torch.log1p(process.snr).diff()
    share = (falls / falls.sum() + 1 / (count - 1)) / 2  # the share of each t = 1 ... T - 1
    lasts = torch.searchsorted(share.cumsum(0), torch.arange(1, num_terms - 1, dtype=torch.float64) / (num_terms - 1))
    edges = [0, 1]
    for number, last in enumerate(lasts.tolist(), start=2):  # at least one timestep in each stratum
        edges.append(min(max(last + 2, edges[-1] + 1), count - (num_terms - number)))
    return [range(start, end) for start, end in pairwise([*edges, count])]


def prior_term(process: DiffusionProcess, x0: Tensor) -> Tensor:
    """L_T = KL(q(x_{T-1} | x0) || N(0, 1)) in bits per dimension, float64 [N]; exactly 0 at zero terminal SNR."""
    signal = process.alphas_cumprod[-1].item()
    nats = 0.5 * (signal * x0.double().square() - signal - math.log1p(-signal))
    return nats.flatten(1).mean(dim=1) / math.log(2)


@torch.no_grad()
def bound_term(
    estimate: Estimator, process: DiffusionProcess, *, x0: Tensor, eps: Tensor, t: Tensor, variance: Variance
) -> Tensor:
    """The bound's term L_t at each image's t (int64 [N]) for one noise `eps`, in bits per dimension, float64 [N].

    The reverse step's variance is beta_tilde (fixed-small), beta (fixed-large) or the network's own. At t = 0 the term
    is the negative log-likelihood of 256 grey levels (see `variance.bound_terms`), and both fixed variances are
    beta_tilde of t = 1, as in the published codes of DDPM and its successors.

    Raises:
        UsageError: if `variance` is "learned" and the model has no learned variance.
    """
    levels = process.levels(t)
    x_t = process.add_noise(x0, eps, levels)
    found = estimate(x_t, levels)
    if variance == "learned":
        if found.variance_fraction is None:
            raise UsageError(
                "this model has no learned variance (training with `model.learned_variance=true` gives one). "
                "Choose fixed-small or fixed-large"
            )
        fraction = found.variance_fraction
    else:
        fraction = torch.full_like(x0, 1.0 if variance == "fixed-large" else 0.0)
        fraction[(t == 0).to(x0.device)] = 0.0  # beta_0 is not the variance of a step between two timesteps
    x0_hat, fraction, x0 = (value.double() for value in (found.x0, fraction, x0))
    return bound_terms(process, x0_hat, fraction, x0=x0, t=t).double()


# ---------------------------------------------------------------- the probability-flow ODE (arXiv 2011.13456, §4.3)


@dataclass(frozen=True)
class OdeDensity:
    """ln p of each image and a conservative estimate of its discretisation error, both float64 [N] in nats."""

    log_density: Tensor
    discretisation: Tensor


def ode_log_density(
    estimate: Estimator,
    process: DiffusionProcess,
    x: Tensor,
    *,
    probes: Tensor,
    num_steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> OdeDensity:
    """Compute ln p(x) of images x [N, C, H, W] under the probability-flow ODE that starts from N(0, 1) at T - 1.

    With alpha = cos φ and sigma = sin φ the ODE is dx_t/dφ = v. It is solved from t = 0 by the classical Runge-Kutta
    method of order 4 in `num_steps` even steps of u = ln(sigma/alpha), where dφ/du = alpha sigma; the trace of dv/dx is
    the mean of pᵀ(dv/dx)p over `probes` [P, N, C, H, W] (Hutchinson; as probes, √D times the D unit images give the
    exact trace). At t = 0 noise of sigma_0 remains, and no correction is made for it: the density is that of
    x_0/alpha_0 at the ODE's end.

    Where the last SNR is 0, u ends at T - 2, and one Heun step in φ leads from there to T - 1, since no log-SNR lies
    between them. `discretisation` is the difference to the result with half the steps, plus Heun's step minus Euler's.

    Raises:
        UsageError: if `num_steps` is odd or below 2.
    """
    check_num_steps(num_steps)
    flow = _Flow(estimate, process, probes)
    fine, gap = flow.log_density(x, num_steps, on_step)
    coarse, _ = flow.log_density(x, num_steps // 2, on_step)
    return OdeDensity(fine, (fine - coarse).abs() + gap)


def check_num_steps(num_steps: int) -> None:
    """Check that the number of steps can be halved.

    Raises:
        UsageError: if `num_steps` is odd or below 2.
    """
    if num_steps < 2 or num_steps % 2:
        raise UsageError(f"{num_steps} steps of the ODE: give an even number, since half as many estimate the error")


def dequantised_bits(log_density: Tensor, *, dimension: int) -> Tensor:
    """Convert ln p [N] at uniformly dequantised images to -log2 p in bits per dimension for 256 grey levels.

    Its mean over the dequantisation noise is an upper bound on -log2 P of the grey levels (Theis et al., 1511.01844,
    §3.1).
    """
    return -(log_density / dimension + math.log(GREY_LEVEL)) / math.log(2)


class _Flow:
    def __init__(self, estimate: Estimator, process: DiffusionProcess, probes: Tensor) -> None:
        self.estimate, self.process, self.probes = estimate, process, probes
        self.zero_terminal = bool(process.snr[-1] == 0)
        last = -2 if self.zero_terminal else -1
        self.start, self.end = (-process.log_snr[[0, last]] / 2).tolist()

    def log_density(self, x: Tensor, num_steps: int, on_step: Callable[[], None]) -> tuple[Tensor, Tensor]:
        """Compute ln p(x), and the part of its error that does not shrink with more steps, both float64 [N]."""
        alpha = self.process.alpha[0].item()
        x, total = alpha * x, torch.zeros(len(x), dtype=torch.float64, device=x.device)
        total += math.prod(x.shape[1:]) * math.log(alpha)
        h = (self.end - self.start) / num_steps
        for k in range(num_steps):
            u = self.start + k * h
            v1, trace1 = self.in_u(x, u)
            v2, trace2 = self.in_u(x + h / 2 * v1, u + h / 2)
            v3, trace3 = self.in_u(x + h / 2 * v2, u + h / 2)
            v4, trace4 = self.in_u(x + h * v3, u + h)
            x = x + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4)
            total += h / 6 * (trace1 + 2 * trace2 + 2 * trace3 + trace4)
            on_step()
        if not self.zero_terminal:
            return total + _log_normal(x), torch.zeros_like(total)
        last = self.process.num_timesteps - 1
        h = math.atan2(self.process.alpha[-2].item(), self.process.sigma[-2].item())
        v1, trace1 = self.in_angle(x, self.levels(x, last - 1))
        v2, trace2 = self.in_angle(x + h * v1, self.levels(x, last))
        heun = _log_normal(x + h / 2 * (v1 + v2)) + h / 2 * (trace1 + trace2)
        euler = _log_normal(x + h * v1) + h * trace1
        return total + heun, (heun - euler).abs()

    def levels(self, x: Tensor, t: float) -> NoiseLevels:
        return self.process.levels(torch.full((len(x),), t, dtype=torch.float64))

    def in_u(self, x: Tensor, u: float) -> tuple[Tensor, Tensor]:
        """dx/du [N, C, H, W] and the trace of its derivative, float64 [N]."""
        levels = self.levels(x, self.process.timestep_of(torch.tensor([-2 * u], dtype=torch.float64)).item())
        speed = (levels.alpha[0] * levels.sigma[0]).item()
        v, trace = self.in_angle(x, levels)
        return speed * v, speed * trace

    def in_angle(self, x: Tensor, levels: NoiseLevels) -> tuple[Tensor, Tensor]:
        """v = dx/dφ [N, C, H, W] and the trace of its derivative, float64 [N]."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            v = self.estimate(x, levels).v
            trace = torch.zeros(len(x), dtype=torch.float64, device=x.device)
            for number, probe in enumerate(self.probes, start=1):
                more = number < len(self.probes)
                (product,) = torch.autograd.grad((v * probe).sum(), x, retain_graph=more)
                trace += (product.double() * probe).flatten(1).sum(dim=1)
        return v.detach(), trace / len(self.probes)


def _log_normal(x: Tensor) -> Tensor:
    """Compute ln N(x; 0, 1) of each image, float64 [N]."""
    return -0.5 * (x.double().square() + math.log(2 * math.pi)).flatten(1).sum(dim=1)
