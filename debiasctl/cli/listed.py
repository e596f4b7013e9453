"""Options of `train` and `evaluate` as `sweep` takes them: each a list of values, or one that may be left open."""

import copy
from collections.abc import Callable
from typing import Any

from debiasctl.errors import UsageError


def listed(option: Any) -> Any:
    """An option of `train` that takes several values, as text."""
    several = copy.copy(option)
    several.min = several.max = None
    several.metavar = "VALUE,..."
    several.show_default = False
    if option.autocompletion is not None:
        several.autocompletion = complete_list(option.autocompletion)
    return several


def left_open(option: Any, default: str) -> Any:
    """An option of `evaluate` that `sweep` tells from its default, as a study file may give it."""
    other = copy.copy(option)
    other.help = f"{option.help.removesuffix('.')} (default: {default})."
    other.show_default = False
    return other


def complete_list(complete: Callable[[str], list[str]]) -> Callable[[str], list[str]]:
    """A completion of the last of several values; commas that a plugin's options hold are left to it."""

    def complete_last(incomplete: str) -> list[str]:
        from debiasctl.registry.refs import split_list

        try:
            *before, last = split_list(incomplete, incomplete)
        except UsageError:  # a bracket is still open
            return []
        head = "".join(f"{one}," for one in before)
        found = [f"{head}{one}" for one in complete(last)]
        return found or complete(incomplete)

    return complete_last
