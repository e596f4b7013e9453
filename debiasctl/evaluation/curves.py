"""Figures against the network's forwards a sample and against the images seen in training, as a plot."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from debiasctl.errors import UsageError
from debiasctl.files import atomic_file
from debiasctl.plots import FORMATS

_COLUMNS = 3


def check_plot(path: Path, *, num_points: int) -> None:
    """Refuse a plot that cannot be drawn, before any work.

    Raises:
        UsageError: the ending is neither .png nor .svg, or a single point would be drawn.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: the ending says what is drawn; choose one of {', '.join(FORMATS)}")
    if num_points < 2:
        raise UsageError("--plot draws curves: give several --steps, for example 5,10,20, or several --checkpoints")


def plot_curves(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """One panel a metric, with its floor where it has one.

    Along the axis are the images seen in training where there are several checkpoints, with one curve for each number
    of steps; else the network's forwards a sample.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    training = len({record["checkpoint"] for record in records}) > 1
    field, label = (
        ("images_seen", "images seen in training") if training else ("nfe", "network forwards a sample (NFE)")
    )
    names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(4.6 * min(_COLUMNS, len(names)), 3.4 * rows), dpi=130, layout="constrained")
    panels = figure.subplots(rows, min(_COLUMNS, len(names)), squeeze=False).flat
    for panel, name in zip(panels, names, strict=False):
        chosen = sorted((one for one in records if name in one["metrics"]), key=lambda record: record[field])
        for steps in dict.fromkeys(one["measured"]["steps"] if training else None for one in chosen):
            curve = [one for one in chosen if steps in (None, one["measured"]["steps"])]
            _draw(panel, curve, name, field=field, label=None if steps is None else f"{steps} steps")
        floors = [one["metrics"][name]["floor"] for one in chosen if one["metrics"][name]["floor"] is not None]
        if floors:
            panel.axhline(floors[0], color="#888888", linestyle=":", label="real images (floor)")
        panel.set(title=name, xlabel=label, ylabel=f"better: {chosen[0]['metrics'][name]['better']}")
        panel.grid(True, color="#dddddd", linewidth=0.6)
        panel.spines[["top", "right"]].set_visible(False)
        if panel.get_legend_handles_labels()[1]:
            panel.legend(frameon=False)
    for panel in list(panels)[len(names) :]:
        panel.set_visible(False)
    measured = records[0]["measured"]
    sampler = measured["sampler"].partition(":")[0]
    figure.suptitle(f"run '{records[0]['run']}': {measured['num']} images by {sampler}")
    kind = path.suffix.lower()[1:]
    # names of parts, and no date, that one plot is one file
    with atomic_file(path) as stream, rc_context({"svg.fonttype": "none", "svg.hashsalt": "debiasctl"}):
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {})


def _draw(panel: Any, records: Sequence[dict[str, Any]], name: str, *, field: str, label: str | None) -> None:
    x = [record[field] for record in records]
    panel.plot(x, [record["metrics"][name]["value"] for record in records], marker="o", markersize=4, label=label)
