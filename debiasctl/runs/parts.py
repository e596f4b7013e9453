"""The parts of a run's folder: the one table that its store, archive, removal and disk use go by."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_SAFE = "[A-Za-z0-9][A-Za-z0-9._-]{0,127}"


@dataclass(frozen=True)
class Part:
    """An entry of a run's folder.

    `files` is the pattern of the paths in it that an archive takes ("" is the entry itself, a single file), `folders`
    that of the folders in it. A part without `files` is not exported. `private` is the pattern of the paths in it that
    only this machine's processes use, such as locks and unfinished work, besides the temporaries of any part.
    """

    holds: str
    files: str | None = None
    folders: str | None = None
    private: str | None = None

    @property
    def exported(self) -> bool:
        """Whether an archive takes the part."""
        return self.files is not None


SPEC, STATUS, METRICS, LABELS = "spec.json", "status.json", "metrics.jsonl", "labels.json"
AUTOENCODER = "autoencoder.safetensors"
CHECKPOINTS, EMA, SAMPLES, GRIDS = "checkpoints", "ema", "samples", "grids"
EVALUATIONS, ANALYSES, TRACKERS = "evaluations", "analyses", "trackers"
MANIFEST = "manifest.json"  # in a checkpoint's folder; a folder without one is no checkpoint
LOCK, TRAINER = ".lock", ".trainer.json"
_ANYTHING = "(?s:.*)"
# what atomic writes and removals leave if they are killed, with everything in it
_TEMPORARY = re.compile(r"(.*/)?\.[^/]+\.tmp(/.*)?", re.DOTALL)

PARTS: Mapping[str, Part] = {
    SPEC: Part("the settings", ""),
    STATUS: Part("how far the run is", ""),
    METRICS: Part("the figures of training, by step", ""),
    LABELS: Part("the tags and the note that the run was given", ""),
    AUTOENCODER: Part("the autoencoder whose latents the network is trained on", ""),
    CHECKPOINTS: Part(
        "a folder for each checkpoint", rf"[0-9]{{1,12}}/{_SAFE}\.(safetensors|pt|json)", "([0-9]{1,12})?"
    ),
    EMA: Part("snapshots of averaged weights, and averages made from them", rf"{_SAFE}\.(safetensors|json)", ""),
    SAMPLES: Part(
        "a folder for each set of images drawn",
        rf"{_SAFE}/{_SAFE}\.(png|npz|json)",
        f"({_SAFE})?",
        private=r"\.[0-9a-f]{16}\.(lock|partial(/[0-9-]+\.npz)?)",
    ),
    GRIDS: Part("images drawn during training, by step", rf"{_SAFE}\.png", ""),
    EVALUATIONS: Part("measurements, and the features of the images", rf"{_SAFE}\.(json|features\.npz)", ""),
    ANALYSES: Part(
        "analyses, and the arrays of their pictures",
        rf"{_SAFE}\.(json|npz)",
        "",
        private=r"\.[0-9a-f]{16}\.(lock|partial(/[A-Za-z0-9.-]+\.npz)?)",
    ),
    TRACKERS: Part("what trackers write, in any form", private=_ANYTHING),
    LOCK: Part("the lock of the process that trains", private=""),
    TRAINER: Part("the process that trains", private=""),
}


def is_exported(path: str, *, folder: bool) -> bool:
    """Whether an archive may hold a file, or a folder, of that path in a run's folder; its parts are joined by '/'."""
    name, _, rest = path.partition("/")
    part = PARTS.get(name)
    allowed = None if part is None else part.folders if folder else part.files
    return allowed is not None and re.fullmatch(allowed, rest) is not None


def is_part(path: str, *, folder: bool) -> bool:
    """Whether a file, or a folder, of that path in a run's folder is the run's: exported, private or a temporary."""
    if is_exported(path, folder=folder) or _TEMPORARY.fullmatch(path):
        return True
    name, _, rest = path.partition("/")
    part = PARTS.get(name)
    return part is not None and part.private is not None and re.fullmatch(part.private, rest) is not None


def disk_use(folder: Path) -> dict[str, int]:
    """The bytes that each part of the run in `folder` takes, largest first; "other" is what is no part of it."""
    used: dict[str, int] = {}
    for path, size in _files(folder):
        name = path.partition("/")[0]
        name = name if is_part(path, folder=False) and name in PARTS else "other"
        used[name] = used.get(name, 0) + size
    return dict(sorted(used.items(), key=lambda one: -one[1]))


def folder_size(folder: str | Path) -> int:
    """The bytes of all files in a folder; links are not followed, and what cannot be read counts nothing."""
    size, seen = 0, set[tuple[int, int]]()
    waiting = [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        with suppress(OSError):  # another process has just replaced it
                            size += _size_once(entry.stat(follow_symlinks=False), seen)
        except OSError:
            continue
    return size


def _files(folder: Path) -> Iterator[tuple[str, int]]:
    """The path in `folder` and the bytes of every file, 0 for its further names; links are not followed."""
    seen: set[tuple[int, int]] = set()
    for found in sorted(folder.rglob("*")):
        try:
            stat = found.lstat()
        except OSError:  # another process has just replaced it
            continue
        if not found.is_dir() or found.is_symlink():
            yield found.relative_to(folder).as_posix(), _size_once(stat, seen)


def _size_once(stat: os.stat_result, seen: set[tuple[int, int]]) -> int:
    """The bytes of a file; 0 for a further name of one of the files with several names that were `seen`."""
    file = stat.st_dev, stat.st_ino
    if file in seen:
        return 0
    if stat.st_nlink > 1:  # a folder may hold millions that have one name
        seen.add(file)
    return stat.st_size
