"""The way from noise to an image: x_t, and the estimate of x0 made from it, step by step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from debiasctl.api import Process, Sampler
from debiasctl.data.pixels import to_uint8
from debiasctl.diffusion.process import process_behind
from debiasctl.errors import RunError
from debiasctl.runs.store import Run
from debiasctl.sampling.request import SampleRequest
from debiasctl.sampling.samples import prepare
from debiasctl.specs.sections import RunSpec

LARGEST = 8  # images


@dataclass(frozen=True)
class Trajectory:
    """Moments from noise to image: `names` (the timestep), `x` and `x0`, uint8 [N, C, H, W] each, of equal length.

    At the last moment both are the finished images.
    """

    names: list[str]
    x: list[Tensor]
    x0: list[Tensor]


def trajectory(run: Run, spec: RunSpec, request: SampleRequest, *, device: torch.device, moments: int) -> Trajectory:
    """Draw the request's first images (at most `LARGEST`), observed at no more than `moments` evenly spaced steps.

    Raises:
        RunError: if the sampler does not report its steps; CheckpointError: if the checkpoint is damaged.
    """
    request = replace(request, num=min(request.num, LARGEST))
    drawer, _ = prepare(run, spec, request, device=device, batch_size=request.num)
    last = request.num_steps
    count = min(moments, last + 1)
    chosen = sorted({round(i * last / (count - 1)) for i in range(count)})
    positions = torch.arange(request.num)

    def shown(x: Tensor) -> Tensor:
        return to_uint8(drawer.images_of(x)).cpu()

    x = {0: shown(drawer.noise(positions.to(device), step=0))}
    x0: dict[int, Tensor] = {}

    def on_step(done: int, x_t: Tensor, estimate: Tensor) -> None:
        if done in chosen:
            x[done] = shown(x_t)
        if done - 1 in chosen:  # the estimate was made from the x that the step began with
            x0[done - 1] = shown(estimate)

    x[last] = x0[last] = shown(drawer.batch(positions, on_step=on_step))
    if not set(chosen) <= x.keys() & x0.keys():
        raise RunError(
            f"sampler '{request.sampler.name}' does not report its steps, so there is no trajectory to show. "
            "Choose another `sampler`"
        )
    names = _names(drawer.sampler, process_behind(drawer.denoiser), last)
    return Trajectory([names[k] for k in chosen], [x[k] for k in chosen], [x0[k] for k in chosen])


def _names(sampler: Sampler, process: Process, num_steps: int) -> list[str]:
    """The timestep of each moment where the sampler has a grid of as many, else the number of steps made."""
    levels = sampler.grid(process, num_steps) or []
    if len(levels) == num_steps + 1:
        return [f"{level.t:.4g}" for level in levels[:-1]] + ["end"]
    return [str(done) for done in range(num_steps)] + ["end"]
