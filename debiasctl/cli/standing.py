"""The run that a command names; and notes on it where its checkpoint is used: in training, failed, or never trained."""

from typing import TYPE_CHECKING

from debiasctl.cli.launch import rank
from debiasctl.cli.output import note
from debiasctl.runs.guides import Guide, pin_guide
from debiasctl.runs.pins import pin_trained

__all__ = ["named_run", "note_guide", "note_standing", "pin_guide", "pin_trained"]

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
    from debiasctl.runs.standing import standing_of

    if rank() == 0:
        for text in standing_of(run, spec, step):
            note(f"note: {text}")


def note_guide(guide: Guide | None) -> None:
    """Say of another run's network that guides sampling what `note_standing` says."""
    if guide is not None and not guide.is_self:
        note_standing(guide.run, guide.run.spec(), guide.step)
