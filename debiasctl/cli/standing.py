"""The run that a command names; and notes on it where its checkpoint is used: in training, failed, or never trained."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

from debiasctl.cli.launch import rank
from debiasctl.cli.output import note
from debiasctl.errors import RunError, UsageError

_LETTERS = 100  # of a reason that is told in full

if TYPE_CHECKING:
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec


def named_run(text: str, *, quiet: bool = False) -> "Run":
    """The run that an argument names, as `find_run` finds it; where that is by the beginning of its name, say which.

    `quiet` is for a command that is about to run again, in several processes.
    """
    from debiasctl.runs.store import find_run

    run = find_run(text)
    if run.name.startswith(text) and run.name != text and not quiet and rank() == 0:
        note(f"note: '{text}' is run '{run.name}'")
    return run


def pin_trained(run: "Run", text: str | None, pins: ExitStack) -> int:
    """Choose and pin a checkpoint as `pin_chosen` does; one that no training has reached has to be named.

    Raises:
        UsageError: if the run has no such checkpoint, or `text` is not 0 and it has none but that of step 0;
        CheckpointError: if it has none at all.
    """
    from debiasctl.runs.pins import pin_chosen

    step = pin_chosen(run, text, pins)
    if step == 0 and text in (None, "last") and run.spec().training.init_from is None:
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


def note_standing(run: "Run", spec: "RunSpec", step: int) -> None:
    """Say which checkpoint is used where that is not the end of a training that went well."""
    if rank() > 0:
        return
    if run.is_training():
        note(f"note: run '{run.name}' is being trained; this is its step {step}")
    else:
        try:
            status = run.status()
        except RunError as error:
            note(f"note: how far run '{run.name}' is cannot be said: {error}")
            status = None
        if status is not None and status.state == "failed":
            note(
                f"note: run '{run.name}' failed at step {status.step}: {_short(status.message)} "
                f"(see debiasctl runs show {run.typed}). Checkpoint {step} is used"
            )
    if step == 0:
        whose = "no training" if spec.training.init_from is None else "no training of its own"
        note(f"note: checkpoint 0 of run '{run.name}' has had {whose}: it is the network before the first step")


def _short(message: str | None) -> str:
    """The first sentence of a failure's message, without its figures if it is long."""
    sentence = (message or "no reason was stored").partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= _LETTERS else sentence.partition(" (")[0]
