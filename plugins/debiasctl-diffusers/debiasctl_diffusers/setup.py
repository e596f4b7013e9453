"""A scheduler of diffusers, set up with the noise levels of a run."""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import Estimate, UsageError
from debiasctl.api.files import one_line
from debiasctl.diffusion import DiffusionProcess
from debiasctl_diffusers.levels import Place, at_ratios, at_shares, at_timesteps
from debiasctl_diffusers.schedulers import KINDS, Kind, arguments, scheduler_class

_OF_THE_RUN = (
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr",
    "prediction_type", "snr_shift_scale", "sigma_data",
)  # fmt: skip
_OF_A_STEP = ("model_output", "timestep", "sample")
_BOTH = ("epsilon", "v_prediction")
_PREDICTIONS = {  # of those that do not take an estimate of x0
    "PNDMScheduler": _BOTH,
    "EulerAncestralDiscreteScheduler": _BOTH,
    "KDPM2DiscreteScheduler": _BOTH,
    "KDPM2AncestralDiscreteScheduler": _BOTH,
}
_SIGMA_MAX = 80.0  # 2206.00364, Table 1: where a schedule ends in noise alone
_REFUSALS = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, NotImplementedError, ImportError, AssertionError,
    ZeroDivisionError, RuntimeError, OverflowError,
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """A scheduler with its steps set, its kind, and the run's level at each of its calls of the network."""

    scheduler: Any
    kind: Kind
    places: Sequence[Place]

    @property
    def timesteps(self) -> Tensor:
        """The scheduler's timesteps, one for each call of the network."""
        found: Tensor = self.scheduler.timesteps
        return found

    @property
    def predictions(self) -> tuple[str, ...]:
        """The prediction types of a scheduler on a table."""
        return _PREDICTIONS.get(type(self.scheduler).__name__, (*_BOTH, "sample"))

    @property
    def learned_variance(self) -> bool:
        """Whether its steps take a learned variance beside the prediction."""
        return bool(self.scheduler.config.get("variance_type") == "learned_range")

    def place(self, index: int) -> Place:
        """The place of the call of that number, from 0."""
        return self.places[index]

    def seen(self, x: Tensor, t: Tensor, place: Place) -> Tensor:
        """x as the run's process has it, alpha² + sigma² = 1."""
        if self.kind == "flow":
            return x / math.hypot(place.own, 1 - place.own)
        scaled: Tensor = self.scheduler.scale_model_input(x, t)
        return scaled if self.kind == "table" else x / math.hypot(1, place.own)

    def shrink(self, index: int) -> float:
        """What x is multiplied by before the call of that number to have alpha² + sigma² = 1."""
        sigmas = getattr(self.scheduler, "sigmas", None)
        if (self.kind == "table" and float(self.scheduler.init_noise_sigma) == 1) or sigmas is None:
            return 1.0
        sigma = float(sigmas[min(index, len(sigmas) - 1)])
        return 1 / (math.hypot(sigma, 1 - sigma) if self.kind == "flow" else math.hypot(1, sigma))

    def edm_output(self, x0: Tensor, x: Tensor, place: Place) -> Tensor:
        """F of EDM's preconditioning, x0 = c_skip x + c_out F (2206.00364, Eq. 7), for the scheduler's sigma_data."""
        sigma, sigma_data = place.own, float(self.scheduler.config.sigma_data)
        total = sigma**2 + sigma_data**2
        return (x0 - sigma_data**2 / total * x) / (sigma * sigma_data / math.sqrt(total))

    def variance_output(self, estimate: Estimate) -> Tensor:
        """The learned variance as networks give it, from -1 to 1.

        Raises:
            UsageError: if the network has none.
        """
        if estimate.variance_fraction is None:
            raise UsageError(
                "sampler 'diffusers': variance_type=learned_range needs a model trained with "
                "`model.learned_variance=true`. Choose another variance_type, such as fixed_small"
            )
        return 2 * estimate.variance_fraction - 1


