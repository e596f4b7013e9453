"""Text that users give as a path or a number."""

import os
from pathlib import Path

from debiasctl.errors import UsageError
from debiasctl.wording import quoted


def expanded(text: str | os.PathLike[str]) -> Path:
    """The path that a text names, with a leading `~` expanded.

    Raises:
        ValueError: if the text is empty, which an unset variable of a shell would be; holds a NUL character; or names
            the home folder of an unknown user.
    """
    name = os.fspath(text)
    if not name.strip():
        raise ValueError("an empty path names nothing (is a variable of the shell unset?). Write . for this folder")
    if "\0" in name:
        raise ValueError(f"{quoted(name)} holds a NUL character, which no path may")
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        user = name.partition("/")[0]
        raise ValueError(
            f"{quoted(name)} cannot be expanded: there is no home folder for {quoted(user)}. Write ./~... for a name "
            "that begins with ~"
        ) from error


def is_text(path: str | os.PathLike[str]) -> bool:
    """Whether a path is valid text (UTF-8), as JSON and safetensors need it; a file system takes any bytes."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def user_path(text: str | os.PathLike[str], *, argument: str) -> Path:
    """The path that a user gave, with a leading `~` expanded; `argument` names what gave it, for messages.

    Raises:
        UsageError: if `expanded` refuses it.
    """
    try:
        return expanded(text)
    except ValueError as error:
        raise UsageError(f"{argument}: {error}") from error


def whole_number(text: str) -> int | None:
    """The number that a text is, written in digits alone; None if it is none, or has more than 18 digits."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
