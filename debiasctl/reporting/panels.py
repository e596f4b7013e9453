"""Panels of a figure, and axes with short numbers, as all pictures have them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TICKS = 6  # of a logarithmic axis
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def panels_in(figure: "Figure", count: int, *, columns: int, **sharing: Any) -> list[Any]:
    """`count` panels, row by row in so many columns; `sharing` is matplotlib's sharex and sharey."""
    made = list(figure.subplots(-(-count // columns), columns, squeeze=False, **sharing).flat)
    for spare in made[count:]:
        spare.remove()
    return made[:count]


def number_axis(axis: Any, *, most: int = 5, symmetric: bool = False) -> None:
    """Give a linear axis at most that many steps, with short numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most, symmetric=symmetric))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_text(value)))


def log_axis(axes: Any, values: Sequence[float]) -> None:
    """Make the horizontal axis logarithmic, with ticks at some of the values, which are positive."""
    numbers = sorted(set(values))
    axes.set_xscale("log")
    kept: list[float] = []
    for number in numbers:
        if not kept or math.log(number / kept[-1]) >= math.log(numbers[-1] / numbers[0]) / _TICKS:
            kept.append(number)
    axes.set_xticks(kept, labels=[number_text(number) for number in kept])
    axes.set_xticks([], minor=True)


def number_text(value: float) -> str:
    """A tick's number: short, without a formula."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    size = abs(value)
    if size >= 1e4:
        for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size >= unit:
                return f"{value / unit:.3g}{letter}".replace("-", "−")
    if size < 1e-3:
        exponent = math.floor(math.log10(size) + 1e-9)
        digits = f"{value / 10.0**exponent:.3g}"
        power = f"10{str(exponent).translate(_SUPERSCRIPTS)}"
        return (power if digits == "1" else f"{digits}·{power}").replace("-", "−")
    return f"{value:.4g}".replace("-", "−")
