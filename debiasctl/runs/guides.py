"""The weaker network that guides a run's sampling (arXiv 2406.02507), as `guide` names it: `RUN:checkpoint=500`."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from debiasctl.errors import UsageError
from debiasctl.registry.refs import parse_ref
from debiasctl.runs.pins import pin_trained
from debiasctl.runs.store import Run, find_run
from debiasctl.wording import did_you_mean, quoted

SELF = "self"
_OPTIONS = re.compile(r":(?=\s*\w+\s*=)")
_KNOWN = ("checkpoint", "weights", "unconditional")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Guide:
    """A run's network at a checkpoint with some weights; `unconditional` if it is asked without a class.

    `is_self` says that it is the run being sampled, whose other checkpoints and weights may guide it.
    """

    run: Run
    step: int
    weights: str
    unconditional: bool = False
    is_self: bool = False

    def __str__(self) -> str:
        """As `guide` takes it, every option named."""
        more = ",unconditional=true" if self.unconditional else ""
        return f"{SELF if self.is_self else self.run.typed}:checkpoint={self.step},weights={self.weights}{more}"


def pin_guide(text: str, run: Run, pins: ExitStack) -> Guide:
    """Find the guide that a text names for sampling `run`, and pin its checkpoint until `pins` ends.

    Raises:
        RunNameError: if there is no such run; UsageError: if it has no such checkpoint, or an option is unknown;
        CheckpointError: if the run has no checkpoint at all.
    """
    name, options = _parts(text)
    found = run if name == SELF else find_run(name)
    step = pin_trained(found, options.get("checkpoint"), pins)
    unconditional = _TRUTH.get(options.get("unconditional", "false").lower())
    if unconditional is None:
        raise UsageError(f"`guide={text}`: unconditional is true or false, not {quoted(options['unconditional'])}")
    is_self = found.path.resolve() == run.path.resolve()
    return Guide(found, step, options.get("weights", "ema"), unconditional, is_self)


def _parts(text: str) -> tuple[str, Mapping[str, str]]:
    """The run's name and the options, as texts.

    Raises:
        UsageError: if there is no name, or an option is unknown or no plain value.
    """
    name, *rest = _OPTIONS.split(text.strip(), maxsplit=1)
    if not name:
        raise UsageError(f"`guide={text}` names no run. Write RUN, or RUN:checkpoint=500,weights=ema; self is the run")
    options: Mapping[str, Any] = parse_ref(f"guide:{rest[0]}").options if rest else {}
    for key, value in options.items():
        if key not in _KNOWN:
            raise UsageError(
                f"`guide={text}`: unknown option {quoted(key)}.{did_you_mean(key, _KNOWN)} Known: {', '.join(_KNOWN)}"
            )
        if not isinstance(value, str):
            raise UsageError(f"`guide={text}`: {key} takes one plain value")
    return name, options
