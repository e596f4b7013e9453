"""The training loop: steps, metrics, held-out errors, checkpoints, and stopping without losing progress."""

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch

from debiasctl.api import LoadedDataset
from debiasctl.compute.memory import is_out_of_memory, out_of_memory
from debiasctl.compute.signals import StopSignals, number_of
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.errors import DebiasctlError, Interrupted, ModelError, PluginError, TrainingError
from debiasctl.models.build import network_without_memory
from debiasctl.models.ema_snapshots import capture_snapshot, discard_snapshots_after, write_snapshot
from debiasctl.models.heldout import heldout_errors
from debiasctl.runs.records import HeldoutRecord, MetricsRecord, TrainRecord
from debiasctl.runs.store import Run, append_metrics, truncate_metrics
from debiasctl.training.checkpoints import CheckpointWriter
from debiasctl.training.memory import out_of_memory as out_of_memory_message
from debiasctl.training.meters import Meter, Speed, flops_per_image, peak_memory
from debiasctl.training.step import train_step
from debiasctl.training.summaries import Summaries
from debiasctl.training.tracking import scalars
from debiasctl.training.training import Training

_LOG = logging.getLogger(__name__)
_TIME_IS_UP = -1
_ASK_EVERY = 10  # steps between exchanges with the other processes about whether to stop
_OTHER_ENDED = "another process of this training ended; its message says why"
# parts of gloo's and NCCL's errors when another process has ended
_LOST_CONNECTION = (
    "Connection closed by peer",
    "Connection reset by peer",
    "gloo/transport",
    "remote process exited",
)


@dataclass(frozen=True)
class Progress:
    """The progress after a step, for a display; `loss` is the mean since the last logged step."""

    step: int
    num_steps: int
    loss: float
    images_per_step: int
    images_per_second: float
    logged: bool


class Observer(Protocol):
    """Observes a model during training without changing it."""

    def due(self, step: int) -> bool:
        """Whether to observe after `step` steps; the answer is the same in every process."""
        ...

    def __call__(self, run: Run, step: int) -> Sequence[MetricsRecord]:
        """Observe, and return records of this step.

        This is called in the first process, or in all if the network is sharded.
        """
        ...


def fit(
    run: Run,
    training: Training,
    data: LoadedDataset,
    *,
    on_progress: Callable[[Progress], None],
    max_hours: float | None = None,
    observer: Observer | None = None,
    restored: tuple[int, dict[str, float]] | None = None,
    signals: StopSignals | None = None,
) -> None:
    """Train to the last step of the run's spec, from what `load_last` gave or from the start; all processes call this.

    The caller holds the run's lock. A checkpoint is written before the first step, every `checkpoint_every` steps,
    at `keep_steps`, at the last step, and when a signal or the end of `max_hours` stops the training. `signals` may
    already have received one.

    Raises:
        Interrupted: if SIGINT, SIGTERM or SIGHUP came (exit code 128 + its number), or the time was up (exit code 0); a
            checkpoint is written first, unless a second signal came.
        TrainingError: if a loss or gradient is not finite, memory runs out, or another process ends.
        DebiasctlError: if a write fails. Existing checkpoints are kept in each case.
    """
    signals = signals or StopSignals()
    loop = _Loop(run, training, data, observer, signals)
    clock = _Deadline(training, max_hours)
    try:
        with signals as stop, training.batches, loop.writer:
            loop.start(restored)
            while loop.step < loop.num_steps:
                on_progress(loop.advance())
                reason = clock.reason_to_stop(stop.received, loop.step) if loop.step < loop.num_steps else None
                if reason:
                    loop.stop()
                    raise _interrupted(run, loop, reason)
            loop.finish()
    except Interrupted:
        raise
    except KeyboardInterrupt as stop_now:  # a second signal
        with contextlib.suppress(DebiasctlError, OSError):
            loop.set_state("interrupted")
        raise _stopped_at_once(run, loop, number_of(stop_now)) from stop_now
    except Exception as error:
        no_memory, lost = is_out_of_memory(error), _is_lost_connection(error, training)
        message = "out of memory" if no_memory else _OTHER_ENDED if lost else str(error) or type(error).__name__
        with contextlib.suppress(DebiasctlError, OSError):  # the disk itself may have failed; the cause is raised below
            loop.set_state("failed", message=message)
        if no_memory:
            raise TrainingError(out_of_memory_message(training, data.info, step=loop.step)) from error
        if lost:
            raise TrainingError(_OTHER_ENDED) from error
        raise


