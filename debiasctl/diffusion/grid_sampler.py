"""The common part of samplers on a grid of noise levels: the grid, guidance and clipping, the loop over steps."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, ClassVar, NamedTuple, Self

import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from torch import Tensor

from debiasctl.api import Denoiser, Estimate, Level, PluginOptions, Process, Sampler, UsageError
from debiasctl.diffusion.grid import RHO, Spacing, noise_grid
from debiasctl.diffusion.guided import Guided
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import process_behind

Noise = Callable[[int], Tensor]
SIGMA_MAX = 80.0  # arXiv 2206.00364, Table 1


class SamplerOptions(PluginOptions):
    """The options that every sampler on a grid has."""

    spacing: Spacing = Field("uniform", description="how the steps are spread over the noise levels")
    rho: float = Field(RHO, gt=0, description="spacing=karras: larger puts more of the steps at little noise")
    sigma_max: float | None = Field(
        SIGMA_MAX,
        gt=0,
        description="spacing=karras, log-snr: after the last timestep, skip levels with sigma/alpha above this, where "
        "hardly any image is visible; the first step jumps over them, however many steps there are. null: skip none",
    )
    clip_x0: bool = Field(True, description="clip each estimate of x0 to [-1, 1]")
    threshold: float | None = Field(
        None,
        gt=0,
        le=1,
        description="dynamic thresholding instead of clipping to [-1, 1]: clip each image at this quantile of |x0| (at "
        "least 1) and divide by it (2205.11487, §2.3)",
    )
    guidance: float = Field(
        1.0,
        ge=0,
        description="guidance scale: 1 means none. Away from the network without a class (classifier-free, 2207.12598) "
        "or, with a guide, from a weaker network (autoguidance, 2406.02507)",
    )
    guidance_interval: tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)] | None] | None = Field(
        None,
        description="guide only where sigma/alpha, EDM's sigma, is above the first number and at most the second "
        "(2404.07724), e.g. [0.28,2.9]; null as the second: no limit. null: at every noise level",
    )
    eps_scale: float = Field(1.0, gt=0, description="divide the estimate of eps by this, e.g. 1.005 (2308.15321)")

    @model_validator(mode="after")
    def _have_an_effect(self) -> Self:
        if self.sigma_max != SIGMA_MAX and self.spacing not in ("karras", "log-snr"):
            raise ValueError(
                f"sigma_max has no effect with spacing={self.spacing}; it belongs to spacing=karras and spacing=log-snr"
            )
        if self.rho != RHO and self.spacing != "karras":
            raise ValueError(f"rho has no effect with spacing={self.spacing}; it belongs to spacing=karras")
        if self.guidance_interval is None:
            return self
        low, high = self.guidance_interval
        if high is not None and low > high:
            raise ValueError(f"guidance_interval=[{low:g},{high:g}]: the first number must not exceed the second")
        if "guidance" not in self.model_fields_set:
            raise ValueError("guidance_interval has no effect without guidance. Add a scale, such as guidance=2")
        return self

    @model_serializer(mode="wrap")
    def _without_an_open_interval(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out an interval that is not given: what is named by these options keeps its older name."""
        stored: dict[str, Any] = handler(self)
        return {name: value for name, value in stored.items() if (name, value) != ("guidance_interval", None)}

    def guides_at(self, level: Level) -> bool:
        """Whether guidance changes an estimate at this level."""
        if self.guidance == 1 or self.guidance_interval is None:
            return self.guidance != 1
        low, high = self.guidance_interval
        ratio = level.sigma / level.alpha if level.alpha > 0 else math.inf
        return low < ratio and (high is None or ratio <= high)


class Step(NamedTuple):
    """The result of a step: the images at the next noise level, and the estimate of x0 they were computed from."""

    x: Tensor
    x0: Tensor


