"""Packages that an extra of this one installs."""

from importlib import import_module
from types import ModuleType

from debiasctl.api import UsageError


def extra(module: str, *, name: str, what: str) -> ModuleType:
    """A module that the extra `name` installs for `what`.

    Raises:
        UsageError: if it is not installed, or cannot be imported.
    """
    command = f"pip install 'debiasctl[{name}]'"
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise UsageError(f"{what} needs {package}, which lacks {error.name} here. Install it: {command}") from error
        raise UsageError(f"{what} needs the package {package}. Install it: {command}") from error
    except ImportError as error:
        raise UsageError(f"{what} needs {package}, which cannot be imported here ({error}). Try: {command}") from error
