"""Plots of the weights of several schemes, as PNG, SVG or PDF."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.errors import UsageError
from debiasctl.files import check_file
from debiasctl.reporting.style import FORMATS, WIDTHS, Width, finish_panel, plot_style, save_figure, styles

if TYPE_CHECKING:
    from torch import Tensor

    from debiasctl.analysis.weight_curves import WeightCurves
    from debiasctl.api import Prediction

MAX_CURVES = 10
_INCH = 14.5  # letters of a line, an inch
_DECADES = 8  # the most powers of ten that a panel shows


def plot_weights(
    path: Path,
    curves: "WeightCurves",
    *,
    schedule: str,
    prediction: "Prediction",
    normalize: str,
    timesteps: str,
    width: Width = "page",
) -> None:
    """Plot density times weight against t and against log-SNR, from the clean image to pure noise.

    A figure of a page's width shows it in every unit, one of a column's in the unit that the network predicts. A weight
    of 0, or far below the others, is drawn at the lower edge of its panel, and the figure says so.

    Raises:
        UsageError: if there are more curves than can be distinguished, or the ending is none of FORMATS.
    """
    check_file(path, argument="out", endings=FORMATS)
    if len(curves.weights) > MAX_CURVES:
        raise UsageError(
            f"{len(curves.weights)} weightings cannot be told apart in one plot. Give at most {MAX_CURVES}"
        )
    import torch
    from matplotlib.figure import Figure

    units = [unit for unit in curves.units if width == "page" or unit == prediction]
    with plot_style():
        figure = Figure(figsize=(WIDTHS[width], 4.6), layout="constrained")
        panels = figure.subplots(2, len(units), squeeze=False)
        last = len(curves.snr) - 1
        shown = curves.snr > 0  # at zero terminal SNR the last weight on eps is infinite, and its log-SNR too
        below_panels = False
        space = "\n" if len(units) > 4 else " "
        for (above, below), unit in zip(panels.T, units, strict=True):
            finite = shown if unit == "eps" else torch.ones_like(shown)
            below_panels |= _draw(above, curves, unit=unit, x=finite.nonzero().flatten(), shown=finite)
            below_panels |= _draw(below, curves, unit=unit, x=curves.snr[shown].log(), shown=shown)
            missing = "" if bool(finite.all()) else f"\n(no finite weight on eps\nat t = {last}, where SNR = 0)"
            above.set_xlabel(f"timestep t{missing}")
            below.set_xlabel("log SNR")
            below.invert_xaxis()
            what = "F (edm)" if unit == "edm" else unit
            above.set_title(f"weight{space}on {what}", fontweight="bold" if unit == prediction else "normal")
        lines = _words(curves, schedule=schedule, prediction=prediction, normalize=normalize, timesteps=timesteps)
        if below_panels:
            lines += "; a weight below a panel is drawn at its lower edge"
        figure.suptitle("\n".join(textwrap.wrap(lines, int(_INCH * WIDTHS[width]))))
        handles, labels = panels[0][0].get_legend_handles_labels()
        columns = max(1, min(5, len(labels), int(_INCH * WIDTHS[width] / (9 + max(map(len, labels))))))
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
        save_figure(path, figure)


def _words(curves: "WeightCurves", *, schedule: str, prediction: "Prediction", normalize: str, timesteps: str) -> str:
    """What the figure shows, in one sentence."""
    import torch

    output = "the network's output F" if prediction == "edm" else f"{prediction}, which the network predicts"
    scaled = f"scaled to mean 1 on {output}" if normalize == "mean" else "as published"
    # where t is drawn otherwise and corrected for, the density of the objective is the base's
    uniform = bool(torch.isclose(curves.density, torch.ones_like(curves.density)).all())
    drawn = "" if uniform else f", times the density of t ({timesteps})"
    return f"Loss weights on the {schedule} schedule (T = {len(curves.snr)}), {scaled}{drawn}; clean image → noise"


def _draw(panel: Any, curves: "WeightCurves", *, unit: "Prediction", x: "Tensor", shown: "Tensor") -> bool:
    """Draw a curve for each weighting; returns whether one had to be drawn at the panel's lower edge."""
    heights = {name: (curves.density * weights[unit])[shown] for name, weights in curves.weights.items()}
    positive = [y[y > 0] for y in heights.values() if bool((y > 0).any())]
    highest = max((float(y.max()) for y in positive), default=1.0)
    floor = max(min((float(y.min()) for y in positive), default=1.0), highest * 10.0**-_DECADES) / 1.6
    for number, ((name, y), (colour, dashes)) in enumerate(zip(heights.items(), styles(list(heights)), strict=True)):
        panel.plot(
            x.numpy(), y.clamp(min=floor).numpy(),
            label=name, color=colour, linestyle=dashes, linewidth=1.8 - 0.08 * number, clip_on=bool((y >= floor).any()),
        )  # fmt: skip
    panel.set_yscale("log")
    panel.set_ylim(floor, highest * 1.6)
    finish_panel(panel)
    return any(bool((y < floor).any()) for y in heights.values())
