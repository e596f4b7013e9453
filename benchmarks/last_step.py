"""How exact multistep solvers are with a lower order in the last steps: python benchmarks/last_step.py --help.

The data are known, and so is the best denoiser: independent normal pixels, and a mixture of narrow normal distributions
around scikit-learn's digits. A sampler's images are compared with those of the probability-flow ODE's solution at t = 0
(the closed form, or 500 steps of second order), denoised in the same way.
"""

import argparse
from collections.abc import Callable, Sequence

import torch
from sklearn.datasets import load_digits
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Estimate, Level
from debiasctl.diffusion.grid import CLEAN, noise_grid
from debiasctl.diffusion.grid_sampler import GridSampler, Model
from debiasctl.diffusion.parameterization import convert
from debiasctl.diffusion.process import DiffusionProcess, process_of

SPACINGS = ("uniform", "leading", "linspace", "trailing", "quadratic", "karras", "log-snr")
SOLVERS = ("dpm-solver:order=2", "dpm-solver:order=3", "dpm-solver++:order=2", "dpm-solver++:order=3",
           "unipc:order=2", "unipc:order=3")  # fmt: skip
STEPS = (5, 8, 10, 15, 20, 25, 50)
REFERENCE_STEPS = 500
STD = 0.1  # of the mixture's components, around each digit
Posterior = Callable[[Tensor, float, float], Tensor]  # E[x0 | x_t] of x_t [N, 1, 8, 8], alpha and sigma


class Known:
    """The exact denoiser of known data."""

    null_label = None

    def __init__(self, process: DiffusionProcess, posterior: Posterior) -> None:
        self.process, self.posterior, self.nfe = process, posterior, 0
        self.alphas_cumprod, self.num_timesteps = process.alphas_cumprod, process.num_timesteps

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        levels = self.process.levels(torch.tensor([t], dtype=torch.float64))
        alpha, sigma = levels.alpha[0], levels.sigma[0]
        return convert(self.posterior(x_t, alpha.item(), sigma.item()), "x0", x_t=x_t, alpha=alpha, sigma=sigma)


def digits(count: int) -> Tensor:
    """`count` digits [M, 64] in [-1, 1]."""
    return torch.from_numpy(load_digits().images[:count]).double().flatten(1) / 8 - 1


def normal(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """Independent pixels with the digits' means and standard deviations."""
    gain = alpha * PIXEL_STD**2 / (alpha**2 * PIXEL_STD**2 + sigma**2)
    return PIXEL_MEAN + gain * (x_t - alpha * PIXEL_MEAN)


def mixture(x_t: Tensor, alpha: float, sigma: float) -> Tensor:
    """Digits with noise of standard deviation STD."""
    variance = alpha**2 * STD**2 + sigma**2
    flat = x_t.flatten(1)
    near = torch.softmax(-torch.cdist(flat, alpha * CENTRES).square() / (2 * variance), dim=1) @ CENTRES
    return (near + alpha * STD**2 / variance * (flat - alpha * near)).reshape(x_t.shape)


DATA: dict[str, Posterior] = {"normal": normal, "mixture": mixture}
CENTRES = digits(200)
PIXEL_MEAN, PIXEL_STD = CENTRES.mean(0).reshape(1, 8, 8), (CENTRES.std(0) + STD).reshape(1, 8, 8)


def walk(solver: str, denoiser: Known, x: Tensor, grid: Sequence[Level]) -> Tensor:
    sampler = registry.create("samplers", solver)
    assert isinstance(sampler, GridSampler)
    *_, last = sampler.steps(Model(denoiser, sampler.options), x, grid, lambda k: torch.zeros_like(x))
    return last.x


def exact(denoiser: Known, x: Tensor) -> Tensor:
    """The solution at t = 0, denoised."""
    if denoiser.posterior is normal:
        (start, end) = (Level(t, denoiser.process.alpha[t].item(), denoiser.process.sigma[t].item()) for t in (-1, 0))
        deviation = [(level.alpha**2 * PIXEL_STD**2 + level.sigma**2).sqrt() for level in (start, end)]
        x = end.alpha * PIXEL_MEAN + deviation[1] * (x - start.alpha * PIXEL_MEAN) / deviation[0]
        return normal(x, end.alpha, end.sigma)
    grid = noise_grid(denoiser.process, REFERENCE_STEPS, spacing="log-snr")
    return walk("dpm-solver++:order=2,clip_x0=false,lower_order_final=false", denoiser, x, [*grid[:-1], CLEAN])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--schedule", default="linear,cosine", help="schedules, separated by commas")
    parser.add_argument("--spacing", default=",".join(SPACINGS), help="spacings, separated by commas")
    parser.add_argument("--data", default=",".join(DATA), help="normal, mixture")
    parser.add_argument("--num", type=int, default=8, help="images")
    parser.add_argument("--whole", action="store_true", help="each solver apart, with its errors")
    arguments = parser.parse_args()
    for schedule in arguments.schedule.split(","):
        process = process_of(registry.create("schedules", schedule))
        for name in arguments.data.split(","):
            posterior = DATA[name]
            denoiser = Known(process, posterior)
            x = torch.randn(arguments.num, 1, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            wanted = exact(denoiser, x)
            print(f"\n{schedule}, {name}: RMS error with a lower order over that without, by steps")
            print(f"{'spacing':<10}{'solver':<22}" + "".join(f"{steps:>9}" for steps in STEPS))
            for spacing in arguments.spacing.split(","):
                ratios = []
                for solver in SOLVERS:
                    errors = {}
                    for lower in ("true", "false"):
                        ref = f"{solver},spacing={spacing},clip_x0=false,lower_order_final={lower}"
                        grids = [noise_grid(process, steps, spacing=spacing, sigma_max=80.0) for steps in STEPS]
                        drawn = torch.stack([walk(ref, denoiser, x, grid) for grid in grids])
                        errors[lower] = (drawn - wanted).flatten(1).square().mean(dim=1).sqrt()
                    ratio = errors["true"] / errors["false"]
                    ratios.append(ratio.log())
                    if arguments.whole:
                        print(f"{spacing:<10}{solver:<22}" + "".join(f"{one:>9.2f}" for one in ratio.tolist()))
                        print(
                            f"{'':<10}{'  error without':<22}" + "".join(f"{e:>9.2g}" for e in errors["false"].tolist())
                        )
                means = torch.stack(ratios).mean(dim=0).exp().tolist()
                print(f"{spacing:<10}{'geometric mean':<22}" + "".join(f"{mean:>9.2f}" for mean in means), flush=True)


if __name__ == "__main__":
    main()
