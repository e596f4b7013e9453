"""Where debiasctl keeps its files: `DEBIASCTL_HOME`, else the platform's user folders."""

import os
from pathlib import Path

from debiasctl.errors import UsageError
from debiasctl.reading.user_text import is_text, user_path
from debiasctl.wording import quoted


def home() -> Path:
    """The user's data folder; it need not exist.

    Raises:
        UsageError: if `DEBIASCTL_HOME` cannot name a folder.
    """
    return _home_variable() or _platform_data()


def runs_dir() -> Path:
    """The run store."""
    return home() / "runs"


def sweeps_dir() -> Path:
    """Where sweeps are kept, beside the runs that they made."""
    return home() / "sweeps"


def evaluations_dir() -> Path:
    """Where the evaluations of images that belong to no run are kept."""
    return home() / "evaluations"


def cache_dir() -> Path:
    """Downloads, feature extractors and reference statistics: everything that can be made again."""
    root = _home_variable()
    return root / "cache" if root else _platform_cache()


def data_dir() -> Path | None:
    """The folder that `DEBIASCTL_DATA` names, in which data sets are looked for first.

    Raises:
        UsageError: if the variable does not name a folder.
    """
    path = _variable("DEBIASCTL_DATA")
    if path is not None and not path.is_dir():
        raise UsageError(f"DEBIASCTL_DATA names {quoted(path)}, which is not a folder. Correct or unset it")
    return path


def _home_variable() -> Path | None:
    path = _variable("DEBIASCTL_HOME")
    if path is not None and not is_text(path):
        raise UsageError(
            f"DEBIASCTL_HOME names {quoted(path)}, which is not UTF-8, and weights cannot be read from there. Choose "
            "another folder, or a link to this one with another name"
        )
    return path


def _variable(name: str) -> Path | None:
    value = os.environ.get(name)
    return user_path(value, argument=f"the environment variable {name}").absolute() if value else None


def _platform_data() -> Path:
    import platformdirs

    return platformdirs.user_data_path("debiasctl", appauthor=False)


def _platform_cache() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("debiasctl", appauthor=False)
