"""What several commands read from their options."""

from debiasctl.cli.launch import rank
from debiasctl.cli.output import note
from debiasctl.errors import UsageError
from debiasctl.runs.store import Run


def note_training(run: "Run", step: int) -> None:
    """Say that a run is still being trained, and which checkpoint is looked at."""
    if rank() == 0 and run.is_training():
        note(f"note: run '{run.name}' is being trained; this is its step {step}")


def parse_steps(text: str) -> list[int]:
    """`10,20,50` as numbers, each once, in the order given."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(f"--steps '{text}': give whole numbers from 1, separated by commas, for example 10,20,50")
    return list(dict.fromkeys(map(int, parts)))


def parse_batch_size(text: str) -> int | None:
    """A number of images, or None for `auto`."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"--batch-size {text}: give a whole number from 1, or auto")
    return int(text)
