"""The style of every plot, and writing it reproducibly as PNG or SVG."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")  # file endings
GRID = {"color": "#dddddd", "linewidth": 0.6}
# Okabe and Ito's, which colour-blind readers can tell apart, and three more
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#8C564B",
    "#999933",
    "#882255",
)


def finish_panel(panel: Any) -> None:
    """Give a matplotlib panel a light grid and no frame above and to the right."""
    panel.grid(True, **GRID)
    panel.spines[["top", "right"]].set_visible(False)


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure in the format of the path's ending, with text kept as text and without timestamps."""
    from matplotlib import rc_context

    kind = path.suffix.lower()[1:]
    with atomic_file(path) as stream, rc_context({"svg.fonttype": "none", "svg.hashsalt": "debiasctl"}):
        figure.savefig(stream, format=kind, metadata={"Date": None} if kind == "svg" else {})
