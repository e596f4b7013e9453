"""Stopping a training whose loss or gradient is not finite, without making a GPU wait for the host at every step."""

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from debiasctl.diffusion.objective import Draw
from debiasctl.errors import TrainingError

if TYPE_CHECKING:
    from accelerate import Accelerator

_SKIPS = 50  # consecutive steps that fp16's loss scaling may skip
_LAG = 2  # steps after which a GPU's results are checked, so that it is never idle


@dataclass(frozen=True)
class StepResult:
    """The results of a step, on the device and without waiting for it.

    `losses` [N] are the weighted losses of this process's images before the importance correction for t, `loss` [] is
    their mean after it, `loss_parts` (float64) splits that mean by the log-SNR bins of `heldout.bin_edges`, and
    `grad_norm` [] is the norm of the whole gradient before clipping; `draw` is on the CPU.
    """

    step: int
    losses: Tensor
    loss: Tensor
    loss_parts: Tensor
    grad_norm: Tensor
    draw: Draw
    lr: float


@dataclass(frozen=True)
class Settled:
    """A step's numbers on the host, all finite (except the gradient norm of a step that fp16's scaling skipped).

    They are for the whole batch and the same in every process; for `loss_parts` see StepResult.
    """

    step: int
    loss: float
    grad_norm: float
    lr: float
    loss_parts: tuple[float, ...]


class Guard:
    """Checks each step's loss and gradient: before the optimizer's step on a CPU, two steps later on a GPU.

    In the meantime, on a GPU, a fused optimizer reads `spoiled` and so keeps the weights from before the first step
    that is not finite; with fp16 or sharding the weights may be spoiled. No checkpoint is written before `settle`.
    """

    def __init__(self, network: nn.Module, accelerator: "Accelerator") -> None:
        self.network, self.accelerator = network, accelerator
        self.lag = _LAG if accelerator.device.type == "cuda" else 0
        self.scaled = accelerator.mixed_precision == "fp16"  # its scaler skips steps whose gradient is not finite
        self.spoiled: Tensor | None = None  # float32 [] on the device: 1 once a step was not finite
        self._pending: deque[tuple[StepResult, Tensor, torch.cuda.Event | None]] = deque()
        self._settled: list[Settled] = []
        self._skipped = 0

    def check(self, result: StepResult) -> None:
        """Queue a step's result, and check those that are due.

        Raises:
            TrainingError: if a loss or gradient is not finite; it names the step, t, weight and the parameters' norms.
        """
        means = torch.stack([result.loss.detach().double(), result.grad_norm.detach().double()])
        numbers = torch.cat([means, result.loss_parts])
        if self.accelerator.num_processes > 1:  # all processes have to stop at the same step
            numbers = self.accelerator.reduce(numbers, reduction="mean")
        if self.lag and not self.scaled:
            broken = (~numbers.isfinite()).any().float()
            self.spoiled = broken if self.spoiled is None else torch.maximum(self.spoiled, broken)
        event = None
        if numbers.is_cuda:
            host = torch.empty(len(numbers), dtype=torch.float64, pin_memory=True)
            numbers = host.copy_(numbers, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._pending.append((result, numbers, event))
        while len(self._pending) > self.lag:
            self._look()

    def settle(self) -> list[Settled]:
        """Check all pending steps, and return the numbers of all steps since the last call.

        Raises:
            TrainingError: if a loss or gradient is not finite.
        """
        while self._pending:
            self._look()
        return self.settled()

    def settled(self) -> list[Settled]:
        """Return the numbers of the steps checked since the last call."""
        found, self._settled = self._settled, []
        return found

    def _look(self) -> None:
        result, numbers, event = self._pending.popleft()
        if event is not None:
            event.synchronize()
        loss, grad_norm, *parts = numbers.tolist()
        self._skipped = 0 if math.isfinite(grad_norm) else self._skipped + 1
        if not math.isfinite(loss) or (self._skipped > (_SKIPS if self.scaled else 0)):
            self._pending.clear()
            raise TrainingError(self._message(result, loss=loss, grad_norm=grad_norm))
        self._settled.append(Settled(result.step, loss, grad_norm, result.lr, tuple(parts)))

    def _message(self, result: StepResult, *, loss: float, grad_norm: float) -> str:
        """The message that names the first image with a loss that is not finite, or the gradient.

        Every process calls this at the same step.
        """
        device = result.losses.device
        draw: Draw = result.draw
        columns = [result.losses.double(), draw.levels.t.to(device).double(), draw.weight.to(device).double()]
        losses, t, weight = (column.cpu() for column in self.accelerator.gather(tuple(columns)))
        broken = (~torch.isfinite(losses)).nonzero().flatten()
        worst = int(broken[0]) if len(broken) else int(losses.argmax())
        what, which = ("loss", "first such") if len(broken) else ("gradient", "largest loss")
        norms = {name: _norm(value.detach()) for name, value in self.network.named_parameters()}
        whole = math.sqrt(sum(norm**2 for norm in norms.values()))
        largest = max(norms, key=lambda name: norms[name] if math.isfinite(norms[name]) else math.inf)
        return (
            f"the {what} is not finite at step {result.step} (loss {loss}, gradient norm {grad_norm}; "
            f"{which} at t = {float(t[worst]):g}, weight {float(weight[worst]):.4g}; "
            f"norm of the parameters {whole:.4g}, largest {largest} with {norms[largest]:.4g}"
            f"{self._gradients()}). The last checkpoint is untouched. "
            "Lower `optimizer.lr`, set `optimizer.clip_grad_norm`, or keep `loss.normalize=mean`"
        )

    def _gradients(self) -> str:
        """Describe the gradients that are not finite; empty if a later step has replaced them already."""
        if self.lag:
            return ""
        spoiled = [
            name for name, value in self.network.named_parameters()
            if value.grad is not None and not math.isfinite(_norm(value.grad))
        ]  # fmt: skip
        first = f", first {spoiled[0]}" if spoiled else ""
        return f"; {len(spoiled)} of {len(list(self.network.parameters()))} gradients are not finite{first}"


def _norm(tensor: Tensor) -> float:
    """The norm of the whole tensor, also if it is sharded."""
    norm = tensor.norm()
    return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
