"""The picture of an identification: the measured weights on the known ones, and by how much they differ."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from debiasctl.analysis.identify.candidates import Floats
from debiasctl.files import check_file
from debiasctl.reporting.style import FORMATS, WIDTHS, finish_panel, plot_style, save_figure, styles

_SIZE = (WIDTHS["page"], 4.4)  # inches
_LINE = 105  # letters of the title
_DECADES = 8  # the most powers of ten that the upper panel shows
_LEAST, _FARTHEST = 1.05, 1e4  # the ratio that the lower panel shows at least, and at most
_WIDE = 2.0  # the ratio from which it is logarithmic
_NO_SIGNAL = 1e-19  # the SNR that stands for 0


def draw(path: Path, snr: Floats, weight: Floats, known: Sequence[tuple[str, str, Floats]], *, title: str) -> None:
    """Draw weights [n] at SNRs [n] against log SNR, with `known` weights and the ratios to these below.

    `known` are a weighting's reference, its label, and its weights [n], NaN where it has none.

    Raises:
        UsageError: if the ending is none of FORMATS.
    """
    check_file(path, argument="plot", endings=FORMATS)
    from matplotlib.figure import Figure

    order = np.argsort(snr)
    order = order[snr[order] > _NO_SIGNAL]
    x, measured = np.log(snr[order]), weight[order]
    highest = float(measured.max(initial=0)) or 1.0
    positive = measured[measured > 0]
    floor = max(float(positive.min(initial=highest)), highest * 10.0**-_DECADES) / 1.6
    with plot_style():
        figure = Figure(figsize=_SIZE, layout="constrained")
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        above.plot(x, np.maximum(measured, floor), ".", color="#777777", markersize=4, label="measured", clip_on=False)
        ratios = []
        for (_, label, formula), (colour, dashes) in zip(known, styles([one[0] for one in known]), strict=True):
            look: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 1.3}
            above.plot(x, formula[order], label=label, **look)
            with np.errstate(all="ignore"):
                ratios.append((measured / formula[order], look))
        _draw_ratios(below, x, ratios)
        _scale(above, floor, highest * 1.6)
        above.set_ylabel("weight")
        left_out = "" if len(order) == len(snr) else "; what is at SNR 0 is left out"
        below.set_xlabel(f"log SNR (clean image → noise{left_out})")
        below.invert_xaxis()
        for panel in (above, below):
            finish_panel(panel)
        figure.suptitle("\n".join(textwrap.wrap(title, _LINE)))
        figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=1, frameon=False)
        save_figure(path, figure)


def _draw_ratios(panel: Any, x: Floats, ratios: Sequence[tuple[Floats, dict[str, Any]]]) -> None:
    """Draw ratios around 1; what lies beyond the panel, 0 for one, is drawn at its edge."""
    largest = _LEAST
    for ratio, _ in ratios:
        logs = np.abs(np.log(ratio[np.isfinite(ratio) & (ratio > 0)]))
        largest = max(largest, min(math.exp(min(1.05 * logs.max(initial=0.0), 10.0)), _FARTHEST))
        largest = max(largest, _WIDE if (ratio == 0).any() else 0.0)
    for ratio, look in ratios:
        panel.plot(x, np.clip(ratio, 1 / largest, largest), **look)
    panel.axhline(1, color="#777777", linewidth=0.6)
    panel.set_ylabel("measured / known")
    if largest >= _WIDE:
        _scale(panel, 1 / largest, largest)
    else:
        panel.set_ylim(1 / largest, largest)


def _scale(panel: Any, low: float, high: float) -> None:
    """A logarithmic axis, whose numbers are written out where they span few powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_yscale("log")
    panel.set_ylim(low, high)
    if high / low < 300:
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
