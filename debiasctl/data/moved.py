"""The images of a run whose folder or file has moved since it was trained."""

from pathlib import Path

from debiasctl.api import Dataset
from debiasctl.errors import DataError, UnknownPluginError, UsageError
from debiasctl.reading.user_text import user_path
from debiasctl.specs.sections import RunSpec


def bound_path(spec: RunSpec) -> Path | None:
    """The path that the spec's data set is bound to; None if it has a name, or its plugin is not installed."""
    try:
        dataset: Dataset = spec.data.dataset.create("datasets")
    except UnknownPluginError:  # which loading the images reports
        return None
    return dataset.bound_place()


def moved_to(spec: RunSpec, path: Path | None) -> RunSpec:
    """The spec with its images at `path`, if one is given; whether they are the same is checked when they are loaded.

    Raises:
        UsageError: if the data set is not bound to a path, or nothing is at `path`.
        UnknownPluginError: if its plugin is not installed.
    """
    if path is None:
        return spec
    dataset = spec.data.dataset
    made: Dataset = dataset.create("datasets")
    if made.bound_place() is None:
        raise UsageError(
            f"`data_path={path}`: data set '{dataset.name}' is found by its name. If its files have moved, name the "
            "folder that holds them: `data_dir=DIR`"
        )
    path = user_path(path, argument="`data_path`").absolute()
    if not path.exists():
        raise UsageError(f"`data_path={path}`: there is no such folder or file. Give the place where the images are")
    moved = dataset.model_copy(update={"options": {**dataset.options, **made.options_at(path)}})
    return spec.model_copy(update={"data": spec.data.model_copy(update={"dataset": moved})})


def check_there(spec: RunSpec) -> None:
    """Raise DataError if a run's images are not at the path that its spec states."""
    path = bound_path(spec)
    if spec.content is not None and path is not None and not path.exists():
        raise DataError(
            f"the images of this run are not at {path} any more. If they have moved, say where they are now: "
            "`data_path=PATH` (they are compared with the run's by their SHA-256)"
        )
