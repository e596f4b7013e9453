"""Running means between logged steps, over all processes, and the training speed."""

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from debiasctl.diffusion.modules import run_network
from debiasctl.models.heldout import LOG_SNR_EDGES, bin_edges
from debiasctl.runs.records import LossShare
from debiasctl.specs.sections import RunSpec, image_shape
from debiasctl.training.guard import Settled

MACHINE_FIELDS = (
    "images_per_second",
    "flops_per_second",
    "peak_memory",
)  # fields of a record that depend on the machine, not on the training
_SCALARS = ("loss", "grad_norm", "num", "skipped")
_PARTS = tuple(f"loss_part_{number}" for number in range(len(LOG_SNR_EDGES) + 1))


@dataclass(frozen=True)
class Means:
    """The means since the last logged step; see the fields of `TrainRecord`."""

    loss: float
    grad_norm: float | None
    lr: float
    skipped_steps: int
    loss_shares: list[LossShare]


class Meter:
    """Sums of losses, gradient norms, and losses by log-SNR since the last logged step.

    They are over the whole batch, so that they are the same in every process without communication.
    """

    def __init__(self) -> None:
        self.loss, self.lr = float("nan"), 0.0  # the mean loss since the last logged step; the last learning rate
        self.clear()

    def clear(self) -> None:
        """Reset all sums."""
        self._sums = dict.fromkeys((*_SCALARS, *_PARTS), 0.0)

    def count(self, settled: list[Settled]) -> None:
        """Add steps' numbers once they are on the host."""
        sums = self._sums
        for result in settled:
            sums["loss"] += result.loss
            sums["num"] += 1
            for name, part in zip(_PARTS, result.loss_parts, strict=True):
                sums[name] += part
            if math.isfinite(result.grad_norm):
                sums["grad_norm"] += result.grad_norm
            else:  # fp16's scaling skipped the step
                sums["skipped"] += 1
            self.loss, self.lr = sums["loss"] / sums["num"], result.lr

    def state(self) -> dict[str, float]:
        """The sums, for a checkpoint."""
        return dict(self._sums)

    def load(self, sums: Mapping[str, float]) -> None:
        """Restore the sums from a checkpoint."""
        self._sums = {name: sums.get(name, 0.0) for name in self._sums}

    def read(self) -> Means:
        """Return the means, and each log-SNR bin's share of the loss (None if losses are not positive)."""
        sums = self._sums
        self.loss = sums["loss"] / sums["num"]
        whole = sum(sums[name] for name in _PARTS)
        shares = [
            LossShare(log_snr=edges, share=sums[name] / whole if whole > 0 else None)
            for edges, name in zip(bin_edges(), _PARTS, strict=True)
        ]
        made = sums["num"] - sums["skipped"]
        return Means(
            loss=self.loss,
            grad_norm=sums["grad_norm"] / made if made else None,
            lr=self.lr,
            skipped_steps=round(sums["skipped"]),
            loss_shares=shares,
        )


class Speed:
    """Images per second since this process started, without its first step, which warms up."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.begun, self.first, self.warming_up = time.perf_counter(), 0, True

    def start(self, step: int) -> None:
        """Start measuring at `step`."""
        self.begun, self.first = time.perf_counter(), step

    def read(self, step: int) -> float:
        """Return the images per second when `step` steps are done."""
        now = time.perf_counter()
        speed = (step - self.first) * self.batch_size / max(now - self.begun, 1e-9)
        if self.warming_up:
            self.warming_up, self.begun, self.first = False, now, step
        return speed


def flops_per_image(network: nn.Module, spec: RunSpec) -> int:
    """Count the floating-point operations of a forward and backward pass for one image, as three forward passes.

    torch counts one image on the network's device (the meta device is enough), and only matrix products, convolutions
    and attention.
    """
    from torch.utils.flop_counter import FlopCounterMode

    assert spec.content is not None
    parameter = next(network.parameters())
    channels, size, _ = spec.content.trained_shape
    out_channels = image_shape(spec.model, image_size=size, channels=channels).out_channels
    x = torch.zeros(1, channels, size, size, dtype=parameter.dtype, device=parameter.device)
    noise_level = torch.zeros(1, dtype=parameter.dtype, device=parameter.device)
    labels = torch.zeros(1, dtype=torch.int64, device=parameter.device) if spec.model.conditional else None
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run_network(network, x, noise_level, labels, out_channels=out_channels)
    return 3 * int(counter.get_total_flops())


def peak_memory(device: torch.device) -> int:
    """The peak memory of this process in bytes: allocated on the GPU, or resident on the CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
