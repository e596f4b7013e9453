"""The training loop: steps, metrics, held-out errors, checkpoints, and stopping without losing anything."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from debiasctl.api import LoadedDataset, StepContext
from debiasctl.errors import DebiasctlError, Interrupted, TrainingError
from debiasctl.runs import Run, append_metrics, truncate_metrics
from debiasctl.training.checkpoints import load_checkpoint, prune_checkpoints, save_checkpoint
from debiasctl.training.heldout import HeldoutSet, heldout_errors
from debiasctl.training.setup import Training
from debiasctl.training.step import StepResult, train_step


@dataclass(frozen=True)
class Progress:
    """What a display shows after a step; `loss` is the mean since the last logged step."""

    step: int
    num_steps: int
    loss: float
    images_per_step: int
    images_per_second: float
    logged: bool


def fit(run: Run, training: Training, data: LoadedDataset, *, on_progress: Callable[[Progress], None]) -> None:
    """Train from the run's last checkpoint (or from the start) to the last step of its spec.

    The caller holds the run's lock. A checkpoint is written before the first step, every `checkpoint_every` steps,
    at `keep_steps`, at the last step, and when a signal asks to stop.

    Raises:
        Interrupted: SIGINT or SIGTERM came; a checkpoint was written first.
        TrainingError: a loss or gradient was not finite; DebiasctlError: a write failed. Checkpoints stay.
    """
    loop = _Loop(run, training, data)
    try:
        with _signals() as stop:
            loop.start()
            while loop.step < loop.num_steps:
                on_progress(loop.advance())
                if stop and loop.step < loop.num_steps:
                    loop.checkpoint()
                    loop.set_state("interrupted")
                    raise Interrupted(
                        f"stopped at step {loop.step} of {loop.num_steps} by {stop[0].name}; a checkpoint was written. "
                        f"Go on with: debiasctl train --resume {run.name}",
                        signal_number=stop[0],
                    )
            loop.set_state("finished")
    except Interrupted:
        raise
    except Exception as error:
        out_of_memory = _is_out_of_memory(error)
        message = "out of memory" if out_of_memory else str(error) or type(error).__name__
        with contextlib.suppress(DebiasctlError, OSError):  # the disk may be what failed; the cause is raised below
            loop.set_state("failed", message=message)
        if not out_of_memory:
            raise
        raise TrainingError(
            f"out of memory at step {loop.step} with {training.spec.training.batch_size} images a step. The last "
            "checkpoint is untouched; start a run with a smaller --batch-size or a smaller --backbone"
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    """Also where torch's allocator for the CPU says it, in a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


class _Loop:
    """The state of `fit`: the step reached, and the sums since the last logged step."""

    def __init__(self, run: Run, training: Training, data: LoadedDataset) -> None:
        self.run, self.training = run, training
        self.spec = training.spec.training
        self.num_steps = self.spec.steps
        self.step = 0
        self.sums: dict[str, float] = {"loss": 0.0, "grad_norm": 0.0, "num": 0}
        self.is_main = training.accelerator.is_main_process
        self.heldout = HeldoutSet.of(
            data.heldout,
            num_images=self.spec.heldout_images,
            conditional=bool(training.spec.model.conditional),
            device=training.accelerator.device,
        )
        self.since, self.warming_up = (time.perf_counter(), 0), True

    def start(self) -> None:
        """Load the last checkpoint, or write the one of step 0."""
        steps = self.run.checkpoint_steps()
        if steps:
            self.sums = load_checkpoint(self.run, self.training, step=steps[-1])
            self.step = steps[-1]
        if self.is_main:
            truncate_metrics(self.run, self.step)
        self.set_state("training")
        if not steps:
            self.checkpoint()
        context = StepContext(self.step, self.training.network, self.training.optimizer)
        for extension in self.training.extensions:
            extension.on_start(context)
        self.since = (time.perf_counter(), self.step)

    def advance(self) -> Progress:
        """One step, and what is due after it."""
        result = train_step(self.training, self.step)
        self.step += 1
        self.sums["loss"] += result.loss
        self.sums["grad_norm"] += result.grad_norm
        self.sums["num"] += 1
        loss = self.sums["loss"] / self.sums["num"]
        last = self.step == self.num_steps
        logged = self.step % self.spec.log_every == 0 or last
        speed = self._images_per_second()
        if logged:
            self._log(result, speed)
        due = self.step % self.spec.checkpoint_every == 0 or self.step in self.spec.keep_steps or last
        measured = self.step % self.spec.heldout_every == 0 or last if self.spec.heldout_every else due
        if measured:
            self._measure()
        if due:
            self.checkpoint()
        return Progress(self.step, self.num_steps, loss, self.spec.batch_size, speed, logged)

    def checkpoint(self) -> None:
        """Write this step's checkpoint and remove those that are not kept."""
        if self.is_main:
            save_checkpoint(self.run, self.training, step=self.step, progress=self.sums)
            prune_checkpoints(self.run, self.spec)
            self.set_state("training")
        self.training.accelerator.wait_for_everyone()

    def set_state(self, state: str, message: str | None = None) -> None:
        """Write the run's status."""
        if self.is_main:
            self.run.update_status(state=state, step=self.step, num_steps=self.num_steps, message=message)

    def _log(self, result: StepResult, speed: float) -> None:
        record = {
            "kind": "train",
            "step": self.step,
            "images": self.step * self.spec.batch_size,
            "loss": self.sums["loss"] / self.sums["num"],
            "grad_norm": self.sums["grad_norm"] / self.sums["num"],
            "lr": result.lr,
            "images_per_second": speed,
        }
        self._append(record)
        self.sums = dict.fromkeys(self.sums, 0)

    def _measure(self) -> None:
        if self.is_main:
            bins = heldout_errors(self.training.ema.network, self.training.objective, self.heldout)
            self._append({"kind": "heldout", "step": self.step, "weights": "ema", "bins": bins})

    def _append(self, record: dict[str, Any]) -> None:
        if self.is_main:
            append_metrics(self.run, [record])

    def _images_per_second(self) -> float:
        """Over the steps since this process started, but for its first, which warms up."""
        begun, first = self.since
        now = time.perf_counter()
        speed = (self.step - first) * self.spec.batch_size / max(now - begun, 1e-9)
        if self.warming_up:
            self.warming_up, self.since = False, (now, self.step)
        return speed


@contextlib.contextmanager
def _signals() -> Iterator[list[signal.Signals]]:
    """Collects the first SIGINT, SIGTERM or SIGHUP, so that the step in progress can end; a second one acts at once."""
    received: list[signal.Signals] = []
    known = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in known}
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}  # nohup

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(signal.Signals(number))
        restore()

    for number in before:
        signal.signal(number, handle)
    try:
        yield received
    finally:
        restore()
