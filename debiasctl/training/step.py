"""One training step: the paper's algorithm, and the only place where it stands."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl import counter_random
from debiasctl.api import StepContext
from debiasctl.counter_random import Stream
from debiasctl.diffusion.loss import uncertain_losses, weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Output
from debiasctl.diffusion.process import NoiseLevels, per_image
from debiasctl.diffusion.variance import bound_terms
from debiasctl.diffusion.weighting import bounded_snr
from debiasctl.errors import TrainingError
from debiasctl.specs import OptimizerSection
from debiasctl.training.setup import Training, derived_seed


@dataclass(frozen=True)
class StepResult:
    """A step's mean weighted loss, the gradient's norm before clipping, and the learning rate."""

    loss: float
    grad_norm: float
    lr: float


def train_step(training: Training, step: int) -> StepResult:
    """Draw x0, t and eps, predict, weight the error, step (DDPM Alg. 1 with the loss of arXiv 2310.08442).

    `step` counts from 0. All of its randomness is a function of (seed, step, position in the global batch).

    Raises:
        TrainingError: the loss or the gradient is not finite; the weights are as they were before the step.
    """
    spec, objective, accelerator = training.spec, training.objective, training.accelerator
    seed = spec.training.seed
    torch.manual_seed(derived_seed(seed, step, accelerator.process_index))  # for dropout, which draws from it
    lr = learning_rate(spec.optimizer, step, spec.training.steps)
    for group in training.optimizer.param_groups:
        group["lr"] = lr

    batch = training.batches(step)
    x0, positions = batch.x0, batch.positions
    draw = objective.draw(
        counter_random.uniform(seed, Stream.TIMESTEP, step=step, positions=training.batches.positions),
        shared=counter_random.uniform(seed, Stream.TIMESTEP, step=step, positions=torch.zeros(1, dtype=torch.int64)),
        positions=training.batches.positions,
        batch_size=spec.training.batch_size,
        progress=step / spec.training.steps,
    )
    eps = counter_random.normal(seed, Stream.NOISE, step=step, positions=positions, shape=x0.shape[1:])
    x_t = objective.process.add_noise(x0, eps, draw.levels)

    output = objective.parameterization.run(training.model, x_t, draw.levels, batch.labels)
    target = objective.parameterization.target(x0, eps, draw.levels)
    weight, correction = per_image(draw.weight, draw.correction, like=x0)
    losses = weighted_losses(output.prediction, target, weight.flatten())
    if training.learned is not None:
        losses = uncertain_losses(losses, training.learned.module(_log_snr(draw.levels, like=x0)))
    if objective.parameterization.learned_variance:
        losses = losses + _variance_losses(objective, output, draw, x0=x0, x_t=x_t)
    loss = (correction.flatten() * losses).mean()

    context = StepContext(step, training.network, training.optimizer)
    optimizers = [training.optimizer, *([training.learned.optimizer] if training.learned else [])]
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    grad_norm = accelerator.clip_grad_norm_(training.model.parameters(), spec.optimizer.clip_grad_norm or math.inf)
    for extension in training.extensions:
        extension.after_backward(context)
    result = StepResult(loss.item(), float(grad_norm), lr)
    if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
        raise TrainingError(_not_finite(result, losses=losses, draw=draw, step=step))
    for optimizer in optimizers:
        optimizer.step()
    if objective.observes:
        seen = accelerator.gather((draw.timestep.to(x0.device), losses.detach().double()))
        objective.observe(*(values.cpu() for values in seen))
    for extension in training.extensions:
        extension.after_step(context)
    training.ema.update(training.network, step + 1)
    return result


def learning_rate(spec: OptimizerSection, step: int, num_steps: int) -> float:
    """The learning rate of the step (from 0): linear warm-up, then constant or decaying to 0 at `num_steps`."""
    warmup = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    progress = max(0, step - spec.warmup_steps) / max(1, num_steps - spec.warmup_steps)
    decay = {"none": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[spec.decay]
    return spec.lr * warmup * decay


def _log_snr(levels: NoiseLevels, *, like: Tensor) -> Tensor:
    """float32 [N] on the device, finite at zero terminal SNR too."""
    return bounded_snr(levels.snr).log().to(torch.float32).to(like.device)


def _variance_losses(objective: Objective, output: Output, draw: Draw, *, x0: Tensor, x_t: Tensor) -> Tensor:
    """variance_weight * T * (the bound's term at t), [N]: under uniform t, variance_weight times the whole bound."""
    process = objective.process
    assert output.variance_fraction is not None, "the network's variance is learned"
    x0_hat = objective.parameterization.estimate(output, x_t, draw.levels).x0
    terms = bound_terms(process, x0_hat, output.variance_fraction, x0=x0, x_t=x_t, t=draw.timestep)
    return objective.variance_weight * process.num_timesteps * terms


def _not_finite(result: StepResult, *, losses: Tensor, draw: Draw, step: int) -> str:
    """Which sample's loss broke, or that the gradient did."""
    broken = (~torch.isfinite(losses)).nonzero().flatten()
    worst = int(broken[0]) if len(broken) else int(losses.argmax())
    what, which = ("loss", "first such") if len(broken) else ("gradient", "largest loss")
    return (
        f"the {what} is not finite at step {step} (loss {result.loss}, gradient norm {result.grad_norm}; "
        f"{which} at t = {float(draw.levels.t[worst]):g}, weight {float(draw.weight[worst]):.4g}). "
        "The last checkpoint is untouched. Lower --lr, set optimizer.clip_grad_norm, or keep --normalize mean"
    )
