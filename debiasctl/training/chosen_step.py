"""Which checkpoint is meant; imported before anything heavy is."""

from debiasctl.errors import CheckpointError, UsageError
from debiasctl.runs import Run


def choose_step(run: Run, text: str | None) -> int:
    """The checkpoint that `text` names (a step, or None for the last).

    Raises:
        UsageError: the run has not that one; CheckpointError: it has none.
    """
    steps = run.checkpoint_steps()
    if not steps:
        raise CheckpointError(
            f"run '{run.name}' has no checkpoint. Train it first: debiasctl train --resume {run.name}"
        )
    if text is None or text == "last":
        return steps[-1]
    if not text.isdecimal() or int(text) not in steps:
        known = ", ".join(map(str, steps))
        raise UsageError(f"run '{run.name}' has no checkpoint '{text}'. It has: {known} (or 'last')")
    return int(text)
