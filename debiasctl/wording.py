"""Words and numbers in messages."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the nearest known name, or nothing."""
    if len(name) > 100:  # comparing long texts takes long, and nobody mistypes so long a name
        return ""
    matches = get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{matches[0]}'?" if matches else ""


def format_bytes(count: float) -> str:
    """A number of bytes in MB or GB (powers of ten)."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def quoted(text: object, *, mark: str = "'", limit: int = 120) -> str:
    """What was given, in quotes, at most `limit` characters of it; what a terminal would obey is escaped."""
    whole = str(text)
    shown = "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in whole[: limit + 1]
    )
    return f"{mark}{shown[: limit - 1]}…{mark}" if len(shown) > limit else f"{mark}{shown}{mark}"


def one_line(error: object, *, limit: int = 300) -> str:
    """An error's text in one line, at most `limit` characters of it."""
    return quoted(" ".join(str(error)[: 4 * limit].split()), mark="", limit=limit)
