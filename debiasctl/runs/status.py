"""A run's status: the small file that says how far the run is, and the only one that a listing reads."""

from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from debiasctl.errors import RunError
from debiasctl.reading.documents import parse_json
from debiasctl.wording import one_line

STATUS_VERSION = 1
RUN = "run"  # the key of the run's identity in the file
RunState = Literal["created", "training", "interrupted", "failed", "finished", "imported"]


@dataclass(frozen=True)
class RunStatus:
    """How far a run is, and the few facts that a listing shows; `created` and `updated` are ISO times in UTC."""

    schema_version: int
    state: RunState
    step: int
    num_steps: int
    dataset: str
    weighting: str
    seed: int
    created: str
    updated: str
    message: str | None = None


_STATES = get_args(RunState)
_KNOWN = frozenset(field.name for field in fields(RunStatus))
_REQUIRED = frozenset(field.name for field in fields(RunStatus) if field.default is MISSING)


def new_status(*, num_steps: int, dataset: str, weighting: str, seed: int) -> RunStatus:
    """The status of a run that is about to be created."""
    time = now()
    return RunStatus(STATUS_VERSION, "created", 0, num_steps, dataset, weighting, seed, time, time)


def parse_status(text: str, source: str) -> RunStatus:
    """Read a status file's text; `source` names the file in messages.

    Raises:
        RunError: if the text is damaged, or was written by a newer version.
    """
    try:
        raw = _parse(text)
        raw.pop(RUN, None)
        version = raw.get("schema_version")
        if type(version) is int and version > STATUS_VERSION:
            raise RunError(
                f"{source} was written by a newer version of debiasctl (status version {version}, known up to "
                f"{STATUS_VERSION}). Upgrade it: pip install --upgrade debiasctl"
            )
        wrong = (raw.keys() - _KNOWN) | (_REQUIRED - raw.keys())
        if wrong:
            raise ValueError(f"these are missing or unknown: {', '.join(sorted(wrong))}")
        status = RunStatus(**raw)
        _check(status)
    except ValueError as error:
        raise RunError(f"{source} is damaged: {one_line(error)}") from error
    return status


def stated_run(text: str, source: str) -> str | None:
    """The identity of the run that a status file's text states; None if it is of an older version.

    Raises:
        RunError: if the text is damaged.
    """
    try:
        stated = _parse(text).get(RUN)
    except ValueError as error:
        raise RunError(f"{source} is damaged: {one_line(error)}") from error
    return None if stated is None else str(stated)


def now() -> str:
    """The time, ISO in UTC, in milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _parse(text: str) -> dict[str, Any]:
    raw = parse_json(text)
    if not isinstance(raw, dict):
        raise ValueError("it is not a JSON object")
    return raw


def _check(status: RunStatus) -> None:
    for name in ("schema_version", "step", "num_steps", "seed"):
        value = getattr(status, name)
        if type(value) is not int or value < 0:
            raise ValueError(f"'{name}' has to be an integer of at least 0")
    for name in ("dataset", "weighting", "created", "updated"):
        if not isinstance(getattr(status, name), str):
            raise ValueError(f"'{name}' has to be text")
    if status.state not in _STATES:
        raise ValueError(f"'state' has to be one of {', '.join(_STATES)}")
    if not isinstance(status.message, str | None):
        raise ValueError("'message' has to be text or null")
    for time in (status.created, status.updated):
        if datetime.fromisoformat(time).tzinfo is None:
            raise ValueError(f"'{time}' has no time zone")
