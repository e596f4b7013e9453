"""A step's random parts, functions of (seed, step, position): images, labels, noise levels and noise."""

import torch
from torch import Tensor

from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.diffusion.objective import Draw
from debiasctl.training.batches import Batch
from debiasctl.training.training import Training


def draw_batch(training: Training, step: int) -> Batch:
    """The step's images in the training's dtype, with the labels that the network is given."""
    batch = training.batches(step)
    return Batch(batch.x0.to(training.dtype), _some_dropped(training, batch.labels, step), batch.positions)


def draw_levels(training: Training, step: int) -> Draw:
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


def draw_noise(training: Training, batch: Batch, step: int) -> Tensor:
    """Draw eps, standard normal, with the images' shape [N, C, H, W] and dtype."""
    seed, shape = training.spec.training.seed, batch.x0.shape[1:]
    eps = counter_random.normal(seed, Stream.NOISE, step=step, positions=batch.positions, shape=shape)
    return eps.to(batch.x0.dtype)


def _some_dropped(training: Training, labels: Tensor | None, step: int) -> Tensor | None:
    """Replace each label (int64 [N]) by the null class with the spec's probability (label dropout, 2207.12598)."""
    spec = training.spec
    if labels is None or training.null_label is None:
        return labels
    positions = training.batches.positions
    u = counter_random.uniform(spec.training.seed, Stream.LABEL_DROPOUT, step=step, positions=positions)
    return torch.where((u < spec.model.label_dropout).to(labels.device), training.null_label, labels)
