"""The network's prediction types, and the exact conversions among eps, x0, v, EDM's preconditioning and rectified flow.

Every parameterization is x0_hat = c_skip x_t + c_out F(c_in x_t, c_noise); with D = sigma² + alpha² sigma_data²,
m = 1/(alpha + sigma) and s = sigma m:

    eps   c_skip = 1/alpha                  c_out = -sigma/alpha           c_in = 1      c_noise = t
    x0    c_skip = 0                        c_out = 1                      c_in = 1      c_noise = t
    v     c_skip = alpha                    c_out = -sigma                 c_in = 1      c_noise = t
    edm   c_skip = alpha sigma_data²/D      c_out = sigma sigma_data/√D    c_in = 1/√D   c_noise = ln(sigma/alpha)/4
    flow  c_skip = m                        c_out = -s                     c_in = m      c_noise = 1000 s

Rectified flow's x_s = (1 - s) x0 + s eps is m x_t, and its network predicts eps - x0 (SD3, arXiv 2403.03206).
"""

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor, nn

from debiasctl.api import Estimate, Prediction, Space
from debiasctl.diffusion.modules import run_network
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels, per_image
from debiasctl.errors import UsageError

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SPACES: tuple[Space, ...] = get_args(Space)
FLOW_TIME = 1000  # a flow network's time is this times s, as in diffusers, whatever the schedule's T


def check_prediction(prediction: str, process: DiffusionProcess) -> None:
    """Check that the process can be trained with this prediction type.

    Raises:
        UsageError: if the prediction type is unknown; or if some SNR is 0 and it is eps (x_t is pure noise there, so
            that the estimate of x0 would be divided by alpha = 0) or edm (the network's input ln(sigma/alpha) would be
            infinite).
    """
    if prediction not in PREDICTIONS:
        raise UsageError(f"unknown prediction '{prediction}'. Known: {', '.join(PREDICTIONS)}")
    if prediction not in ("eps", "edm") or not bool((process.snr == 0).any()):
        return
    why = {
        "eps": "at its last timestep x_t is the noise itself, and no image follows from a prediction of it",
        "edm": "the network's input ln(sigma/alpha) is infinite at its last timestep",
    }[prediction]
    raise UsageError(
        f"{prediction}-prediction cannot be used on a schedule with zero terminal SNR: {why}. "
        "Use `prediction=v`, x0 or flow, or another schedule"
    )


