"""Curves drawn with characters, for the terminal."""

import math
import sys
from collections.abc import Sequence

from debiasctl.cli.output import terminal_width

_DECADES = 8
_MARGIN = 14  # columns beside the curve


def print_curve(x: Sequence[float], y: Sequence[float], *, x_label: str, y_label: str, x_log: bool = False) -> None:
    """Draw y > 0 on a logarithmic axis against x, on stdout, down to 8 powers of ten below the highest.

    Nothing is drawn where stdout cannot encode the characters: the table beside it says the same.
    """
    points = [(math.log10(a) if x_log else a, math.log10(b)) for a, b in zip(x, y, strict=True) if b > 0]
    if len(points) < 2 or not _can_print("⣿"):
        return
    import plotille

    high = max(b for _, b in points)
    points = [(a, b) for a, b in points if b >= high - _DECADES]
    low = min(b for _, b in points)
    margin = 0.05 * (high - low) or 0.5
    figure = plotille.Figure()
    width = min(64, (terminal_width() or 80) - _MARGIN)
    figure.width, figure.height, figure.with_colors, figure.origin = width, 12, False, False
    figure.set_x_limits(min_=min(a for a, _ in points), max_=max(a for a, _ in points))
    figure.set_y_limits(min_=low - margin, max_=high + margin)
    figure.x_label, figure.y_label = x_label, y_label
    figure.y_ticks_fkt = lambda value, _: f"{10**value:8.2g}"
    figure.x_ticks_fkt = lambda value, _: f"{10**value:.0e}" if x_log else f"{value:.0f}"
    figure.plot([a for a, _ in points], [b for _, b in points])
    print(figure.show())


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
