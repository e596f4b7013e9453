"""Figures against the network's forwards a sample and against the images seen in training, as a plot."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics import ZERO
from debiasctl.files import atomic_file, check_file
from debiasctl.plots import FORMATS

_COLUMNS = 3
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LETTERS = 52  # of a description that go on the breadth of one panel
_WIDE = 10  # numbers of forwards of which the largest is so many times the smallest go on a logarithmic axis
_APART = 1.25  # times the one before that a number must be for a tick of its own on a logarithmic axis
_SPREAD = 0.012  # of the axis, between intervals at one place
_FLOOR, _ZERO_LINE = "#666666", "#BBBBBB"

Record = Mapping[str, Any]


def check_plot(path: Path, *, num_points: int) -> None:
    """Refuse a plot that cannot be drawn, before any work.

    Raises:
        UsageError: the ending is neither .png nor .svg, or a single point would be drawn.
        DebiasctlError: it cannot be written there.
    """
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot {path}: the ending says what is drawn; choose one of {', '.join(FORMATS)}")
    check_file(path, option="--plot")
    if num_points < 2:
        raise UsageError("--plot draws curves: give several --steps, for example 5,10,20, or several --checkpoints")


def plot_curves(path: Path, records: Sequence[Record]) -> None:
    """One panel a metric, with its floor, and with the intervals of the corrected figures, where it has them.

    Along the axis are the images seen in training where there are several checkpoints, with one curve for each number
    of steps; else the network's forwards a sample. A curve beside a floor of fewer images is of as many images as that.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    training = len({record["checkpoint"] for record in records}) > 1
    field = "images_seen" if training else "nfe"
    names = list(dict.fromkeys(name for record in records for name in record["metrics"]))
    columns = min(_COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.6 * rows + 0.6), dpi=130, layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, name in zip(panels, names, strict=False):
        chosen = sorted((one for one in records if name in one["metrics"]), key=lambda record: record[field])
        _scale(panel, [one[field] for one in chosen], logarithmic=not training)
        _draw_panel(panel, chosen, name, field=field)
        label = "images seen in training" if training else "network forwards a sample (NFE)"
        panel.set_xlabel(label)
    for panel in panels[len(names) :]:
        panel.remove()
    measured = records[0]["measured"]
    sampler = measured["sampler"].partition(":")[0]
    title = f"run '{records[0]['run']}': {measured['num']} images by {sampler}"
    figure.suptitle("\n".join(textwrap.wrap(title, _LETTERS * columns)))
    handles = {text: line for panel in panels[: len(names)] for line, text in zip(*_legend(panel), strict=True)}
    if handles:
        figure.legend(
            list(handles.values()), list(handles), loc="outside lower center", ncols=2 * columns, frameon=False
        )
    kind = path.suffix.lower()[1:]
    # names of parts, and no date, that one plot is one file
    with atomic_file(path) as stream, rc_context({"svg.fonttype": "none", "svg.hashsalt": "debiasctl"}):
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {})


def _legend(panel: Any) -> tuple[list[Any], list[str]]:
    handles, labels = panel.get_legend_handles_labels()
    return handles, labels


def _draw_panel(panel: Any, records: Sequence[Record], name: str, *, field: str) -> None:
    """The curves of one metric, its floor, and the line at 0 where nearer to 0 is better."""
    figures = [one["metrics"][name] for one in records]
    if figures[0]["better"] == ZERO:
        panel.axhline(0, color=_ZERO_LINE, linewidth=1, zorder=1)
    kinds = sorted({one["measured"]["steps"] for one in records}) if field == "images_seen" else [None]
    for number, steps in enumerate(kinds):
        curve = [one for one in records if steps in (None, one["measured"]["steps"])]
        shift = _SPREAD * (number - (len(kinds) - 1) / 2 + (0.5 if len(kinds) % 2 else 0))
        _draw(
            panel, curve, name, field=field, label=None if steps is None else f"{steps} steps",
            colour=_COLOURS[number % len(_COLOURS)], shift=shift,
        )  # fmt: skip
    floors = [figure["floor"] for figure in figures if figure["floor"] is not None]
    if floors:
        panel.axhline(floors[0], color=_FLOOR, linestyle=":", linewidth=1.4, label="real images (floor)")
    panel.set_title(name, fontweight="bold", loc="left", fontsize=11, pad=8 + 9 * _lines(figures[0]))
    panel.text(
        0, 1.02, _described(figures[0]), transform=panel.transAxes, fontsize=7.5, color="#444444", va="bottom"
    )
    same, num = _at_floor(figures[0]), figures[0]["num"]
    panel.set_ylabel(f"N {figures[0]['floor_num'] if same else num}    better: {figures[0]['better']}")
    panel.grid(True, color="#e6e6e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _draw(
    panel: Any, records: Sequence[Record], name: str, *, field: str, label: str | None, colour: str, shift: float
) -> None:
    """One curve; beside each point, by `shift` of the axis' length, the interval of what it is corrected to."""
    from matplotlib.transforms import ScaledTranslation

    figures = [record["metrics"][name] for record in records]
    x = [record[field] for record in records]
    values = [figure["value_at_floor_num" if _at_floor(figure) else "value"] for figure in figures]
    panel.plot(x, values, color=colour, marker="o", markersize=4, linewidth=1.4, label=label)
    known = [(at, figure) for at, figure in zip(x, figures, strict=True) if figure["interval"] is not None]
    if not known:
        return
    width = panel.get_window_extent().width / panel.figure.dpi  # inches
    aside = panel.transData + ScaledTranslation(shift * width, 0, panel.figure.dpi_scale_trans)
    low, middle, high = (
        [figure["interval"]["low"] for _, figure in known],
        [figure["corrected"] for _, figure in known],
        [figure["interval"]["high"] for _, figure in known],
    )
    drawn = panel.errorbar(
        [at for at, _ in known], middle, fmt="_", color=colour, markersize=6,
        yerr=[[max(0, m - b) for m, b in zip(middle, low, strict=True)],
              [max(0, b - m) for m, b in zip(middle, high, strict=True)]],
        linewidth=0.9, capsize=0, label="corrected, 95 %", transform=aside, alpha=0.9,
    )  # fmt: skip
    del drawn


def _at_floor(figure: Mapping[str, Any]) -> bool:
    """Whether the figure has a floor, and that is of another number of images."""
    return bool(figure["floor"] is not None and figure["floor_num"] != figure["num"])


def _described(figure: Mapping[str, Any]) -> str:
    return "\n".join(textwrap.wrap(figure["description"], _LETTERS + 10))


def _lines(figure: Mapping[str, Any]) -> int:
    return _described(figure).count("\n") + 1


def _scale(panel: Any, x: Sequence[int], *, logarithmic: bool) -> None:
    """Ticks at the numbers that were measured, as far as they are not too near to one another."""
    numbers = sorted(set(x))
    if not logarithmic:
        return
    apart = _WIDE if max(numbers) > _WIDE * min(numbers) else None
    if apart is not None:
        panel.set_xscale("log")
    shown: list[int] = []
    for number in numbers:
        room = not shown or (number >= _APART * shown[-1] if apart else number - shown[-1] >= numbers[-1] / 12)
        if room:
            shown.append(number)
    panel.set_xticks(shown, labels=[str(number) for number in shown])
    panel.set_xticks([], minor=True)