class Model:
    """The denoiser as a solver calls it, with labels, guidance, epsilon scaling, thresholding and clipping applied."""

    def __init__(self, denoiser: Denoiser, options: SamplerOptions, *, labels: Tensor | None = None) -> None:
        has_weaker = isinstance(denoiser, Guided) or (labels is not None and denoiser.null_label is not None)
        if options.guidance != 1 and not has_weaker:
            raise UsageError(
                f"guidance={options.guidance:g} needs a class-conditional model trained with label dropout "
                "(`model.label_dropout=0.1`) or, to sample and evaluate, a weaker network (`guide`). Leave guidance "
                "out for this one"
            )
        self.process = process_behind(denoiser)
        self._denoiser, self._options, self._labels = denoiser, options, labels

    def __call__(self, x: Tensor, level: Level) -> Estimate:
        """Estimate x0, eps and v for x [N, C, H, W] at that level; the three are consistent with x and one another."""
        estimate = self._guided(x, level)
        x0, eps = estimate.x0, estimate.eps
        if self._options.eps_scale != 1 and level.alpha > 0:  # from pure noise, x0 does not follow from eps
            x0 = (x - level.sigma / self._options.eps_scale * eps) / level.alpha
        if self._options.threshold is not None:
            x0 = dynamic_threshold(x0, self._options.threshold)
        elif self._options.clip_x0:
            x0 = x0.clamp(-1, 1)
        if x0 is estimate.x0:
            return estimate
        alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in (level.alpha, level.sigma))
        found = convert(x0, "x0", x_t=x, alpha=alpha, sigma=sigma)
        return Estimate(found.x0, found.eps, found.v, estimate.variance_fraction)

    def _guided(self, x: Tensor, level: Level) -> Estimate:
        scale, labels = self._options.guidance, self._labels
        if not self._options.guides_at(level):
            return self._denoiser(x, level.t, labels)
        weaker = self._weaker(x, level)
        if scale == 0:
            return weaker
        given = self._denoiser(x, level.t, labels)
        return Estimate(
            torch.lerp(weaker.x0, given.x0, scale),  # D_weak + w (D - D_weak)
            torch.lerp(weaker.eps, given.eps, scale),
            torch.lerp(weaker.v, given.v, scale),
            given.variance_fraction,
            given.prediction if given.prediction == weaker.prediction else None,
        )

    def _weaker(self, x: Tensor, level: Level) -> Estimate:
        """The estimate that guidance leads away from: the guide's, or the network's own without a class."""
        if isinstance(self._denoiser, Guided):
            return self._denoiser.weaker(x, level.t, self._labels)
        assert self._labels is not None
        assert self._denoiser.null_label is not None
        return self._denoiser(x, level.t, torch.full_like(self._labels, self._denoiser.null_label))


def dynamic_threshold(x0: Tensor, quantile: float) -> Tensor:
    """Clip x0 [N, C, H, W] to ±s and divide by s, the image's quantile of |x0| but at least 1 (2205.11487, §2.3)."""
    s = torch.quantile(x0.abs().flatten(1).float(), quantile, dim=1).clamp(min=1).to(x0.dtype).reshape(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


class GridSampler(Sampler):
    """A sampler that descends a grid of noise levels; subclasses define the steps between neighbours in `steps`."""

    Options: ClassVar[type[PluginOptions]] = SamplerOptions
    options: SamplerOptions

    def grid(self, process: Process, num_steps: int) -> list[Level]:
        """The levels that the sampler visits, the noisiest first, the clean image last.

        Raises:
            UsageError: if the spacing uses whole timesteps and the process has fewer of them than `num_steps`.
        """
        options = self.options
        sigma_max = math.inf if options.sigma_max is None else options.sigma_max
        return noise_grid(
            process_behind(process), num_steps, spacing=options.spacing, rho=options.rho, sigma_max=sigma_max
        )

    @abstractmethod
    def steps(self, model: Model, x: Tensor, grid: Sequence[Level], noise: Noise) -> Iterator[Step]:
        """Yield one `Step` for each pair of neighbours in `grid`, which may also end at a level with noise.

        x is [N, C, H, W] at the first level; `noise(k)` is standard normal noise of x's shape for the k-th step.
        """

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        *,
        num_steps: int,
        noise: Noise,
        labels: Tensor | None = None,
        on_step: Callable[[int, Tensor, Tensor], None] | None = None,
    ) -> Tensor:
        """Return the samples, float [N, C, H, W]; see `debiasctl.api.Sampler`."""
        model = Model(denoiser, self.options, labels=labels)
        steps = self.steps(model, x, self.grid(model.process, num_steps), noise)
        for done, step in enumerate(steps, start=1):
            x = step.x
            if on_step:
                on_step(done, step.x, step.x0)
        return x


def posterior_variance(now: Level, after: Level) -> float:
    """The variance of q(x_after | x_now, x0): (sigma_after²/sigma_now²) beta (DDPM, Eq. 7, between any two levels)."""
    return (after.sigma / now.sigma) ** 2 * beta(now, after)


def beta(now: Level, after: Level) -> float:
    """The variance that the forward process adds from `after` to `now`, 1 - (alpha_now/alpha_after)²."""
    return (now.sigma**2 - after.sigma**2) / after.alpha**2
