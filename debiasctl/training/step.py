"""One training step, the paper's algorithm."""

import contextlib
import math

import torch
from torch import Tensor

from debiasctl.api import StepContext
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream, derived_seed
from debiasctl.diffusion.loss import uncertain_losses, weighted_losses
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Output
from debiasctl.diffusion.process import NoiseLevels, per_image
from debiasctl.diffusion.variance import bound_terms
from debiasctl.diffusion.weighting import bounded_snr
from debiasctl.specs.sections import OptimizerSection
from debiasctl.training.batches import Batch
from debiasctl.training.guard import StepResult
from debiasctl.training.heldout import LOG_SNR_EDGES
from debiasctl.training.training import Training


def train_step(training: Training, step: int) -> StepResult:
    """Draw x0, t and eps, predict, weight the error, and step (DDPM Alg. 1 with the loss of arXiv 2310.08442).

    `step` counts from 0. All randomness is a function of (seed, step, position in the global batch), except for
    dropout, whose generator is seeded from (seed, step, process).
    """
    spec, objective, optimizers = training.spec, training.objective, training.optimizers
    torch.manual_seed(derived_seed(spec.training.seed, step, training.accelerator.process_index))  # for dropout
    lr = learning_rate(spec.optimizer, step, spec.training.steps)
    context = StepContext(step, training.network, training.optimizer)

    batch = _batch(training, step)
    draw = _draw(training, step)
    eps = _noise(training, step, like=batch.x0)

    optimizers.begin(lr)
    losses, loss = _accumulate(training, batch, eps, draw)
    grad_norm = optimizers.clip(spec.optimizer.clip_grad_norm)
    for extension in training.extensions:
        extension.after_backward(context)
    result = StepResult(step, losses, loss, _by_log_snr(draw, losses), grad_norm, draw, lr)
    training.guard.check(result)
    optimizers.step(spoiled=training.guard.spoiled)

    if objective.observes:
        seen = training.accelerator.gather((draw.timestep.to(losses.device), losses.double()))
        objective.observe(*(values.cpu() for values in seen))
    for extension in training.extensions:
        extension.after_step(context)
    # also after a step that fp16's scaler skipped: the average is over steps, and in this one the weights stayed
    training.ema.update(training.network, step + 1)
    return result


def _by_log_snr(draw: Draw, losses: Tensor) -> Tensor:
    """Each log-SNR bin's contribution to the mean of the corrected losses [N], without waiting for the device."""
    edges = torch.tensor(LOG_SNR_EDGES, dtype=torch.float64)
    bins = torch.bucketize(draw.levels.snr.log(), edges, right=True)
    members = torch.nn.functional.one_hot(bins, len(edges) + 1).to(losses.device, non_blocking=True)
    corrected = losses.double() * draw.correction.to(losses.device, non_blocking=True)
    return (members * corrected[:, None]).mean(dim=0)  # index_add_ has no fixed order of addition


def _draw(training: Training, step: int) -> Draw:
    """Draw this process's part of the step's noise levels."""
    seed, positions = training.spec.training.seed, training.batches.positions
    whole_batch = torch.zeros(1, dtype=torch.int64)
    return training.objective.draw(
        counter_random.uniform(seed, Stream.TIMESTEP, step=step, positions=positions),
        shared=counter_random.uniform(seed, Stream.TIMESTEP_SHARED, step=step, positions=whole_batch),
        positions=positions,
        batch_size=training.spec.training.batch_size,
        progress=step / training.spec.training.steps,
    )


def _batch(training: Training, step: int) -> Batch:
    """The step's images in the training's dtype, with the labels that the network is given."""
    batch = training.batches(step)
    return Batch(batch.x0.to(training.dtype), _some_dropped(training, batch.labels, step), batch.positions)


