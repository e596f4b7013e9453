"""Numbers and names of a study as a reader meets them in tables, captions and sentences."""

import math
from collections.abc import Sequence

from debiasctl.comparison.study_record import StudyCell

AIM = {"lower": "lower is better", "higher": "higher is better", "zero": "0 is best"}


def figure_text(value: float | None, *, digits: int = 4, signed: bool = False) -> str:
    """A figure with a true minus sign, or nothing where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    text = f"{value:{'+' if signed else ''}.{digits}g}"
    if "e" in text:
        mantissa, _, exponent = text.partition("e")
        text = f"{mantissa}e{int(exponent)}"
    return text.replace("-", "−")


def setting_text(value: object) -> str:
    """A setting's value as text; a list of references, such as of extensions, as they are typed."""
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "none"
    return figure_text(value, digits=6) if isinstance(value, float) else str(value)


def interval_text(low: float | None, high: float | None, *, signed: bool = False) -> str:
    """An interval in words, which may have one end alone, or nothing where there is none."""
    first, last = figure_text(low, digits=3, signed=signed), figure_text(high, digits=3, signed=signed)
    if first and last:
        return f"{first} to {last}"
    return f"from {first}" if first else f"up to {last}" if last else ""


def fewer(num: int, of: int) -> str:
    """How many seeds a figure is of, in brackets, where they are fewer than `of`."""
    return "" if num >= of else f" ({num} of {of} seeds)"


def cell_name(cell: StudyCell) -> str:
    """A cell by its metric and number of sampling steps."""
    return cell.metric if cell.steps is None else f"{cell.metric}, {cell.steps} steps"


def listed(names: Sequence[str], *, most: int = 6) -> str:
    """Names in one line, the last after "and"."""
    shown = [f"'{name}'" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else "none"
