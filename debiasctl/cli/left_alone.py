"""Commands on several runs, some of which could not be changed: the others are, and one message names these."""

from collections.abc import Sequence

from debiasctl.errors import DebiasctlError


def report_left_alone(problems: Sequence[tuple[str, DebiasctlError]]) -> None:
    """Say in the end which runs, by name, are left as they are, and why.

    Raises:
        DebiasctlError: if there is any.
    """
    if not problems:
        return
    if len(problems) == 1:
        ((name, error),) = problems
        raise DebiasctlError(f"run '{name}' is left as it is: {error}") from error
    said = "\n".join(f"  {name}: {error}" for name, error in problems)
    raise DebiasctlError(f"{len(problems)} runs are left as they are:\n{said}")