def set_up(
    name: str,
    process: DiffusionProcess,
    num_steps: int,
    *,
    config: Mapping[str, Any],
    step: Mapping[str, float],
    clip_x0: bool | None = None,
) -> Setup:
    """A scheduler by name with the process's noise levels, its own configuration on top, and its steps set.

    Raises:
        UsageError: if there is no such scheduler or setting, or it cannot make these steps on this process.
    """
    cls = scheduler_class(name)
    known = arguments(cls.__init__)
    _check_config(cls, known, config)
    _check_step(cls, step)
    kind: Kind = "flow" if config.get("use_flow_sigmas") else KINDS[cls.__name__]
    if num_steps < 1:
        raise UsageError(f"{num_steps} sampling steps: choose 1 or more")
    if kind != "edm" and num_steps > process.num_timesteps:
        raise UsageError(f"{num_steps} sampling steps: choose from 1 to {process.num_timesteps}, the run's timesteps")
    own = {"table": _of_table, "flow": _of_flow, "edm": _of_edm}[kind](cls, known, process, config)
    if clip_x0 is not None and "clip_sample" in known:
        own["clip_sample"] = clip_x0
    scheduler = _made(cls, {**own, **config}, num_steps)
    return Setup(scheduler, kind, _places(scheduler, kind, process, num_steps))


def _made(cls: Any, config: Mapping[str, Any], num_steps: int) -> Any:
    try:
        scheduler = cls(**config)
        scheduler.set_timesteps(num_steps)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(
                0
            )  # else it looks for the first timestep, which rounding may have made the second
    except _REFUSALS as error:
        shown = one_line(error)[:300] or type(error).__name__
        raise UsageError(
            f"sampler 'diffusers': {cls.__name__} refuses its configuration, or {num_steps} steps: {shown}"
        ) from error
    return scheduler


def _places(scheduler: Any, kind: Kind, process: DiffusionProcess, num_steps: int) -> list[Place]:
    timesteps = [float(t) for t in scheduler.timesteps]
    named, last = f"sampler 'diffusers': {type(scheduler).__name__}", process.num_timesteps - 1
    sigmas = getattr(scheduler, "sigmas", None)
    levels = torch.as_tensor(timesteps if sigmas is None else [*sigmas.tolist(), *timesteps])
    if not timesteps or not bool(levels.isfinite().all()):
        raise UsageError(f"{named} has no finite levels for {num_steps} steps on this run's schedule. Choose another")
    if sigmas is not None and scheduler.order == 1 and bool((sigmas[:-1].diff() == 0).any()):
        raise UsageError(
            f"{named} visits one noise level twice in {num_steps} steps, and divides by the difference. Choose "
            "fewer steps"
        )
    if kind == "table":
        beyond = [t for t in timesteps if not 0 <= t <= last]
        if beyond:
            raise UsageError(
                f"{named} visits timestep {beyond[0]:g}, and the run's are 0 to {last}. Choose a smaller steps_offset, "
                "or other steps"
            )
        return at_timesteps(process, timesteps)
    shares = [float(sigma) for sigma in scheduler.sigmas[: len(timesteps)]]
    return (at_shares if kind == "flow" else at_ratios)(process, shares)


def _of_table(
    cls: Any, known: Mapping[str, Any], process: DiffusionProcess, config: Mapping[str, Any]
) -> dict[str, Any]:
    own: dict[str, Any] = {
        "num_train_timesteps": process.num_timesteps,
        "trained_betas": process.betas.tolist(),
        "prediction_type": "v_prediction",
    }
    if "snr_shift_scale" in known:
        own["snr_shift_scale"] = 1.0
    if bool(process.snr[-1] == 0):
        if "rescale_betas_zero_snr" not in known:
            raise UsageError(
                f"sampler 'diffusers': the run's last timestep is noise alone (zero terminal SNR), and {cls.__name__} "
                "divides by its signal: it has no rescale_betas_zero_snr. Choose DDIM, DPMSolverMultistep, "
                "UniPCMultistep or EulerDiscrete"
            )
        own["rescale_betas_zero_snr"] = True
    variance = config.get("variance_type")
    if variance == "learned" or (variance == "learned_range" and not cls.__name__.startswith("DDPM")):
        raise UsageError(
            f"sampler 'diffusers': variance_type={variance} of {cls.__name__} is not what networks here learn. "
            "DDPMScheduler with variance_type=learned_range has the variance between the two fixed ones"
        )
    return own


