"""The runs in the store as a listing shows them: those that cannot be read are named too."""

import os
from dataclasses import dataclass
from pathlib import Path

from debiasctl import paths, temporaries
from debiasctl.errors import RunError
from debiasctl.runs.status import RunStatus
from debiasctl.runs.store import Run, is_folder, store_entries, unreadable


@dataclass(frozen=True)
class RunSummary:
    """One line of a listing; where `state` is "damaged", `status` is None and `problem` says why."""

    name: str
    path: Path
    state: str
    status: RunStatus | None
    problem: str | None = None


def list_runs() -> list[RunSummary]:
    """All runs in the store, oldest first; damaged ones, and what cannot be read, last.

    Raises:
        RunError: if the store itself cannot be read.
    """
    store = paths.runs_dir()
    entries = store_entries()
    summaries = [summary for entry in entries if (summary := summarize(Run(store / entry.name), is_folder(entry)))]
    return sorted(summaries, key=lambda summary: (summary.status.created if summary.status else "~", summary.name))


def unfinished() -> list[Path]:
    """What killed imports and removals left in the store; the next command that writes to the store removes it."""
    return temporaries.stale(paths.runs_dir())


def summarize(run: Run, folder: bool = True) -> RunSummary | None:
    """The line of one run; None if it is none."""
    if not folder:
        reason = unreadable(run.path) if run.path.is_symlink() else None
        return None if reason is None else _damaged(run, reason)
    try:
        status = run.status()
    except RunError as error:
        reason = unreadable(run.path)
        if reason is not None:
            return _damaged(run, reason)
        if not any(os.path.isfile(run.path / name) for name in ("status.json", "spec.json")):
            return None
        return RunSummary(run.name, run.path, "damaged", None, str(error))
    return RunSummary(run.name, run.path, status.state, status)


def _damaged(run: Run, reason: str) -> RunSummary:
    problem = f"{run.path} cannot be read: {reason}. Correct that, or move it away"
    return RunSummary(run.name, run.path, "damaged", None, problem)
