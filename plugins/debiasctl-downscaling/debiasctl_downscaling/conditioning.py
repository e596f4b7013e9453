"""Sampling images x with C x = y: a denoiser that is conditioned on y, for any sampler (arXiv 2305.15618, §3.3)."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import Denoiser, Estimate, Sampler, UsageError
from debiasctl.diffusion import convert, process_behind
from debiasctl_downscaling.operators import Operator

ALPHA = 0.5  # exact where the network's Jacobian is 1, as it is where hardly any noise is left
_TINY = 1e-30


class Conditioned:
    """A denoiser whose estimates of x0 obey C x0 = y; see `debiasctl.api.Denoiser`.

    The estimate is the paper's D~ = C†y + (I - V Vᵀ)[D - alpha ∇_x |r|²], with x in units of x0 + sigma eps. Here
    r = Vᵀ D - S⁻¹ Uᵀ y, which is C D - y over C's singular values, so that alpha does not depend on C's units: for
    means over p pixels, the paper's alpha is p times this one.

    With `iterations` above 0, alpha is replaced by the matrix that is exact for Gaussian images: the guidance is
    J V (Vᵀ J V)⁻¹ (-r) with D's Jacobian J, by so many conjugate gradient iterations (a single one chooses the best
    alpha for each image), of a derivative each.

    `low` are the low-resolution images y [N, ...], one for each image that is drawn. `clip` clips D to [-1, 1] first.
    `nfe` counts the forwards of the network.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        operator: Operator,
        low: Tensor,
        *,
        alpha: float = ALPHA,
        iterations: int = 0,
        clip: bool = False,
    ) -> None:
        self.denoiser, self.operator = denoiser, operator
        self.alpha, self.iterations, self.clip = alpha, iterations, clip
        self._low = low
        self.null_label: int | None = None  # guidance away from no class would leave the images that obey C x = y
        self.alphas_cumprod, self.num_timesteps = denoiser.alphas_cumprod, denoiser.num_timesteps
        self.process = getattr(denoiser, "process", None)

    @property
    def nfe(self) -> int:
        """The forwards of the network."""
        return self.denoiser.nfe

    @nfe.setter
    def nfe(self, value: int) -> None:
        self.denoiser.nfe = value

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W] given C x0 = y, all at timestep t.

        Raises:
            UsageError: if x_t are not as many images as y.
        """
        if len(x_t) != len(self._low):
            raise UsageError(f"{len(x_t)} images are drawn, given {len(self._low)} low-resolution ones")
        alpha, sigma = self._level(t)
        known = self.operator.known(self._low.to(x_t))
        guides = alpha > 0 and (self.iterations > 0 or self.alpha > 0)
        with torch.set_grad_enabled(guides):
            x = x_t.detach().requires_grad_(guides)
            found = self.denoiser(x, t, labels)
            x0 = found.x0.clamp(-1, 1) if self.clip else found.x0
            coordinates = self.operator.coordinates(x0)
            change = self._guidance(x, coordinates, known, alpha) if guides else torch.zeros_like(x_t)
        with torch.no_grad():
            free = x0.detach() + change
            missing = known - self.operator.coordinates(free)
            x0 = free + self.operator.lift(missing, x_t.shape)
        return self._estimate(x0, x_t, alpha, sigma, found.variance_fraction)

    def _level(self, t: float) -> tuple[float, float]:
        """Alpha and sigma at a timestep."""
        levels = process_behind(self).levels(torch.tensor([t], dtype=torch.float64))
        return float(levels.alpha), float(levels.sigma)

    def _guidance(self, x: Tensor, coordinates: Tensor, known: Tensor, alpha: float) -> Tensor:
        """The change of D by guidance, before it is projected. In the paper's units, x is x_t/alpha."""

        def back(c: Tensor) -> Tensor:
            """Jᵀ V c, J being the Jacobian of D in the paper's units."""
            (gradient,) = torch.autograd.grad(coordinates, x, c, retain_graph=True)
            return alpha * gradient

        residual = (coordinates - known).detach()
        if not self.iterations:
            return -2 * self.alpha * back(residual)
        return back(self._solved(lambda c: self.operator.coordinates(back(c)), -residual))

    def _solved(self, apply: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
        """A solution z [N, r] of (Vᵀ J V) z = right by conjugate gradients, of each image for itself.

        An image is left as it is once it has converged, or where its matrix is not positive in a direction.
        """
        z = torch.zeros_like(right)
        rest, direction = right, right
        square = rest.square().sum(dim=1, keepdim=True)
        enough = square * (8 * torch.finfo(right.dtype).eps) ** 2
        for _ in range(min(self.iterations, right.shape[1])):
            image = apply(direction)
            curvature = (direction * image).sum(dim=1, keepdim=True)
            going = (curvature > _TINY) & (square > enough)
            if not bool(going.any()):
                break
            step = torch.where(going, square / curvature.clamp(min=_TINY), 0.0)
            z, rest = z + step * direction, rest - step * image
            after = rest.square().sum(dim=1, keepdim=True)
            direction = rest + torch.where(going, after / square.clamp(min=_TINY), 0.0) * direction
            square = torch.where(going, after, 0.0)
        return z

    def _estimate(self, x0: Tensor, x_t: Tensor, alpha: float, sigma: float, fraction: Tensor | None) -> Estimate:
        one, other = (torch.tensor(value, dtype=torch.float64) for value in (alpha, sigma))
        found = convert(x0, "x0", x_t=x_t, alpha=one, sigma=other)
        return Estimate(found.x0, found.eps, found.v, fraction)


def draw(
    denoiser: Denoiser,
    operator: Operator,
    low: Tensor,
    *,
    shape: tuple[int, int, int],
    sampler: Sampler,
    num_steps: int,
    seed: int = 0,
    alpha: float = ALPHA,
    iterations: int = 0,
    clip: bool = False,
    batch_size: int = 64,
    device: torch.device | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw an image for each low-resolution one [N, ...]: float32 [N, C, H, W] on the CPU, of `shape` (C, H, W).

    Image i is a function of the seed, i and low[i] (up to rounding). `on_progress` is called with the images drawn.

    Raises:
        UsageError: if the low-resolution images are not of the operator's form.
    """
    device = device or torch.device("cpu")
    wanted = operator.low_shape(shape)
    if low[0].numel() != int(np.prod(wanted)):
        raise UsageError(
            f"the low-resolution images are {'x'.join(map(str, low.shape[1:]))}, and operator {operator.name} makes "
            f"{'x'.join(map(str, wanted))} of images of {'x'.join(map(str, shape))}"
        )
    drawn = []
    for start in range(0, len(low), batch_size):
        part = low[start : start + batch_size].to(device, torch.float32)
        positions = range(start, start + len(part))
        conditioned = Conditioned(denoiser, operator, part, alpha=alpha, iterations=iterations, clip=clip)
        labels = None
        if denoiser.null_label is not None:
            labels = torch.full((len(part),), denoiser.null_label, dtype=torch.int64, device=device)

        def noise(step: int, positions: Sequence[int] = positions) -> Tensor:
            return normal(seed, positions, step, shape).to(device)

        with torch.no_grad():
            x = sampler(conditioned, noise(0), num_steps=num_steps, noise=noise, labels=labels)
        drawn.append(x.float().cpu())
        if on_progress:
            on_progress(start + len(part))
    return torch.cat(drawn)


def normal(seed: int, positions: Sequence[int], step: int, shape: tuple[int, int, int]) -> Tensor:
    """Standard normal float32 [N, C, H, W], each image a function of the seed, its position and the step."""
    images = [
        np.random.Generator(np.random.Philox(key=[seed, (step << 40) + i])).standard_normal(shape) for i in positions
    ]
    return torch.from_numpy(np.stack(images)).float()
