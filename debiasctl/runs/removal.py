"""Removing a run, which is what the table of parts names in its folder, and unfinished writes."""

import os
from collections.abc import Iterator
from pathlib import Path

from debiasctl import paths, temporaries
from debiasctl.errors import RunBusyError, RunError
from debiasctl.files import writing
from debiasctl.runs import lock as run_lock
from debiasctl.runs.parts import PARTS, SPEC, STATUS, is_part
from debiasctl.runs.pins import is_read
from debiasctl.runs.store import Run


def remove_run(run: Run) -> list[str]:
    """Remove a run; returns the paths in its folder that are not part of it, which stay together with the folder.

    A run in the store whose folder holds nothing else disappears as a whole and at once, even if the deletion of its
    files is then interrupted. Links are not followed.

    Raises:
        RunBusyError: if the run is being trained or read.
        RunError: if the folder is a link.
    """
    if run.path.is_symlink():
        raise RunError(f"{run.path} is a link to {run.path.resolve()}. Remove the link or that folder yourself")
    with run_lock.locked(run.path), writing(run.path):
        if is_read(run):
            raise RunBusyError(
                f"run '{run.name}' is being read by another process, which samples, measures or exports it. "
                "Wait until it ends, or stop it with Ctrl-C"
            )
        foreign = foreign_in(run)
        if not foreign and run.path.resolve().parent == paths.runs_dir().resolve():
            temporaries.discard(run.path)
        else:
            _remove_parts(run.path, foreign)
    temporaries.remove_stale(run.path.parent)
    return foreign


def tidy(run: Run) -> None:
    """Remove what killed processes left unfinished in the store and in this run; what others still write stays."""
    temporaries.remove_stale(paths.runs_dir())
    for folder in (run.path, *(run.path / name for name in PARTS)):
        temporaries.remove_stale(folder)


def foreign_in(run: Run, inside: str = "") -> list[str]:
    """The paths in a run's folder, or in one `inside` it, that are not part of the run; unknown folders as a whole."""
    try:
        return sorted(_foreign(run.path, inside))
    except FileNotFoundError:  # another process is removing it
        return []


def _remove_parts(folder: Path, foreign: list[str]) -> None:
    """Remove a run's parts, those that make it a run last, and the folders that are empty then."""
    for name in sorted(PARTS, key=lambda name: name in (SPEC, STATUS)):
        path = folder / name
        if os.path.lexists(path) and name not in foreign:
            _remove_files(folder, name)
    for entry in sorted(folder.iterdir()):  # temporaries of the run's own files
        if entry.name not in PARTS and is_part(entry.name, folder=entry.is_dir()) and not entry.is_symlink():
            _remove_files(folder, entry.name)
    if not foreign:
        folder.rmdir()


def _foreign(folder: Path, inside: str) -> Iterator[str]:
    """What is not part of the run, as paths in its folder: links, unknown files, and unknown folders as a whole."""
    for entry in sorted((folder / inside).iterdir()):
        path = f"{inside}/{entry.name}" if inside else entry.name
        is_folder = entry.is_dir() and not entry.is_symlink()
        if (entry.is_symlink() and not path.startswith("trackers/")) or not is_part(path, folder=is_folder):
            yield path
        elif is_folder:
            yield from _foreign(folder, path)


def _remove_files(folder: Path, path: str) -> None:
    """Remove the part at a path in `folder`, but for what is foreign in it."""
    found = folder / path
    if not found.is_dir() or found.is_symlink():
        found.unlink()
        return
    for entry in sorted(found.iterdir()):
        inner = f"{path}/{entry.name}"
        is_folder = entry.is_dir() and not entry.is_symlink()
        foreign = entry.is_symlink() and not path.startswith("trackers")
        if not foreign and is_part(inner, folder=is_folder):
            _remove_files(folder, inner)
    if not any(found.iterdir()):
        found.rmdir()
