"""Plots of the weights of several schemes, as PNG or SVG."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.errors import UsageError
from debiasctl.files import check_file
from debiasctl.reporting.style import COLOURS, FORMATS, finish_panel, save_figure

if TYPE_CHECKING:
    from torch import Tensor

    from debiasctl.analysis.weight_curves import WeightCurves
    from debiasctl.api import Prediction

MAX_CURVES = 10
_DASHES: tuple[Any, ...] = ((), (6, 2), (2, 1.5), (7, 2, 2, 2), (4, 1))
_LETTERS = 55  # letters of a legend that fit the width of one panel
_DECADES = 8  # the most powers of ten that a panel shows


def plot_weights(
    path: Path, curves: "WeightCurves", *, schedule: str, prediction: "Prediction", normalize: str, timesteps: str
) -> None:
    """Plot density times weight in every unit, against t and against log-SNR, from the clean image to pure noise.

    Raises:
        UsageError: if there are more curves than can be distinguished, or the ending is neither .png nor .svg.
    """
    check_file(path, argument="out", endings=FORMATS)
    if len(curves.weights) > MAX_CURVES:
        raise UsageError(
            f"{len(curves.weights)} weightings cannot be told apart in one plot. Give at most {MAX_CURVES}"
        )
    import torch
    from matplotlib.figure import Figure

    units = curves.units
    figure = Figure(figsize=(4.6 * len(units), 8), dpi=130, layout="constrained")
    panels = figure.subplots(2, len(units), squeeze=False)
    last = len(curves.snr) - 1
    shown = curves.snr > 0  # at zero terminal SNR the last weight on eps is infinite, and its log-SNR too
    for (above, below), unit in zip(panels.T, units, strict=True):
        finite = shown if unit == "eps" else torch.ones_like(shown)
        _draw(above, curves, unit=unit, x=finite.nonzero().flatten(), shown=finite)
        _draw(below, curves, unit=unit, x=curves.snr[shown].log(), shown=shown)
        missing = "" if bool(finite.all()) else f"\n(no finite weight on eps at t = {last}, where SNR = 0)"
        above.set_xlabel(f"timestep t    (0: clean image → {last}: noise){missing}")
        below.set_xlabel("log SNR    (clean image → noise)")
    for panel in panels[1]:
        panel.invert_xaxis()
    for panel, unit in zip(panels[0], units, strict=True):
        own = unit == prediction
        what = "network's output F (edm)" if unit == "edm" else f"error of {unit}"
        panel.set_title(f"weight on the {what}" + ("\n(what the network predicts)" if own and unit != "edm" else ""),
                        fontweight="bold" if own else "normal")  # fmt: skip
    output = "the network's output F" if prediction == "edm" else f"{prediction}, which the network predicts"
    scaled = f"scaled to mean 1 on {output}" if normalize == "mean" else "as published"
    # where t is drawn otherwise and corrected for, the density of the objective is the base's
    uniform = bool(torch.isclose(curves.density, torch.ones_like(curves.density)).all())
    drawn = "" if uniform else f", times the density of t ({timesteps})"
    title = f"Loss weights on the {schedule} schedule (T = {last + 1}), {scaled}{drawn}"
    figure.suptitle("\n".join(textwrap.wrap(title, 40 * len(units))), fontsize=13)
    handles, labels = panels[0][0].get_legend_handles_labels()
    columns = max(1, min(5, len(labels), int(_LETTERS * len(units) / (8 + max(map(len, labels))))))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    save_figure(path, figure)


def _draw(panel: Any, curves: "WeightCurves", *, unit: "Prediction", x: "Tensor", shown: "Tensor") -> None:
    """Draw one curve per weighting, dashed so that a coinciding curve below stays visible."""
    highest, lowest = 0.0, float("inf")
    for number, (name, weights) in enumerate(curves.weights.items()):
        y = (curves.density * weights[unit])[shown]
        positive = y[y > 0]
        if len(positive):
            highest, lowest = max(highest, float(positive.max())), min(lowest, float(positive.min()))
        panel.plot(
            x.numpy(), y.where(y > 0, float("nan")).numpy(),
            label=name, color=COLOURS[number], dashes=_DASHES[number % len(_DASHES)], linewidth=2.2 - 0.1 * number,
        )  # fmt: skip
    panel.set_yscale("log")
    if highest > 0:
        panel.set_ylim(max(lowest, highest * 10.0**-_DECADES) / 1.6, highest * 1.6)
    finish_panel(panel)