def _is_lost_connection(error: Exception, training: Training) -> bool:
    """Whether an error only says that another process of this training has ended."""
    several = training.accelerator.num_processes > 1
    cause = error.__cause__ if isinstance(error, PluginError) else error  # a network's forward pass communicates too
    return several and isinstance(cause, RuntimeError) and any(text in str(cause) for text in _LOST_CONNECTION)


def _interrupted(run: Run, loop: "_Loop", reason: int) -> Interrupted:
    """The exception for a training that stops early; `reason` is a signal's number or _TIME_IS_UP."""
    why = signal.Signals(reason).name if reason > 0 else "the end of `max_hours`"
    return Interrupted(
        f"stopped at step {loop.step} of {loop.num_steps} by {why}; a checkpoint was written. "
        f"Resume it: debiasctl train --resume {run.typed}",
        signal_number=reason if reason > 0 else None,
    )


def _stopped_at_once(run: Run, loop: "_Loop", number: int) -> Interrupted:
    """The exception for a training that a second signal stops within a step."""
    last = run.checkpoint_steps()[-1:]
    kept = f"the last checkpoint, of step {last[0]}, stays" if last else "there was no checkpoint yet"
    return Interrupted(
        f"stopped at once by a second signal ({signal.Signals(number).name}), after step {loop.step} of "
        f"{loop.num_steps}: {kept}. Resume it: debiasctl train --resume {run.typed}",
        signal_number=number,
    )


class _Deadline:
    """Decides whether to stop, with the same answer at the same step in every process."""

    def __init__(self, training: Training, max_hours: float | None) -> None:
        self.training = training
        self.end = math.inf if max_hours is None else time.monotonic() + 3600 * max_hours
        several = training.accelerator.num_processes > 1
        # the exchange makes a GPU wait
        self.interval = _ASK_EVERY if several and training.accelerator.device.type == "cuda" else 1
        self.several = several

    def reason_to_stop(self, signals: list[signal.Signals], step: int) -> int | None:
        """Return a signal's number, _TIME_IS_UP, or None."""
        reason = int(signals[0]) if signals else _TIME_IS_UP if time.monotonic() >= self.end else 0
        if self.several:
            if step % self.interval:
                return None
            asked = torch.tensor([reason], device=self.training.accelerator.device)
            seen = self.training.accelerator.gather(asked)
            reason = int(seen[seen.abs().argmax()])
        return reason or None


