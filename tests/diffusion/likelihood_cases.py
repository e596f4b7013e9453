"""What the likelihood's tests share: exact networks for normally distributed images, and their closed forms."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from debiasctl import registry
from debiasctl.api import Estimate
from debiasctl.diffusion.likelihood import Estimator
from debiasctl.diffusion.parameterization import Parameterization, target
from debiasctl.diffusion.process import DiffusionProcess, NoiseLevels, process_of

SIGMA_DATA = 0.5


def process(ref: str) -> DiffusionProcess:
    return process_of(registry.create("schedules", ref))


class ExactNetwork(nn.Module):
    """What a perfect network of a prediction type gives for flat images x0 ~ N(mean, covariance), [D] and [D, D]."""

    def __init__(
        self,
        process: DiffusionProcess,
        prediction: str,
        *,
        mean: Tensor,
        covariance: Tensor,
        fraction: float | None = None,
    ) -> None:
        super().__init__()
        self.process, self.prediction, self.fraction = process, prediction, fraction
        self.mean, self.covariance = mean, covariance
        self.asked: list[tuple[Tensor, Tensor | None]] = []

    def forward(self, x: Tensor, noise_level: Tensor, labels: Tensor | None = None) -> Tensor:
        self.asked.append((noise_level, labels))
        alpha, sigma = self.level(noise_level.double())
        scale = (sigma**2 + alpha**2 * SIGMA_DATA**2).sqrt()
        if self.prediction == "edm":
            x = x * scale.unsqueeze(-1)
        elif self.prediction == "flow":
            x = x * (alpha + sigma).unsqueeze(-1)
        spread = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=torch.float64)
        flat = x.flatten(1).double().unsqueeze(-1)
        centre = self.mean.unsqueeze(-1)
        x0 = centre + alpha * self.covariance @ torch.linalg.solve(spread, flat - alpha * centre)
        eps = (flat - alpha * x0) / sigma
        if self.prediction == "edm":
            output = (sigma / SIGMA_DATA * x0 - alpha * SIGMA_DATA * eps) / scale
        else:
            output = target(self.prediction, x0=x0, eps=eps, alpha=alpha, sigma=sigma)
        output = output.reshape(x.shape).to(x.dtype)
        if self.fraction is None:
            return output
        return torch.cat([output, torch.full_like(output, 2 * self.fraction - 1)], dim=1)

    def level(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma, [N, 1, 1] each, from t, EDM's c_noise or 1000 s."""
        if self.prediction not in ("edm", "flow"):
            levels = self.process.levels(told)
            return levels.alpha.reshape(-1, 1, 1), levels.sigma.reshape(-1, 1, 1)
        if self.prediction == "flow":
            s = told.reshape(-1, 1, 1) / 1000
            n = ((1 - s) ** 2 + s**2).sqrt()
            return (1 - s) / n, s / n
        ratio = (4 * told).exp().reshape(-1, 1, 1)
        return 1 / (1 + ratio**2).sqrt(), ratio / (1 + ratio**2).sqrt()


def estimator(network: ExactNetwork) -> Estimator:
    learned = network.fraction is not None
    found = Parameterization(network.prediction, network.process, learned_variance=learned)

    def estimate(x_t: Tensor, levels: NoiseLevels) -> Estimate:
        return found.estimate(found.run(network, x_t, levels, None), x_t, levels)

    return estimate


def unit_probes(x: Tensor) -> Tensor:
    """Probes [D, N, C, H, W] that give the exact trace, at the cost of D = C H W derivatives per evaluation."""
    size = math.prod(x.shape[1:])
    basis = math.sqrt(size) * torch.eye(size, dtype=x.dtype, device=x.device)
    return basis.reshape(size, 1, *x.shape[1:]).expand(size, *x.shape)


def independent(process: DiffusionProcess, prediction: str, *, mean: float, std: float, size: int = 1) -> ExactNetwork:
    """For pixels x0 ~ N(mean, std²)."""
    return ExactNetwork(
        process,
        prediction,
        mean=torch.full((size,), mean, dtype=torch.float64),
        covariance=std**2 * torch.eye(size, dtype=torch.float64),
    )


def ode_closed_form(network: ExactNetwork, x: Tensor, *, squares: Tensor | None = None) -> Tensor:
    """ln p(x), float64 [N], of x = x_0/alpha_0 at the end of the flow that starts from N(0, 1) at T - 1.

    Along each principal axis of the images the flow keeps (x_t - alpha_t mean)/std_t, std_t² = alpha² var + sigma².
    `squares` [N, D], where given, are the mean squares of the axes' x - mean, for images that are not known better.
    """
    process = network.process
    variances, axes = torch.linalg.eigh(network.covariance)
    along, centre = (x.flatten(1).double() - network.mean) @ axes, network.mean @ axes
    first, last = ((process.alpha[k] ** 2 * variances + process.sigma[k] ** 2).sqrt() for k in (0, -1))
    alpha_0, alpha_last = process.alpha[0], process.alpha[-1]
    gain = last / first * alpha_0
    mean_square = (alpha_last * centre + gain * along) ** 2
    if squares is not None:
        mean_square = mean_square + gain**2 * (squares - along**2)
    return (-0.5 * mean_square - 0.5 * math.log(2 * math.pi) + gain.log()).sum(dim=1)


def grid(values: Sequence[float] | Tensor) -> Tensor:
    """Images of one pixel, float64 [N, 1, 1, 1]."""
    return torch.as_tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)
