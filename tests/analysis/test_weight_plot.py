"""What `weightings plot` draws: the curves, the axes, the words; and the files as files."""

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from debiasctl.analysis.weight_curves import WeightCurves, weight_curves
from debiasctl.analysis.weight_plot import MAX_CURVES, plot_weights
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.files import check_file
from debiasctl.reporting.style import FORMATS, styles

ZERO = "linear:zero_terminal_snr=true"
NAMES = ("constant", "debiased", "min-snr:gamma=2")
CASES = {  # schedule, prediction, normalize, timesteps
    "linear": ("linear", "eps", "mean", "uniform"),
    "published": ("cosine", "x0", "none", "uniform"),
    "zero terminal": (ZERO, "v", "mean", "uniform"),
    "edm": ("edm", "edm", "mean", "lognormal"),
}


def curves_of(case: str, names: tuple[str, ...] = NAMES) -> tuple[WeightCurves, dict[str, Any]]:
    schedule, prediction, normalize, timesteps = CASES[case]
    settings = {"schedule": schedule, "prediction": prediction, "normalize": normalize, "timesteps": timesteps}
    return weight_curves(names, **settings), settings  # type: ignore[arg-type]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collects the figures that would be written, undrawn."""
    found: list[Figure] = []

    def keep(self: Figure, stream: Any, **_: Any) -> None:
        found.append(self)
        stream.write(b"picture")

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def figure_of(case: str, figures: list[Figure], folder: Path, names: tuple[str, ...] = NAMES) -> Figure:
    curves, settings = curves_of(case, names)
    plot_weights(folder / "weights.png", curves, **settings)
    return figures[-1]


@pytest.mark.parametrize("case", CASES)
def test_every_panel_shows_density_times_weight(case: str, figures: list[Figure], tmp_path: Path) -> None:
    curves, settings = curves_of(case)
    panels = figure_of(case, figures, tmp_path).axes
    units = ["eps", "x0", "v", "flow"] + ["edm"] * (settings["prediction"] == "edm")
    assert len(panels) == 2 * len(units)
    if settings["normalize"] == "mean":
        own = curves.density * curves.weights["debiased"][settings["prediction"]]
        assert float(own.mean()) == pytest.approx(1, rel=1e-12)
    drawn = (curves.snr > 0).numpy()
    assert drawn.sum() == (999 if case == "zero terminal" else 1000)
    for number, panel in enumerate(panels):
        unit = units[number % len(units)]
        against_t = number < len(units)
        shown = drawn if unit == "eps" or not against_t else np.ones(1000, dtype=bool)  # eps alone has no finite weight
        x = np.arange(1000)[shown] if against_t else curves.snr.log().numpy()[shown]
        assert [line.get_label() for line in panel.lines] == list(NAMES)
        for name, line in zip(NAMES, panel.lines, strict=True):
            np.testing.assert_allclose(line.get_xdata(), x)
            y = (curves.density * curves.weights[name][unit]).numpy()[shown]  # type: ignore[index]
            np.testing.assert_allclose(line.get_ydata(), np.maximum(y, panel.get_ylim()[0]))
        assert panel.get_yscale() == "log"
        # both rows run from the clean image on the left to noise on the right
        left, right = panel.get_xlim()
        assert (left < right) == against_t
        low, high = panel.get_ylim()
        assert high / low < 10**8.5
        assert high > max(np.nanmax(line.get_ydata()) for line in panel.lines)


