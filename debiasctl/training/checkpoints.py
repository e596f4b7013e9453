"""Writing checkpoints in the background, and resuming from them."""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

from debiasctl.errors import CheckpointError, DebiasctlError, ForeignPartError, PluginError
from debiasctl.models.checkpoint_files import (
    CheckpointState,
    prune_checkpoints,
    write_checkpoint,
)
from debiasctl.models.tensor_files import read_state, read_tensors
from debiasctl.runs.manifest import STATE_FILE, WEIGHTS_SUFFIX, verify
from debiasctl.runs.store import Run
from debiasctl.specs.sections import TrainingSection
from debiasctl.training.state import HostMemory, capture, restore
from debiasctl.training.state_check import check_rest
from debiasctl.training.training import Training
from debiasctl.wording import one_line

_LOG = logging.getLogger(__name__)


class CheckpointWriter:
    """Writes a run's checkpoints in the background, then removes those that are not kept; a context manager.

    `save` blocks only while the state is copied to host memory. An error in the background is raised once, by the next
    call: `check` (at every step), `save`, `wait`, or the end of the context.
    """

    def __init__(self, run: Run, spec: TrainingSection) -> None:
        self._run, self._spec = run, spec
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None
        self._others: list[Future[Any]] = []
        self._memory = HostMemory()
        self._last: int | None = None

    def save(self, training: Training, *, step: int, progress: Mapping[str, float]) -> None:
        """Copy the state after `step` steps and start writing it once the previous one is written; see `capture`.

        Every process has to call this; the main process writes. A second call for the same step does nothing.

        Raises:
            DebiasctlError: if the previous checkpoint could not be written.
        """
        if self._pending is not None:
            self._pending.exception()  # waits, because its memory is reused
        self.check()
        if step == self._last:
            return
        self._last = step
        state = capture(training, step=step, progress=progress, memory=self._memory)
        if state is not None:
            self._pending = self._worker.submit(self._write, state, list(self._others))

    def submit(self, task: Callable[[], object]) -> None:
        """Queue another write; if it fails, a later checkpoint is not written."""
        self._others.append(self._worker.submit(task))

    def check(self) -> None:
        """Raise the error of a write that has ended, without waiting."""
        if any(write.done() and write.exception() is not None for write in self._writes):
            self.wait()
        self._others = [write for write in self._others if not write.done()]
        if self._pending is not None and self._pending.done():
            self._pending = None

    def wait(self) -> None:
        """Wait until everything saved is on disk.

        Raises:
            DebiasctlError: if it could not be written; no partial files remain, and earlier checkpoints are whole.
        """
        writes = self._writes
        for write in writes:
            write.exception()  # waits; an interrupted wait leaves the writes pending
        self._others, self._pending = [], None
        for write in writes:
            write.result()

    @property
    def _writes(self) -> list[Future[Any]]:
        return [*self._others, *([] if self._pending is None else [self._pending])]

    def _write(self, state: CheckpointState, before: Sequence[Future[Any]]) -> None:
        for write in before:
            write.result()
        write_checkpoint(self._run, state)
        prune_checkpoints(self._run, self._spec, newest=state.step)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the write in progress even after an error, because the run's lock is released after this."""
        try:
            self.wait()
        except Exception as failed:
            if error is None:
                raise
            _LOG.warning("%s", failed)  # `error` is raised, so this one is only logged
        finally:
            self._worker.shutdown()


def load_last(run: Run, training: Training) -> tuple[int, dict[str, float]] | None:
    """Restore a training from its run's last whole checkpoint; return (step, running sums), or None if there is none.

    Damaged checkpoints are reported and left in place until training reaches their step and writes them again.

    Raises:
        CheckpointError: if all are damaged, or one does not fit the run's spec; ForeignPartError: if one is another
            run's.
    """
    causes: list[str] = []
    for step in reversed(run.checkpoint_steps()):
        try:
            names = verify(run.checkpoint_path(step), run)
        except ForeignPartError:
            raise  # training would write it again, and lose what may be another run's only copy
        except CheckpointError as error:
            causes.append(str(error))
            continue
        if training.accelerator.is_main_process:
            for cause in causes:
                _LOG.warning("%s. Resuming from checkpoint %d, and writing it again", cause, step)
        return step, _load(run, training, step=step, names=names)
    if not causes:
        return None
    raise CheckpointError(
        "\n".join(causes) + f"\nNo checkpoint of run '{run.name}' is whole. Restore one from a copy, or start again: "
        f"debiasctl runs rm {run.typed}"
    )


def _load(run: Run, training: Training, *, step: int, names: Mapping[str, str]) -> dict[str, float]:
    """Load the files `names` of a verified checkpoint."""
    path = run.checkpoint_path(step)
    try:
        weights = {
            name.removesuffix(WEIGHTS_SUFFIX): read_tensors(path / name)
            for name in names
            if name.endswith(WEIGHTS_SUFFIX)
        }
        rest = read_state(path / STATE_FILE)
        check_rest(training, rest, step=step)
        return restore(training, CheckpointState(step, weights, rest))
    except PluginError as error:
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {error}") from error
    except DebiasctlError:
        raise
    except Exception as error:  # plugins restore their own states, and raise errors of any type
        cause = one_line(str(error) or type(error).__name__)
        raise CheckpointError(f"checkpoint {step} of run '{run.name}' does not fit its spec: {cause}") from error
