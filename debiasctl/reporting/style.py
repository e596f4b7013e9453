"""The style of every plot: widths of a paper, sizes of letters, colours, and writing it reproducibly."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from debiasctl.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")  # file endings of plots
PICTURES = (".png", ".jpg", ".jpeg", ".svg", ".pdf")  # file endings of grids, strips and trajectories
Width = Literal["column", "page"]
WIDTHS: dict[str, float] = {"column": 3.25, "page": 6.75}  # inches, of a paper's column and page (ICML, NeurIPS)
GRID = {"color": "#dddddd", "linewidth": 0.5}
_DPI = 300  # of a PNG
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
# each weighting has the same colour in every picture; the paper's four come first
_OF_WEIGHTING = {
    name: COLOURS[number]
    for number, names in enumerate((
        ("constant",), ("debiased", "debiased-clamped", "onetrainer-v"), ("min-snr", "soft-min-snr"), ("p2",),
        ("constant-v", "constant-flow", "v-pred-like"), ("constant-x0", "inverse-snr"), ("edm",), ("truncated-snr",),
        ("sigmoid", "interpolate"), ("uncertainty", "cosmap", "sigma", "sigma-sqrt"),
    ))
    for name in names
}  # fmt: skip
_DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (7, 2, 2, 2)), (0, (4, 1)))
_LETTERS: dict[Any, Any] = {
    "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "figure.titlesize": 8.5, "axes.linewidth": 0.6, "xtick.major.width": 0.6,
    "ytick.major.width": 0.6, "pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "debiasctl",
    "legend.handlelength": 2.6,
}  # fmt: skip


def plot_style() -> AbstractContextManager[None]:
    """Letters of 7 to 8.5 points, which can be read when a figure stands in a paper at its own width."""
    from matplotlib import rc_context

    return rc_context(_LETTERS)


def styles(weightings: Sequence[str]) -> list[tuple[str, Any]]:
    """Give each weighting, by its reference, a colour and a line style; equal references get equal ones, others differ.

    The colour is the scheme's own in every picture, whatever its options (up to five variants, which differ in their
    line style); a scheme from elsewhere, and further variants, take colours that are free. Line styles change from one
    reference to the next, so that a curve that covers another leaves it seen.
    """
    distinct = list(dict.fromkeys(weightings))
    own = {text: _OF_WEIGHTING.get(text.partition(":")[0]) for text in distinct}
    free = [colour for colour in COLOURS if colour not in own.values()] or list(COLOURS)
    given: dict[str, tuple[str, Any]] = {}
    for number, text in enumerate(distinct):
        of_its_own = [one for one in given if own[one] == own[text]]
        scheme = own[text] if len(of_its_own) < len(_DASHES) else None
        colour = free[number % len(free)] if scheme is None else scheme
        pairs = [(colour, dashes) for dashes in (*_DASHES[number % len(_DASHES) :], *_DASHES)]
        given[text] = next(pair for pair in pairs if pair not in given.values())
    return [given[text] for text in weightings]


def finish_panel(panel: Any) -> None:
    """Give a matplotlib panel a light grid and no frame above and to the right."""
    panel.grid(True, **GRID)
    panel.spines[["top", "right"]].set_visible(False)


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a figure in the format of the path's ending, with text kept as text and without timestamps."""
    kind = path.suffix.lower()[1:]
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with atomic_file(path) as stream, plot_style():
        figure.savefig(stream, format=kind, dpi=_DPI, metadata=undated.get(kind, {}))


def figure_svg(figure: "Figure") -> str:
    """A figure as SVG, with text kept as text and without a timestamp."""
    import io

    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.BytesIO()
    with plot_style():
        # savefig would draw everything twice
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})  # type: ignore[no-untyped-call]
    return stream.getvalue().decode()
