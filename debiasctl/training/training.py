"""The objects that a training step uses."""

from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import nn

from debiasctl.api import DatasetInfo, Extension, StepContext
from debiasctl.diffusion.objective import Objective
from debiasctl.models.ema import EMA
from debiasctl.specs.sections import RunSpec, embedded_classes, image_shape
from debiasctl.training.batches import BatchSource
from debiasctl.training.guard import Guard
from debiasctl.training.optimizers import LearnedWeight, Optimizers


@dataclass
class Training:
    """All objects that a training step uses."""

    spec: RunSpec
    info: DatasetInfo
    objective: Objective
    model: nn.Module
    ema: EMA
    optimizers: Optimizers
    batches: BatchSource
    extensions: list[Extension]
    accelerator: Accelerator
    guard: Guard
    null_label: int | None = None  # the class that stands for no class, if the training uses label dropout

    def context(self, step: int) -> StepContext:
        """The arguments of the extensions' methods at a step."""
        spec, info = self.spec, self.info
        return StepContext(
            step,
            self.network,
            self.optimizer,
            batch_size=spec.training.batch_size,
            num_steps=spec.training.steps,
            seed=spec.training.seed,
            averages=(self.ema.network, *self.ema.averages.values()),
            shape=image_shape(spec.model, image_size=info.image_size, channels=info.channels),
            num_classes=embedded_classes(spec.model, len(info.classes)),
        )

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights and of x_t; lower precisions are left to autocast."""
        return torch.float64 if self.spec.compute.precision == "fp64" else torch.float32

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The network's optimizer."""
        return self.optimizers.optimizer

    @property
    def learned(self) -> LearnedWeight | None:
        """The learned module of the weighting, if it has one."""
        return self.optimizers.learned

    @property
    def modules(self) -> list[nn.Module]:
        """All modules with gradients, as they are called."""
        return [self.model, *([self.learned.module] if self.learned else [])]

    @property
    def network(self) -> nn.Module:
        """The network itself, without the wrapper of distributed training."""
        network: nn.Module = self.accelerator.unwrap_model(self.model)
        return network
