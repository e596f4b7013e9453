"""Temporary files and folders of atomic writes: each is locked by its writer, so that those of dead ones are known."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from debiasctl import claims

_NAME = re.compile(r"\.(.+)\.[0-9]+\.[0-9a-f]{8}\.tmp", re.DOTALL)
Made = TypeVar("Made")


def name_beside(path: Path) -> Path:
    """A new name in the folder of `path` for something temporary."""
    return path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}.tmp")


@contextmanager
def claimed(path: Path, make: Callable[[Path], Made]) -> Iterator[tuple[Path, Made]]:
    """Something temporary beside `path` that `make` makes, locked for the length of the block; its name comes with it.

    What dead writers of the same path left is removed first.
    """
    remove_stale(path.parent, target=path.name)
    temporary, made, descriptor = _claim(path, make)
    try:
        yield temporary, made
    finally:
        claims.release(descriptor)


@contextmanager
def in_use(temporary: Path) -> Iterator[None]:
    """Keep a temporary that this process did not make by `claimed` from being taken for stale."""
    try:
        descriptor = claims.hold(temporary)
    except BlockingIOError:  # a look at it, or a removal, which may go ahead
        descriptor = None
    try:
        yield
    finally:
        claims.release(descriptor)


def discard(folder: Path) -> None:
    """Remove a folder, which disappears as a whole and at once, even if the deletion of its files is interrupted.

    Raises:
        OSError: if it cannot be removed.
    """
    delete(put_aside(folder))


def put_aside(path: Path) -> Path:
    """Give what lies at `path` a temporary's name, at once; `delete` then removes it, or whoever finds it stale."""
    hidden = name_beside(path)
    os.replace(path, hidden)
    return hidden


def delete(hidden: Path) -> None:
    """Remove what was put aside, a file or a folder.

    Raises:
        OSError: if it cannot be removed.
    """
    with in_use(hidden):
        try:
            _remove(hidden)
        except FileNotFoundError:  # another process took it for stale, and removes it
            shutil.rmtree(hidden, ignore_errors=True)


def _claim(path: Path, make: Callable[[Path], Made]) -> tuple[Path, Made, int | None]:
    while True:
        temporary = name_beside(path)
        made = make(temporary)
        try:
            descriptor = claims.hold(temporary)
        except (BlockingIOError, FileNotFoundError):
            continue  # another process took it for stale in the moment before it was locked
        if os.path.lexists(temporary):
            return temporary, made, descriptor
        claims.release(descriptor)


def stale(folder: Path, *, target: str | None = None) -> list[Path]:
    """The temporaries in `folder` whose writers are dead, sorted; with `target`, only those of that name's writers."""
    return [path for path in _temporaries(folder, target) if _is_stale(path)]


def remove_stale(folder: Path, *, target: str | None = None) -> None:
    """Remove what `stale` lists; what cannot be removed stays."""
    for path in _temporaries(folder, target):
        try:
            with claims.held(path) as descriptor:
                if descriptor is not None:
                    _remove(path)
        except OSError:
            continue


def _temporaries(folder: Path, target: str | None) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            named = [(entry, _NAME.fullmatch(entry.name)) for entry in entries if entry.name.endswith(".tmp")]
            return sorted(
                Path(entry.path)
                for entry, match in named
                if match and target in (None, match[1]) and (entry.is_dir(follow_symlinks=False) or _is_file(entry))
            )
    except OSError:
        return []


def _is_file(entry: "os.DirEntry[str]") -> bool:
    return entry.is_file(follow_symlinks=False)


def _is_stale(path: Path) -> bool:
    try:
        with claims.held(path) as descriptor:
            return descriptor is not None
    except OSError:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
