"""diffusers' schedulers as a sampler."""

from collections.abc import Callable
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import Denoiser, Estimate, Process, Sampler
from debiasctl.diffusion import DiffusionProcess, Model, Noise, SamplerOptions
from debiasctl_diffusers.given_noise import GivenNoise
from debiasctl_diffusers.levels import Place
from debiasctl_diffusers.setup import Setup, set_up

_OF_THE_SCHEDULER = ("spacing", "rho", "sigma_max")
NATIVE = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}


class DiffusersSampler(Sampler):
    """A scheduler of diffusers, set up with the run's own noise levels (huggingface/diffusers).

    scheduler is its class, or a short name such as ddim, unipc or euler-ancestral. The steps are spread as its own
    configuration says (config={"timestep_spacing":"trailing"}). The network is called at the timesteps, and the
    scheduler given what the network predicts, as in diffusers' pipelines, so that equal noise gives their images.
    """

    class Options(SamplerOptions):
        """A scheduler, its configuration, and guidance."""

        scheduler: str = Field("DPMSolverMultistepScheduler", description="scheduler's class, or a short name of it")
        config: dict[str, Any] = Field(
            default_factory=dict, description='its configuration, such as {"solver_order":3}; the process is the run\'s'
        )
        step: dict[str, float] = Field(
            default_factory=dict, description='numbers for each of its steps, such as {"eta":0.5} for DDIMScheduler'
        )
        clip_x0: bool | None = Field(  # type: ignore[assignment]
            None,
            description="clip each estimate of x0 to [-1, 1]; unset: if the scheduler does by itself (clip_sample)",
        )

        @model_validator(mode="after")
        def _leaves_the_steps_to_the_scheduler(self) -> Self:
            given = [name for name in _OF_THE_SCHEDULER if getattr(self, name) != _DEFAULTS[name]]
            if given:
                raise ValueError(
                    f"{given[0]} has no effect: a scheduler of diffusers spreads the steps by its own configuration, "
                    'such as config={"timestep_spacing":"trailing"}'
                )
            return self

    options: Options

    def grid(self, process: Process, num_steps: int) -> None:
        """Return None; the scheduler is set up, so that what it cannot do is refused.

        Raises:
            UsageError: if there is no such scheduler, or it cannot make these steps on this process.
        """
        self._set_up(process if isinstance(process, DiffusionProcess) else process_of_table(process), num_steps)

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
        setup = self._set_up(model.process, num_steps)
        scheduler, dtype = setup.scheduler, x.dtype
        timesteps = setup.timesteps  # on the CPU, as the scheduler's tables are
        given, reported = GivenNoise(noise), 0
        x = x * float(scheduler.init_noise_sigma) if setup.kind != "flow" else x
        for index, t in enumerate(timesteps):
            place = setup.place(index)
            seen = setup.seen(x, t, place).to(dtype)
            estimate = model(seen, place.level)
            output = _output(setup, estimate, x, place)
            with given:
                x = scheduler.step(output, t, x, **self.options.step, return_dict=False)[0].to(dtype)
            done = (index + 1) * num_steps // len(timesteps)
            while reported < done:
                reported += 1
                if on_step:
                    on_step(reported, x * setup.shrink(index + 1), estimate.x0)
        return x

    def _set_up(self, process: DiffusionProcess, num_steps: int) -> Setup:
        options = self.options
        return set_up(
            options.scheduler, process, num_steps, config=options.config, step=options.step, clip_x0=options.clip_x0
        )


_DEFAULTS = {name: SamplerOptions.model_fields[name].default for name in _OF_THE_SCHEDULER}


def process_of_table(process: Process) -> DiffusionProcess:
    """The process of a table that is nothing more."""
    behind = getattr(process, "process", None)
    return behind if isinstance(behind, DiffusionProcess) else DiffusionProcess(process.alphas_cumprod)


def _output(setup: Setup, estimate: Estimate, x: Tensor, place: Place) -> Tensor:
    """What the scheduler takes for the network's output: that itself, where it has such a prediction type."""
    if setup.kind == "flow":
        return estimate.flow
    if setup.kind == "edm":
        return setup.edm_output(estimate.x0, x, place)
    native = NATIVE.get(estimate.prediction or "")
    chosen = native if native in setup.predictions else "v_prediction"
    setup.scheduler.register_to_config(prediction_type=chosen)
    output = {"epsilon": estimate.eps, "sample": estimate.x0, "v_prediction": estimate.v}[chosen]
    if setup.learned_variance:
        return torch.cat([output, setup.variance_output(estimate)], dim=1)
    return output
