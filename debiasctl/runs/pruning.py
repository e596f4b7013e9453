"""Freeing disk space in runs that stay: samples, older checkpoints, features, and units of unfinished analyses."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from debiasctl import temporaries
from debiasctl.errors import CheckpointError, RunError
from debiasctl.files import writing
from debiasctl.runs import lock as run_lock
from debiasctl.runs.manifest import verify
from debiasctl.runs.parts import ANALYSES, CHECKPOINTS, EVALUATIONS, SAMPLES, folder_size, is_part
from debiasctl.runs.pins import is_read, unpinned
from debiasctl.runs.removal import foreign_in, tidy
from debiasctl.runs.store import Run

_FEATURES = re.compile(r".*\.features\.npz")
_UNITS = re.compile(r"\.[0-9a-f]{16}\.partial")


@dataclass(frozen=True)
class Choice:
    """What is to be freed; of checkpoints the last `keep_last` stay, and with `keep_named` those that a spec names."""

    samples: bool = True
    checkpoints: bool = True
    features: bool = True
    analyses: bool = True
    keep_last: int = 1
    keep_named: bool = True


@dataclass(frozen=True)
class Item:
    """Something to remove: its part of the run, its path in the run's folder, and its bytes."""

    part: str
    path: str
    size: int


@dataclass
class Plan:
    """What can be freed in a run; what is `kept`, and why; and paths that are not the run's, which stay."""

    run: Run
    items: list[Item] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """The bytes that the items take."""
        return sum(item.size for item in self.items)


def plan_pruning(run: Run, choice: Choice) -> Plan:
    """What pruning a run would remove; this changes nothing.

    A run that is trained, or read by another process, keeps everything, and links are not followed. The last checkpoint
    stays, and all stay if it is damaged, because an earlier one is then what a resume starts from.

    Raises:
        RunError: if the run's spec cannot be read.
    """
    plan = Plan(run)
    if run.path.is_symlink():
        plan.kept.append(f"everything, because it is a link to {run.path.resolve()}: prune the run there")
        return plan
    if run.is_training():
        plan.kept.append("everything, because it is being trained")
        return plan
    if is_read(run):
        plan.kept.append("everything, because another process reads it: it samples, measures or exports")
        return plan
    for part, wanted, found in (
        (SAMPLES, choice.samples, _samples(run)),
        (CHECKPOINTS, choice.checkpoints, _checkpoints(run, choice, plan) if choice.checkpoints else iter(())),
        (EVALUATIONS, choice.features, _features(run)),
        (ANALYSES, choice.analyses, _unfinished(run)),
    ):
        folder = run.path / part
        if wanted and folder.is_symlink():
            plan.kept.append(f"what is in {part}/, because that is a link to {folder.resolve()}")
            continue
        for path in found if wanted else ():
            _add(plan, part, path)
    return plan


def prune(plan: Plan) -> int:
    """Remove what a plan lists, each thing as a whole and at once; returns the bytes that were freed.

    Raises:
        RunBusyError: if the run is being trained by now; RunError: if it is being read, or has changed meanwhile.
    """
    run = plan.run
    with run_lock.locked(run.path), writing(run.path):
        tidy(run)
        aside = []
        with ExitStack() as stack:  # nobody begins to read a checkpoint while things disappear
            if not all(stack.enter_context(unpinned(run.checkpoint_path(step))) for step in run.checkpoint_steps()):
                raise RunError(f"run '{run.name}' is being read by another process by now. Nothing of it was removed")
            steps = run.checkpoint_steps()
            gone = {int(Path(item.path).name) for item in plan.items if item.part == CHECKPOINTS}
            if gone and not set(steps) - gone:
                raise RunError(f"run '{run.name}' has lost checkpoints meanwhile. Nothing of it was removed")
            for item in plan.items:
                path = run.path / item.path
                if os.path.lexists(path):
                    aside.append((temporaries.put_aside(path), item.size))
        for hidden, _ in aside:
            temporaries.delete(hidden)
    return sum(size for _, size in aside)


def _samples(run: Run) -> Iterator[str]:
    """Whole sets of samples, and unfinished ones."""
    for entry in _entries(run.samples_dir):
        path = f"{SAMPLES}/{entry.name}"
        is_temporary = entry.name.endswith(".tmp")  # of a dead process, which `tidy` removes, or of a living one
        if entry.is_dir(follow_symlinks=False) and is_part(path, folder=True) and not is_temporary:
            yield path


def _unfinished(run: Run) -> Iterator[str]:
    """The units of analyses that were interrupted; records stay."""
    for entry in _entries(run.path / ANALYSES):
        if _UNITS.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            yield f"{ANALYSES}/{entry.name}"


def _features(run: Run) -> Iterator[str]:
    for entry in _entries(run.evaluations_dir):
        if _FEATURES.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
            yield f"{EVALUATIONS}/{entry.name}"


def _checkpoints(run: Run, choice: Choice, plan: Plan) -> Iterator[str]:
    steps = run.checkpoint_steps()
    old = steps[: -max(1, choice.keep_last)]
    named = set(run.spec().training.keep_steps) & set(old) if choice.keep_named and old else set()
    if named:
        plan.kept.append(f"the checkpoints that training.keep_steps names: {', '.join(map(str, sorted(named)))}")
    old = [step for step in old if step not in named]
    problem = _damage(run, steps[-1]) if old else None
    if problem is not None:
        plan.kept.append(f"its earlier checkpoints, which a resume needs: {problem}")
        return
    for step in old:
        yield run.checkpoint_path(step).relative_to(run.path).as_posix()


def _damage(run: Run, step: int) -> str | None:
    """What is wrong with a checkpoint; None if each of its files has its checksum, and it is this run's."""
    try:
        verify(run.checkpoint_path(step), run)
    except CheckpointError as error:
        return str(error)
    return None


def _add(plan: Plan, part: str, path: str) -> None:
    """Add a file or a folder to a plan; a folder in which something is not the run's stays, and that is named."""
    found = plan.run.path / path
    if not found.is_dir():
        plan.items.append(Item(part, path, found.lstat().st_size))
        return
    foreign = foreign_in(plan.run, path)
    plan.foreign += foreign
    if not foreign:
        plan.items.append(Item(part, path, folder_size(found)))


def _entries(folder: Path) -> "Sequence[os.DirEntry[str]]":
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []
