"""The images of a run whose folder or file has moved since it was trained."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from debiasctl.errors import DataError, UsageError
from debiasctl.reading.user_text import user_path
from debiasctl.specs.sections import RunSpec

_PATH, _SHARDS = "path", ("urls", "heldout_urls")  # options of the data sets that lie where their user has put them
_PATTERN = re.compile(r"[*?\[{]")


def bound_path(spec: RunSpec) -> Path | None:
    """The path that the spec's data set is bound to, for shards their common folder; None if it has a name."""
    options = spec.data.dataset.options
    path = options.get(_PATH)
    if isinstance(path, str):
        return Path(path) if Path(path).is_absolute() else None  # a name on a hub is no path
    folders = [_folder(part) for part in _shards(options)]
    return Path(os.path.commonpath(folders)) if folders and all(map(os.path.isabs, folders)) else None


def moved_to(spec: RunSpec, path: Path | None) -> RunSpec:
    """The spec with its images at `path`, if one is given; whether they are the same is checked when they are loaded.

    Raises:
        UsageError: if the data set is not bound to a path, or nothing is at `path`.
    """
    if path is None:
        return spec
    dataset, bound = spec.data.dataset, bound_path(spec)
    if bound is None:
        raise UsageError(
            f"`data_path={path}`: data set '{dataset.name}' is found by its name. If its files have moved, name the "
            "folder that holds them: `data_dir=DIR`"
        )
    path = user_path(path, argument="`data_path`").absolute()
    if not path.exists():
        raise UsageError(f"`data_path={path}`: there is no such folder or file. Give the place where the images are")
    changed = {_PATH: str(path)}
    if _PATH not in dataset.options:
        shards = {name: dataset.options.get(name) for name in _SHARDS}
        changed = {
            name: "::".join(str(path / os.path.relpath(part, bound)) for part in urls.split("::"))
            for name, urls in shards.items()
            if isinstance(urls, str)
        }
    moved = dataset.model_copy(update={"options": {**dataset.options, **changed}})
    return spec.model_copy(update={"data": spec.data.model_copy(update={"dataset": moved})})


def _shards(options: Mapping[str, Any]) -> list[str]:
    return [part for name in _SHARDS if isinstance(urls := options.get(name), str) for part in urls.split("::")]


def _folder(url: str) -> str:
    """The folder of shards, as far as their path has no braces or wildcards."""
    parent = os.path.dirname(url)
    found = _PATTERN.search(parent)
    return parent if found is None else os.path.dirname(parent[: found.start()])


def check_there(spec: RunSpec) -> None:
    """Raise DataError if a run's images are not at the path that its spec states."""
    path = bound_path(spec)
    if spec.content is not None and path is not None and not path.exists():
        raise DataError(
            f"the images of this run are not at {path} any more. If they have moved, say where they are now: "
            "`data_path=PATH` (they are compared with the run's by their SHA-256)"
        )
