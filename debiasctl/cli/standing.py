"""The run that a command names; and notes on it where its checkpoint is used: in training, failed, or never trained."""

from typing import TYPE_CHECKING

from debiasctl.cli.launch import rank
from debiasctl.cli.output import note
from debiasctl.errors import RunError
from debiasctl.runs.pins import pin_trained

__all__ = ["named_run", "note_standing", "pin_trained"]
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