def _of_flow(
    cls: Any, known: Mapping[str, Any], process: DiffusionProcess, config: Mapping[str, Any]
) -> dict[str, Any]:
    if not bool(process.snr[-1] == 0):
        s = float(process.sigma[-1] / (process.alpha[-1] + process.sigma[-1]))
        raise UsageError(
            f"sampler 'diffusers': {cls.__name__} starts from noise alone, s = 1, and the run's schedule ends at s = "
            f"{s:.4g}. Choose a scheduler of another kind, such as DDIM, or train on the schedule flow"
        )
    if config.get("invert_sigmas"):
        raise UsageError(
            "sampler 'diffusers': with invert_sigmas the noise is counted the other way round. Leave it out"
        )
    own: dict[str, Any] = {"num_train_timesteps": process.num_timesteps}
    if config.get("use_flow_sigmas"):
        return {**own, "prediction_type": "flow_prediction", "flow_shift": shift_of(process)}
    return {**own, "shift": shift_of(process)} if "shift" in known else own


def _of_edm(cls: Any, known: Mapping[str, Any], process: DiffusionProcess, config: Mapping[str, Any]) -> dict[str, Any]:
    ratios = (-process.log_snr / 2).exp()
    last = float(ratios[-1])
    return {
        "num_train_timesteps": process.num_timesteps,
        "sigma_min": float(ratios[0]),
        "sigma_max": last if math.isfinite(last) else _SIGMA_MAX,
        "prediction_type": "epsilon",
    }


def shift_of(process: DiffusionProcess) -> float:
    """The shift of rectified flow's levels, s = shift u/(1 + (shift - 1) u) at u = (t + 1)/T; 1 for other schedules."""
    size = process.num_timesteps
    u = (torch.arange(size, dtype=torch.float64)[:-1] + 1) / size
    odds = (process.sigma / process.alpha)[:-1] * (1 - u) / u
    shift = float(odds[len(odds) // 2])
    return float(f"{shift:.12g}") if bool(((odds / shift - 1).abs() < 1e-9).all()) else 1.0


def _check_config(cls: Any, known: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse settings that the scheduler does not have, or that are the run's."""
    free = [name for name in known if name not in (*_OF_THE_RUN, "clip_sample")]
    for name in config:
        if name == "clip_sample" and name in known:
            raise UsageError("sampler 'diffusers': clip_sample is given as the option clip_x0: clip_x0=false")
        if name in _OF_THE_RUN:
            raise UsageError(
                f"sampler 'diffusers': config: {name} follows from the run, whose noise levels and prediction the "
                "scheduler is set up with. Leave it out"
            )
        if name not in free:
            near = difflib.get_close_matches(name, free, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise UsageError(
                f"sampler 'diffusers': config: {cls.__name__} has no '{name}'.{hint} It has: {', '.join(free)}"
            )


def _check_step(cls: Any, step: Mapping[str, float]) -> None:
    has = {name: default for name, default in arguments(cls.step).items() if name not in _OF_A_STEP}
    numbers = [name for name, default in has.items() if type(default) in (int, float)]
    for name in step:
        if name not in numbers:
            found = f"It takes: {', '.join(numbers)}" if numbers else "It takes none"
            raise UsageError(f"sampler 'diffusers': step: a step of {cls.__name__} takes no number '{name}'. {found}")
