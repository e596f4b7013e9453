"""One training step, the paper's algorithm."""

import contextlib

import torch
from torch import Tensor

from debiasctl.boundary import origin_of, plugin_call
from debiasctl.compute.counter_random import derived_seed
from debiasctl.diffusion.loss import uncertain_losses, weighted_losses
from debiasctl.diffusion.modules import run_learned
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import Output
from debiasctl.diffusion.process import NoiseLevels, per_image
from debiasctl.diffusion.variance import bound_terms
from debiasctl.diffusion.weighting import bounded_snr
from debiasctl.models.heldout import loss_by_log_snr
from debiasctl.training.batches import Batch
from debiasctl.training.draws import draw_batch, draw_levels, draw_noise
from debiasctl.training.guard import StepResult
from debiasctl.training.optimizers import learning_rate
from debiasctl.training.training import Training


def train_step(training: Training, step: int) -> StepResult:
    """Draw x0, t and eps, predict, weight the error, and step (DDPM Alg. 1 with the loss of arXiv 2310.08442).

    `step` counts from 0. All randomness is a function of (seed, step, position in the global batch), except for
    dropout, whose generator is seeded from (seed, step, process).
    """
    spec, objective, optimizers = training.spec, training.objective, training.optimizers
    torch.manual_seed(derived_seed(spec.training.seed, step, training.accelerator.process_index))  # for dropout
    lr = learning_rate(spec.optimizer, step, spec.training.steps)
    context = training.context(step)
    for extension in training.extensions:
        lr = extension.learning_rate(lr, context)

    batch = draw_batch(training, step)
    levels = draw_levels(training, step)
    eps = draw_noise(training, batch, step)

    optimizers.begin(lr)
    losses, loss = _accumulate(training, batch, eps, levels)
    for extension in training.extensions:
        extension.before_clipping(context)
    with plugin_call(origin_of(training.network), "gradients"):
        grad_norm = optimizers.clip(spec.optimizer.clip_grad_norm)
    for extension in training.extensions:
        extension.after_backward(context)
    result = StepResult(step, losses, loss, loss_by_log_snr(levels, losses), grad_norm, levels, lr)
    training.guard.check(result)
    with plugin_call(origin_of(training.network), "gradients"):
        optimizers.step()

    if objective.observes:
        seen = training.accelerator.gather((levels.timestep.to(losses.device), losses.double()))
        objective.observe(*(values.cpu() for values in seen))
    for extension in training.extensions:
        extension.after_step(context)
    training.ema.update(training.network, step + 1)  # after a skipped step too: it averages over steps
    return result


def _losses(training: Training, x0: Tensor, eps: Tensor, draw: Draw, labels: Tensor | None) -> Tensor:
    """The weighted error of each image, [N] (arXiv 2310.08442), in the unit that the network predicts."""
    objective = training.objective
    x_t = objective.process.add_noise(x0, eps, draw.levels)
    output = objective.parameterization.run(training.model, x_t, draw.levels, labels)
    target = objective.parameterization.target(x0, eps, draw.levels)
    (weight,) = per_image(draw.weight, like=x0)
    losses = weighted_losses(output.prediction, target, weight.flatten(), errors=objective.errors(draw.levels))
    if training.learned is not None:
        u = run_learned(training.learned.module, _log_snr(draw.levels, like=x0))
        losses = uncertain_losses(losses, u)
    if objective.parameterization.learned_variance:
        losses = losses + _variance_losses(objective, output, draw, x0=x0, x_t=x_t)
    return losses


def _variance_losses(objective: Objective, output: Output, draw: Draw, *, x0: Tensor, x_t: Tensor) -> Tensor:
    """Return variance_weight * T * (the bound's term at t), [N]; its mean over uniform t is variance_weight * bound."""
    process = objective.process
    assert output.variance_fraction is not None, "the network's variance is learned"
    x0_hat = objective.parameterization.estimate(output, x_t, draw.levels).x0
    terms = bound_terms(process, x0_hat, output.variance_fraction, x0=x0, t=draw.timestep)
    return objective.variance_weight * process.num_timesteps * terms


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
            with plugin_call(origin_of(training.network), "backward pass"):
                training.accelerator.backward(loss)
        found.append(losses.detach())
        total = total + loss.detach()
    return torch.cat(found), total


def _log_snr(levels: NoiseLevels, *, like: Tensor) -> Tensor:
    """The log-SNR [N] in the training's dtype on the device, finite even at zero terminal SNR."""
    return bounded_snr(levels.snr).log().to(like.dtype).to(like.device, non_blocking=True)
