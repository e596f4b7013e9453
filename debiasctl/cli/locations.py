"""Where a command looks for data sets."""

from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.api import DataLocation


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
