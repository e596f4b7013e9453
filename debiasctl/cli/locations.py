"""Where a command looks for data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.api import DataLocation
    from debiasctl.specs.sections import RunSpec


def data_location(data_dir: Path | None) -> "DataLocation":
    """From `--data-dir`, else `DEBIASCTL_DATA`.

    Raises:
        UsageError: if it does not name a folder.
    """
    from debiasctl import paths
    from debiasctl.api import DataLocation

    if data_dir is not None and not data_dir.is_dir():
        raise UsageError(f"--data-dir {data_dir} is not a folder. Give the folder that holds the data sets' files")
    folder = data_dir.absolute() if data_dir else paths.data_dir()
    return DataLocation(data_dir=folder, cache_dir=paths.cache_dir())


def moved_spec(spec: "RunSpec", data: Path | None, *, data_dir: Path | None, reference: str | None = None) -> "RunSpec":
    """A run's spec with its images at `--data`, if that is given.

    Raises:
        UsageError: if `--data` or `--data-dir` has no effect on the run's data, or nothing is at `--data`.
    """
    from debiasctl.data.moved import bound_path, moved_to

    if data_dir is not None and reference is None and bound_path(spec) is not None:
        raise UsageError(
            f"--data-dir has no effect: this run's images are looked for at {bound_path(spec)}. If they have moved, "
            "say where they are now: --data PATH"
        )
    return moved_to(spec, data)