@pytest.mark.parametrize("case", CASES)
def test_the_words_say_what_is_drawn(case: str, figures: list[Figure], tmp_path: Path) -> None:
    figure, (schedule, prediction, normalize, timesteps) = figure_of(case, figures, tmp_path), CASES[case]
    assert figure._suptitle is not None  # type: ignore[attr-defined]
    title = figure._suptitle.get_text().replace("\n", " ")  # type: ignore[attr-defined]
    assert f"on the {schedule} schedule (T = 1000)" in title
    output = "the network's output F" if prediction == "edm" else prediction
    assert (f"mean 1 on {output}" in title) == (normalize == "mean")
    assert ("as published" in title) == (normalize == "none")
    assert (f"times the density of t ({timesteps})" in title) == (timesteps != "uniform")
    top = figure.axes[: len(figure.axes) // 2]
    for unit, panel in zip(("eps", "x0", "v", "flow", "edm"), top, strict=False):
        assert unit in panel.get_title()
        assert (panel.title.get_fontweight() == "bold") == (unit == prediction)
    words = " ".join(panel.get_xlabel() for panel in figure.axes).replace("\n", " ")
    assert "timestep t" in words
    assert "log SNR" in words
    assert "clean image → noise" in title
    below = any(line.get_ydata()[0] == panel.get_ylim()[0] or line.get_ydata()[-1] == panel.get_ylim()[0]
                for panel in figure.axes for line in panel.lines)  # fmt: skip
    assert ("a weight below a panel is drawn at its lower edge" in title) == below
    assert ("no finite weight on eps at t = 999, where SNR = 0" in words) == (case == "zero terminal")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(NAMES)


LONG = tuple(f'product:factors=[debiased,"p2:k={k},gamma=0.5","min-snr:gamma=5"],space=x0' for k in range(1, 6))


@pytest.mark.parametrize(
    ("case", "names"), [*((case, NAMES) for case in CASES), ("linear", LONG)], ids=[*CASES, "long names"]
)
def test_all_words_can_be_read(case: str, names: tuple[str, ...], figures: list[Figure], tmp_path: Path) -> None:
    """No text is cut off by the picture's edge, and none lies upon another."""
    figure = figure_of(case, figures, tmp_path, names)
    FigureCanvasAgg(figure).draw()
    texts = [figure._suptitle, *figure.legends[0].get_texts()]  # type: ignore[attr-defined]
    for panel in figure.axes:
        texts += [panel.title, panel.xaxis.label, panel.yaxis.label]
    boxes = {text.get_text() + f" #{number}": text.get_window_extent() for number, text in enumerate(texts)
             if text.get_text()}  # fmt: skip
    edge = figure.bbox
    cut = [name for name, box in boxes.items()
           if box.x0 < edge.x0 or box.x1 > edge.x1 or box.y0 < edge.y0 or box.y1 > edge.y1]  # fmt: skip
    assert cut == []
    placed = list(boxes.items())
    over = [(one, two) for i, (one, first) in enumerate(placed) for two, second in placed[:i] if first.overlaps(second)]
    assert over == []


def test_weights_of_0_are_drawn_at_the_lower_edge(figures: list[Figure], tmp_path: Path) -> None:
    snr = torch.logspace(2, -2, 5, dtype=torch.float64)
    one = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0], dtype=torch.float64)
    nothing = torch.zeros_like(snr)
    curves = WeightCurves(snr, {"gaps": dict.fromkeys(("eps", "x0", "v"), one), "none": dict.fromkeys(
        ("eps", "x0", "v"), nothing)}, torch.ones_like(snr))  # type: ignore[arg-type]  # fmt: skip
    plot_weights(tmp_path / "a.svg", curves, schedule="linear", prediction="eps", normalize="none", timesteps="uniform")
    gaps, none = figures[-1].axes[0].lines
    floor = figures[-1].axes[0].get_ylim()[0]
    assert gaps.get_ydata().tolist() == [1, floor, 2, floor, 1]
    assert none.get_ydata().tolist() == [floor] * 5
    assert not none.get_clip_on()
    assert "drawn at its lower edge" in figures[-1]._suptitle.get_text().replace("\n", " ")  # type: ignore[attr-defined]