class _Loop:
    """The state of `fit`: the step reached, and the sums since the last logged step."""

    def __init__(
        self, run: Run, training: Training, data: LoadedDataset, observer: Observer | None, signals: StopSignals
    ) -> None:
        self.run, self.training, self.observer, self.signals = run, training, observer, signals
        self.spec = training.spec.training
        self.num_steps = self.spec.steps
        self.step = 0
        self.meter, self.speed = Meter(), Speed(self.spec.batch_size)
        self.flops = 0
        self.is_main = training.accelerator.is_main_process
        # a sharded network runs in all processes or in none
        self.looks = self.is_main or training.spec.compute.sharding == "fsdp"
        self.writer = CheckpointWriter(run, self.spec)
        self.summaries = Summaries(run, training)
        self.heldout = HeldoutSet.of(
            data.heldout,
            num_images=self.spec.heldout_images,
            conditional=bool(training.spec.model.conditional),
            device=training.accelerator.device,
            dtype=training.dtype,
        )

    def start(self, restored: tuple[int, dict[str, float]] | None) -> None:
        """Continue from the restored step and sums, or write the checkpoint of step 0."""
        if restored is not None:
            self.step, progress = restored
            self.meter.load(progress)
        if self.is_main:
            truncate_metrics(self.run, self.step)
            discard_snapshots_after(self.run, self.step)
            self.summaries.resume()
        self.set_state("training")
        if restored is None:
            self.checkpoint()
            self.writer.wait()  # from here on the run can be resumed
        context = self.training.context(self.step)
        for extension in self.training.extensions:
            extension.on_start(context)
        self._summarize()
        self.flops = _flops(self.training)
        self.speed.start(self.step)

    def advance(self) -> Progress:
        """Run one step and everything that is due after it."""
        train_step(self.training, self.step)
        self.step += 1
        self.meter.count(self.training.guard.settled())
        self.writer.check()
        last = self.step == self.num_steps
        logged = self.step % self.spec.log_every == 0 or last
        speed = self.speed.read(self.step)
        if logged:
            self._log(speed)
        due = self.step % self.spec.checkpoint_every == 0 or self.step in self.spec.keep_steps or last
        measured = self.step % self.spec.heldout_every == 0 or last if self.spec.heldout_every else due
        if measured:
            self._measure()
        if self._snapshot_due(due):
            self._snapshot()  # before the checkpoint, which then always has its snapshots
        if due:
            self.checkpoint()
        if self.observer is not None and self.observer.due(self.step):
            self._observe(self.observer)
        return Progress(self.step, self.num_steps, self.meter.loss, self.spec.batch_size, speed, logged)

    def _snapshot_due(self, checkpoint_due: bool) -> bool:
        ema = self.training.spec.ema
        if ema.kind != "power":
            return False
        if ema.snapshot_every is None:
            return checkpoint_due
        return self.step % ema.snapshot_every == 0 or self.step == self.num_steps

    def _snapshot(self) -> None:
        """Store the averages, from which others are reconstructed; all processes call this."""
        self.meter.count(self.training.guard.settle())
        captured = capture_snapshot(self.training.ema, step=self.step)
        if self.is_main:
            self.writer.submit(partial(write_snapshot, self.run, captured))

    def checkpoint(self) -> None:
        """Write this step's checkpoint and remove those that are not kept."""
        self.meter.count(self.training.guard.settle())
        self.writer.save(self.training, step=self.step, progress=self.meter.state())
        self.set_state("training")

    def finish(self) -> None:
        """Wait for the last checkpoint, and set the status to finished."""
        self.writer.wait()
        self.set_state("finished")

    def stop(self) -> None:
        """Write this step's checkpoint and wait until it is on disk."""
        self.checkpoint()
        try:
            self.writer.wait()
            self.set_state("interrupted")
        finally:  # torchrun ends the others once one process exits, and the first must have written by then
            self.training.accelerator.wait_for_everyone()

    def set_state(self, state: str, message: str | None = None) -> None:
        """Write the run's status."""
        if self.is_main:
            self.run.update_status(state=state, step=self.step, num_steps=self.num_steps, message=message)

    def _log(self, speed: float) -> None:
        self.meter.count(self.training.guard.settle())
        means = self.meter.read()
        record = TrainRecord(
            step=self.step,
            images=self.step * self.spec.batch_size,
            loss=means.loss,
            grad_norm=means.grad_norm,
            lr=means.lr,
            skipped_steps=means.skipped_steps,
            loss_shares=means.loss_shares,
            images_per_second=speed,
            flops_per_image=self.flops,
            flops_per_second=speed * self.flops,
            peak_memory=peak_memory(self.training.accelerator.device),
        )
        self._record(record)
        self.meter.clear()
        self._summarize()

    def _summarize(self) -> None:
        if (record := self.summaries.changed(self.step)) is not None:
            self._record(record)

    def _measure(self) -> None:
        self.meter.count(self.training.guard.settle())
        if self.looks:
            with self._doing("the held-out errors"):
                bins = heldout_errors(self.training.ema.network, self.training.objective, self.heldout)
            self._record(HeldoutRecord(step=self.step, weights="ema", bins=bins))

    def _observe(self, observer: Observer) -> None:
        self.meter.count(self.training.guard.settle())
        if self.looks:
            try:
                with self._doing("the evaluation"):
                    records = observer(self.run, self.step)
            except Exception as error:  # noqa: BLE001 - raised again but for what is not worth ending a training of days
                _LOG.warning("the evaluation at step %d failed: %s", self.step, self._survivable(error))
                records = ()
            for record in records:
                self._record(record)
        self.training.accelerator.wait_for_everyone()

    def _survivable(self, error: Exception) -> str:
        """What is wrong with an evaluation that training survives; raises any other error."""
        if isinstance(error, DebiasctlError):
            return str(error)
        # a process that lacks memory would leave the others of a sharded network waiting for it
        sharded = self.training.spec.compute.sharding == "fsdp"
        message = None if sharded else out_of_memory(error, advice="Lower `monitor.num`")
        if message is None:
            raise error
        if self.training.accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        return message

    @contextlib.contextmanager
    def _doing(self, work: str) -> Iterator[None]:
        """Name what a signal has to wait for."""
        before, self.signals.work = self.signals.work, f"{work} of this step"
        try:
            yield
        finally:
            self.signals.work = before

    def _record(self, record: MetricsRecord) -> None:
        """Append a record to the run's metrics, and pass it to the trackers."""
        if self.is_main:
            append_metrics(self.run, [record])
            self.training.accelerator.log(scalars(record), step=self.step)


def _flops(training: Training) -> int:
    """The operations per image, counted without memory, or on the network itself if it needs real numbers."""
    assert training.spec.content is not None, "a training's spec states its data's content"
    try:  # on the meta device every convolution is counted as a direct one
        return flops_per_image(network_without_memory(training.spec, training.spec.content), training.spec)
    except (PluginError, ModelError):
        training.network.eval()  # so that no running statistics change
        try:
            return flops_per_image(training.network, training.spec)
        finally:
            training.network.train()