def _noise(training: Training, step: int, *, like: Tensor) -> Tensor:
    """Draw eps, standard normal, with the images' shape [N, C, H, W] and dtype."""
    seed, positions = training.spec.training.seed, training.batches.device_positions
    eps = counter_random.normal(seed, Stream.NOISE, step=step, positions=positions, shape=like.shape[1:])
    return eps.to(like.dtype)


def _some_dropped(training: Training, labels: Tensor | None, step: int) -> Tensor | None:
    """Replace each label (int64 [N]) by the null class with the spec's probability (label dropout, 2207.12598)."""
    spec = training.spec
    if labels is None or training.null_label is None:
        return labels
    positions = training.batches.positions
    u = counter_random.uniform(spec.training.seed, Stream.LABEL_DROPOUT, step=step, positions=positions)
    return torch.where((u < spec.model.label_dropout).to(labels.device), training.null_label, labels)


def _accumulate(training: Training, batch: Batch, eps: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Run forward and backward part by part (gradient accumulation); processes reduce gradients in the last part."""
    share = len(batch.x0)
    size = -(-share // training.spec.compute.accumulation)
    found, total = [], batch.x0.new_zeros(())
    for start in range(0, share, size):
        part = slice(start, start + size)
        labels = None if batch.labels is None else batch.labels[part]
        with contextlib.ExitStack() as stack:
            if start + size < share:
                for module in training.modules:
                    stack.enter_context(training.accelerator.no_sync(module))
            losses = _losses(training, batch.x0[part], eps[part], draw[part], labels)
            (correction,) = per_image(draw[part].correction, like=losses)
            loss = (correction * losses).sum() / share
            training.accelerator.backward(loss)
        found.append(losses.detach())
        total = total + loss.detach()
    return torch.cat(found), total


def _losses(training: Training, x0: Tensor, eps: Tensor, draw: Draw, labels: Tensor | None) -> Tensor:
    """Compute each image's weighted loss, [N]."""
    objective = training.objective
    x_t = objective.process.add_noise(x0, eps, draw.levels)
    output = objective.parameterization.run(training.model, x_t, draw.levels, labels)
    target = objective.parameterization.target(x0, eps, draw.levels)
    (weight,) = per_image(draw.weight, like=x0)
    losses = weighted_losses(output.prediction, target, weight.flatten())
    if training.learned is not None:
        losses = uncertain_losses(losses, training.learned.module(_log_snr(draw.levels, like=x0)))
    if objective.parameterization.learned_variance:
        losses = losses + _variance_losses(objective, output, draw, x0=x0, x_t=x_t)
    return losses


def _log_snr(levels: NoiseLevels, *, like: Tensor) -> Tensor:
    """The log-SNR [N] in the training's dtype on the device, finite even at zero terminal SNR."""
    return bounded_snr(levels.snr).log().to(like.dtype).to(like.device, non_blocking=True)


def _variance_losses(objective: Objective, output: Output, draw: Draw, *, x0: Tensor, x_t: Tensor) -> Tensor:
    """Return variance_weight * T * (the bound's term at t), [N]; its mean over uniform t is variance_weight * bound."""
    process = objective.process
    assert output.variance_fraction is not None, "the network's variance is learned"
    x0_hat = objective.parameterization.estimate(output, x_t, draw.levels).x0
    terms = bound_terms(process, x0_hat, output.variance_fraction, x0=x0, x_t=x_t, t=draw.timestep)
    return objective.variance_weight * process.num_timesteps * terms


def learning_rate(spec: OptimizerSection, step: int, num_steps: int) -> float:
    """The learning rate at `step` (from 0): linear warm-up, then constant or decaying to 0 at `num_steps`."""
    warmup = min(1.0, (step + 1) / spec.warmup_steps) if spec.warmup_steps else 1.0
    progress = max(0, step - spec.warmup_steps) / max(1, num_steps - spec.warmup_steps)
    decay = {"none": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}[spec.decay]
    return spec.lr * warmup * decay