def test_ten_curves_can_be_told_apart_and_no_more(figures: list[Figure], tmp_path: Path) -> None:
    names = tuple(f"min-snr:gamma={number}" for number in range(1, MAX_CURVES + 1))
    lines = figure_of("linear", figures, tmp_path, names).axes[0].lines
    assert len({(line.get_color(), str(line._dash_pattern)) for line in lines}) == MAX_CURVES == 10
    curves, settings = curves_of("linear", (*names, "constant"))
    with pytest.raises(UsageError, match=r"11 weightings cannot be told apart in one plot\. Give at most 10"):
        plot_weights(tmp_path / "many.png", curves, **settings)
    assert not (tmp_path / "many.png").exists()


@pytest.mark.parametrize("name", ["a.jpg", "a", ".png", "a.png.txt"])
def test_other_endings_are_refused(name: str) -> None:
    with pytest.raises(
        UsageError, match=re.escape(f"`out={name}`: the ending says what is written; choose one of .png")
    ):
        check_file(Path(name), argument="out", endings=FORMATS)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_picture_is_one_file_whenever_it_is_drawn(ending: str, tmp_path: Path) -> None:
    curves, settings = curves_of("linear")
    first, second = tmp_path / f"first{ending}", tmp_path / "new folder" / f"second{ending.upper()}"
    for path in (first, second):
        plot_weights(path, curves, **settings)
    if ending == ".png":
        check_png(first)
    elif ending == ".svg":
        check_svg(first)
    else:
        assert first.read_bytes().startswith(b"%PDF-")
    assert first.read_bytes() == second.read_bytes()


def check_png(path: Path) -> None:
    """It opens, is not blank, and has each curve's colour in it."""
    from PIL import Image

    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width == 2025  # 6.75 inches of 300 dots
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == 255).all(axis=1).mean() > 0.5
    for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)):
        assert (pixels == colour).all(axis=1).sum() > 300


def check_svg(path: Path) -> None:
    """It is XML, and names every weighting as text that can be searched for and read out."""
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = " ".join(root.itertext())
    for name in NAMES:
        assert name in words
    assert path.read_text().count("#0072b2") >= 6  # a curve in every panel


def test_a_plot_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curves, settings = curves_of("linear")
    path = tmp_path / "weights.png"
    path.write_bytes(b"the last one")

    def half(self: Figure, stream: Any, **_: Any) -> None:
        stream.write(b"half of")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", half)
    with pytest.raises(DebiasctlError, match=r"cannot write .*weights\.png: the disk is full"):
        plot_weights(path, curves, **settings)
    assert path.read_bytes() == b"the last one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("width, units", [("page", ["eps", "x0", "v", "flow"]), ("column", ["v"])])
def test_a_column_shows_the_unit_that_the_network_predicts(
    width: Any, units: list[str], figures: list[Figure], tmp_path: Path
) -> None:
    curves, settings = curves_of("zero terminal")
    plot_weights(tmp_path / "a.png", curves, width=width, **settings)
    figure = figures[-1]
    assert [panel.get_title() for panel in figure.axes if panel.get_title()] == [f"weight on {u}" for u in units]
    assert figure.get_figwidth() == {"page": 6.75, "column": 3.25}[width]
    FigureCanvasAgg(figure).draw()
    titles = [panel.title for panel in figure.axes if panel.get_title()]
    for text in (figure._suptitle, *titles, *figure.legends[0].get_texts()):  # type: ignore[attr-defined]
        box = text.get_window_extent()
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_a_weighting_has_one_colour_everywhere() -> None:
    alone = {name: styles([name])[0][0] for name in ("constant", "debiased", "min-snr:gamma=5", "p2")}
    together = styles(["p2", "debiased", "constant", "min-snr:gamma=5", "min-snr:gamma=1", "own", "other"])
    assert [colour for colour, _ in together[:4]] == [
        alone["p2"],
        alone["debiased"],
        alone["constant"],
        alone["min-snr:gamma=5"],
    ]
    assert together[4][0] == together[3][0] != together[5][0]
    assert len({str(pair) for pair in together}) == 7
    assert styles(["debiased", "debiased"])[0] == styles(["debiased", "debiased"])[1]
