"""Choosing a checkpoint, and pins: what a process reads is neither pruned nor removed by another in the meantime."""

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from debiasctl import claims
from debiasctl.errors import CheckpointError, UsageError
from debiasctl.reading.user_text import whole_number
from debiasctl.runs.parts import CHECKPOINTS, MANIFEST
from debiasctl.runs.store import Run
from debiasctl.wording import quoted

_TRIES = 20  # of a checkpoint that training may remove in the moment between its choice and its pin


class _Gone(CheckpointError):
    """The checkpoint was removed before it could be pinned."""


def choose_step(run: Run, text: str | None) -> int:
    """The step of the checkpoint that `text` names (a step, or None for the last).

    Raises:
        UsageError: if the run has no such checkpoint; CheckpointError: if it has none at all.
    """
    steps = run.checkpoint_steps()
    if not steps:
        raise CheckpointError(
            f"run '{run.name}' has no checkpoint. Train it first: debiasctl train --resume {run.typed}"
        )
    if text is None or text == "last":
        return steps[-1]
    step = whole_number(text)
    if step is None or step not in steps:
        known = ", ".join(map(str, steps))
        raise UsageError(f"run '{run.name}' has no checkpoint {quoted(text)}. It has: {known} (or 'last')")
    return step


@contextmanager
def pinned(run: Run, step: int) -> Iterator[None]:
    """Keep a checkpoint where it is for the length of the block; this writes nothing.

    Raises:
        CheckpointError: if it is not there any more.
    """
    manifest = run.checkpoint_path(step) / MANIFEST
    gone = _Gone(
        f"checkpoint {step} of run '{run.name}' was removed a moment ago, by training (which keeps the last ones, and "
        "those of training.keep_steps) or by hand. Repeat the command to use a newer one"
    )
    try:
        descriptor = claims.hold(manifest, shared=True)
    except (BlockingIOError, FileNotFoundError, NotADirectoryError) as error:
        raise gone from error
    except OSError:  # it is there and cannot be opened, which the one who reads it reports
        descriptor = None
    try:
        if descriptor is not None and _identity(descriptor) != claims.identity(manifest):
            raise gone
        yield
    finally:
        claims.release(descriptor)


def pin_chosen(run: Run, text: str | None, pins: ExitStack) -> int:
    """Choose a checkpoint as `choose_step` does, and pin it until `pins` ends; returns its step.

    Raises:
        UsageError: if the run has no such checkpoint; CheckpointError: if it has none at all.
    """
    for _ in range(_TRIES):
        step = choose_step(run, text)
        with suppress(_Gone):
            pins.enter_context(pinned(run, step))
            return step
    raise CheckpointError(
        f"the checkpoints of run '{run.name}' are removed as fast as they are written. Keep more of them "
        "(training.keep_last), or wait until training has ended"
    )


def pin_trained(run: Run, text: str | None, pins: ExitStack) -> int:
    """Choose and pin a checkpoint as `pin_chosen` does; one that no training has reached has to be named.

    Raises:
        UsageError: if the run has no such checkpoint, or `text` is not 0 and it has none but that of step 0;
        CheckpointError: if it has none at all.
    """
    step = pin_chosen(run, text, pins)
    if step == 0 and text in (None, "last") and not _holds_trained(run):
        way_on = (
            "Wait until training has written another"
            if run.is_training()
            else f"Train it first: debiasctl train --resume {run.typed}"
        )
        raise UsageError(
            f"run '{run.name}' has no checkpoint but that of step 0, which is the network before any training. "
            f"{way_on}; or take it as it is: `checkpoint=0`"
        )
    return step


def _holds_trained(run: Run) -> bool:
    """Whether the network of step 0 was trained before: elsewhere, or as another run."""
    spec = run.spec()
    return spec.imported is not None or spec.training.init_from is not None


def pin_all(run: Run, texts: Sequence[str | None], pins: ExitStack) -> list[int]:
    """Pin several checkpoints as `pin_chosen` does."""
    return [pin_chosen(run, text, pins) for text in texts]


@contextmanager
def unpinned(checkpoint: Path) -> Iterator[bool]:
    """Whether no process reads the checkpoint in a folder; while it is so, none can begin to before the block ends."""
    try:
        descriptor = claims.hold(checkpoint / MANIFEST)
    except BlockingIOError:
        yield False
        return
    except OSError:  # without a manifest it is no checkpoint, and nobody reads it
        descriptor = None
    try:
        yield True
    finally:
        claims.release(descriptor)


def is_read(run: Run) -> bool:
    """Whether another process reads one of the run's checkpoints."""
    for manifest in run.path.glob(f"{CHECKPOINTS}/[0-9]*/{MANIFEST}"):
        with unpinned(manifest.parent) as free:
            if not free:
                return True
    return False


def _identity(descriptor: int) -> tuple[int, int]:
    stat = os.fstat(descriptor)
    return stat.st_dev, stat.st_ino
