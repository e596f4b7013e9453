"""Names of runs and arms as they can be shown: whatever they hold, and however long they are."""

import unicodedata
from collections.abc import Sequence

_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}  # categories of marks that cannot be seen, or that turn lines around
_KEPT = "\n\t\u00ad\u200c\u200d"
_ELLIPSIS = "…"


def shown(text: str) -> str:
    """The text with marks that cannot be seen, or that change a line's direction, written as their codes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        mark.encode("unicode_escape").decode() if unicodedata.category(mark) in _HIDDEN and mark not in _KEPT else mark
        for mark in text
    )


def short_names(names: Sequence[str], *, longest: int) -> list[str]:
    """Each name on one line of at most about `longest` letters; names that would become equal get a number."""
    found: list[str] = []
    for name in names:
        plain = " ".join(shown(name).split()) or "?"
        if len(plain) > longest:
            tail = longest // 3
            plain = f"{plain[: longest - tail - 1]}{_ELLIPSIS}{plain[-tail:]}"
        candidate, number = plain, 2
        while candidate in found:
            candidate, number = f"{plain} ({number})", number + 1
        found.append(candidate)
    return found