def target(prediction: Space, *, x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """The target eps, x0, v or flow for images and noise [N, C, H, W].

    v = (alpha eps - sigma x0)/n with n² = alpha² + sigma², and flow = eps - x0.
    """
    if prediction == "eps":
        return eps
    if prediction == "x0":
        return x0
    if prediction == "flow":
        return eps - x0
    return (alpha * eps - sigma * x0) / torch.sqrt(alpha**2 + sigma**2)


def convert(value: Tensor, prediction: Space, *, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Estimate:
    """Convert an estimate given as eps, x0, v or flow into all; each is exact, since x_t = alpha x0 + sigma eps.

    `value` and `x_t` are [N, C, H, W]; alpha and sigma broadcast to them.
    """
    n = torch.sqrt(alpha**2 + sigma**2)
    if prediction == "v":  # v turns (x_t, v) into (x0, eps) by a rotation (arXiv 2202.00512, App. D)
        return Estimate(x0=(alpha * x_t / n - sigma * value) / n, eps=(sigma * x_t / n + alpha * value) / n, v=value)
    if prediction == "flow":
        m = 1 / (alpha + sigma)
        x0, eps = m * (x_t - sigma * value), m * (x_t + alpha * value)
    elif prediction == "eps":
        x0, eps = (x_t - sigma * value) / alpha, value
    else:
        x0, eps = value, (x_t - alpha * value) / sigma
    return Estimate(x0=x0, eps=eps, v=target("v", x0=x0, eps=eps, alpha=alpha, sigma=sigma))


@dataclass(frozen=True)
class Output:
    """A network's output: F [N, C, H, W] and, if the variance is learned, its fraction, roughly in [0, 1]."""

    prediction: Tensor
    variance_fraction: Tensor | None = None


class Parameterization:
    """A prediction type on a process: the network's input and target, and the estimates that its output implies.

    `sigma_data` is the standard deviation of the data, which only edm uses. With `learned_variance`, the network has
    twice as many output channels, and the second half gives the position of the log of the reverse step's variance
    between beta_tilde (-1) and beta (1) (arXiv 2102.09672, Eq. 15).
    """

    def __init__(
        self,
        prediction: Prediction,
        process: DiffusionProcess,
        *,
        sigma_data: float = 0.5,
        learned_variance: bool = False,
    ) -> None:
        check_prediction(prediction, process)
        if learned_variance and process.continuous:
            raise UsageError(
                "a learned variance belongs to steps between neighbouring timesteps, and a continuous schedule has no "
                "such steps. Leave out learned_variance, or use a schedule with continuous=false"
            )
        self.prediction: Prediction = prediction
        self.process, self.sigma_data, self.learned_variance = process, sigma_data, learned_variance

    def run(self, network: nn.Module, x_t: Tensor, levels: NoiseLevels, labels: Tensor | None) -> Output:
        """Compute F(c_in x_t, c_noise) for x_t [N, C, H, W] at N noise levels; `labels` is int64 [N] if conditional."""
        if self.prediction == "edm":
            (c_in,) = per_image(self._edm_norm(levels).reciprocal(), like=x_t)
            noise = (levels.sigma / levels.alpha).log() / 4
            x_t = c_in * x_t
        elif self.prediction == "flow":
            m = 1 / (levels.alpha + levels.sigma)
            noise = FLOW_TIME * levels.sigma * m
            x_t = per_image(m, like=x_t)[0] * x_t
        else:
            noise = levels.t.to(torch.float64)
        channels = x_t.shape[1] * (2 if self.learned_variance else 1)
        level = per_image(noise, like=x_t)[0].flatten()
        output = run_network(network, x_t, level, labels, out_channels=channels)
        if not self.learned_variance:
            return Output(output)
        prediction, fraction = output.chunk(2, dim=1)
        return Output(prediction, (fraction + 1) / 2)

    def target(self, x0: Tensor, eps: Tensor, levels: NoiseLevels) -> Tensor:
        """The target that F is trained towards, [N, C, H, W]."""
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x0)
        if self.prediction != "edm":
            return target(self.prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma)
        # (x0 - c_skip x_t)/c_out, with the common factors divided out, so that a small sigma loses no precision
        norm = self._edm_norm(levels)
        to_x0, to_eps = per_image(
            levels.sigma / (self.sigma_data * norm), levels.alpha * self.sigma_data / norm, like=x0
        )
        return to_x0 * x0 - to_eps * eps

    def estimate(self, output: Output, x_t: Tensor, levels: NoiseLevels) -> Estimate:
        """Convert a network's output into estimates of x0 and eps, each [N, C, H, W]."""
        value = output.prediction
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x_t)
        if self.prediction != "edm":
            found = convert(value, self.prediction, x_t=x_t, alpha=alpha, sigma=sigma)
        else:
            norm = self._edm_norm(levels)
            skip_x0, out_x0, skip_eps, out_eps = per_image(
                levels.alpha * self.sigma_data**2 / norm**2,
                levels.sigma * self.sigma_data / norm,
                levels.sigma / norm**2,
                levels.alpha * self.sigma_data / norm,
                like=x_t,
            )
            x0, eps = skip_x0 * x_t + out_x0 * value, skip_eps * x_t - out_eps * value
            found = Estimate(x0=x0, eps=eps, v=target("v", x0=x0, eps=eps, alpha=alpha, sigma=sigma))
        return Estimate(found.x0, found.eps, found.v, output.variance_fraction, self.prediction)

    def _edm_norm(self, levels: NoiseLevels) -> Tensor:
        """√D, the standard deviation of x_t for data with standard deviation sigma_data, float64 [N]."""
        return torch.sqrt(levels.sigma**2 + levels.alpha**2 * self.sigma_data**2)
