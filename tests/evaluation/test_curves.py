"""What a plot of figures shows, read off the figure that is saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import records
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from records import figure_json, interval_json

from debiasctl.evaluation.curves import plot_curves
from debiasctl.evaluation.record import EvaluationRecord
from debiasctl.reporting.style import styles


def figure_of(value: float, **changes: Any) -> dict[str, Any]:
    same = {"num": 400, "floor_num": 400, "value_at_floor_num": value, "description": "how far " * 20}
    return figure_json(value, **(same | changes))


def record(nfe: int, *, checkpoint: int = 8, **metrics: dict[str, Any]) -> EvaluationRecord:
    measured = {"steps": nfe, "sampler": "ddim:eta=0", "num": 400}
    return records.record(metrics, measured=measured, checkpoint=checkpoint, images_seen=10 * checkpoint, nfe=nfe)


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[EvaluationRecord]], Figure]:
    saved: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)

    def draw(records: list[EvaluationRecord]) -> Figure:
        plot_curves(tmp_path / "x.png", records)
        return saved[-1]

    return draw


def curve(panel: Axes, label: str = "the run's images") -> list[tuple[float, float]]:
    (line,) = [line for line in panel.lines if line.get_label() == label]
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def horizontal(panel: Axes) -> list[float]:
    """Lines across a whole panel."""
    return [float(line.get_ydata()[0]) for line in panel.lines if list(line.get_xdata()) == [0, 1]]


def test_a_curve_stands_beside_a_floor_of_as_many_images(drawn: Callable[..., Figure]) -> None:
    few = {"floor_num": 90, "value_at_floor_num": 9.0}
    (panel,) = drawn([record(5, fd=figure_of(1.0, **few)), record(10, fd=figure_of(2.0, **few))]).axes
    assert curve(panel) == [(5, 9), (10, 9)]
    assert horizontal(panel) == [0.5]
    assert panel.get_ylabel().startswith("N 90; lower is better")
    (panel,) = drawn([record(5, fd=figure_of(1.0)), record(10, fd=figure_of(2.0))]).axes
    assert curve(panel) == [(5, 1), (10, 2)]
    assert panel.get_ylabel().startswith("N 400; ")
    none = {"floor": None, "floor_num": 0, "value_at_floor_num": None}
    (panel,) = drawn([record(5, fd=figure_of(1.0, **none)), record(10, fd=figure_of(2.0, **none))]).axes
    assert curve(panel) == [(5, 1), (10, 2)]
    assert horizontal(panel) == []


def test_intervals_are_of_the_corrected_figures_and_whole(drawn: Callable[..., Figure]) -> None:
    known = {"corrected": 0.7, "interval": interval_json([0.0, 1.0], low=-3.0, high=7.0)}
    first = record(5, fd=figure_of(1.0))
    figure = drawn([first, record(10, fd=figure_of(2.0, **known))])
    (panel,) = figure.axes
    (bars,) = panel.collections
    ((low, high),) = bars.get_segments()
    assert (list(low), list(high)) == ([10, -3], [10, 7])
    assert [list(line.get_ydata()) for line in panel.lines if line.get_marker() == "_"] == [[0.7]]
    assert panel.get_ylim()[0] < -3 < 7 < panel.get_ylim()[1]
    at_point, at_bar = panel.transData.transform((10, 0))[0], bars.get_transform().transform((10, 0))[0]
    assert 2 < at_bar - at_point < 0.05 * panel.get_window_extent().width, "beside the point, and near it"
    assert "corrected, 95 %" in [text.get_text() for text in figure.legends[0].get_texts()]
    figure = drawn([first, record(10, fd=figure_of(2.0, floor_num=90, **known))])
    assert "corrected, 95 % (of all 400)" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_line_at_0_where_nearer_to_0_is_better(drawn: Callable[..., Figure]) -> None:
    shift, distance = figure_of(1.0, better="closer to 0"), figure_of(1.0)
    first, second = drawn([record(nfe, shift=shift, fd=distance) for nfe in (5, 10)]).axes
    assert horizontal(first) == [0, 0.5]
    assert horizontal(second) == [0.5]


@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_as_many_panels_as_metrics(drawn: Callable[..., Figure], count: int) -> None:
    names = [f"metric_{number}" for number in range(count)]
    figure = drawn([record(nfe, **{name: figure_of(nfe) for name in names}) for nfe in (5, 10)])
    assert [panel.get_title(loc="left") for panel in figure.axes] == names
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["the run's images", "real images (floor)"]


@pytest.mark.parametrize(
    "numbers, ticks",
    [
        ((5, 10, 20, 50), [5, 10, 20, 50]),
        ((3, 30), [3, 30]),
        ((5, 6, 50, 1000), [5, 50, 1000]),
        ((50, 51, 100), [50, 100]),
    ],
)
def test_ticks_at_the_measured_numbers_of_forwards(
    drawn: Callable[..., Figure], numbers: tuple[int, ...], ticks: list[int]
) -> None:
    (panel,) = drawn([record(nfe, fd=figure_of(1.0)) for nfe in numbers]).axes
    assert panel.get_xscale() == "log"
    assert list(panel.get_xticks()) == ticks
    assert [label.get_text() for label in panel.get_xticklabels()] == [str(number) for number in ticks]
    assert not len(panel.get_xticks(minor=True))


def test_a_curve_for_each_number_of_steps_against_training(drawn: Callable[..., Figure]) -> None:
    evaluated = [
        record(nfe, checkpoint=checkpoint, fd=figure_of(nfe + checkpoint)) for nfe in (50, 5) for checkpoint in (8, 0)
    ]
    figure = drawn(evaluated)
    (panel,) = figure.axes
    assert curve(panel, "5 steps") == [(0, 5), (80, 13)]
    assert curve(panel, "50 steps") == [(0, 50), (80, 58)]
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["5 steps", "50 steps", "real images (floor)"]


def test_several_runs_have_a_curve_each_in_the_colour_of_their_weighting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: saved.append(figure))
    evaluated = [
        record(nfe, fd=figure_of(value)).model_copy(update={"run": run})
        for run, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))
        for nfe in (5, 10)
    ]
    weightings = {"a": "debiased", "b": "constant", "c": "debiased"}
    plot_curves(tmp_path / "x.png", evaluated, weightings=weightings, width="column")
    (figure,) = saved
    (panel,) = figure.axes
    assert [curve(panel, name) for name in "abc"] == [[(5, 1), (10, 1)], [(5, 2), (10, 2)], [(5, 3), (10, 3)]]
    lines = {line.get_label(): line for line in panel.lines}
    assert lines["a"].get_color() == lines["c"].get_color() == styles(["debiased"])[0][0]
    assert lines["b"].get_color() == styles(["constant"])[0][0]
    assert str(lines["a"]._dash_pattern) != str(lines["c"]._dash_pattern)  # type: ignore[attr-defined]
    assert figure.get_figwidth() == 3.25
    assert "run '" not in figure._suptitle.get_text()  # type: ignore[attr-defined]


def test_a_level_curve_is_not_drawn_on_an_axis_of_rounding(drawn: Callable[..., Figure]) -> None:
    none = {"floor": None, "floor_num": 0, "value_at_floor_num": None}
    (panel,) = drawn([record(nfe, share=figure_of(0.0, **none)) for nfe in (5, 10)]).axes
    assert panel.get_ylim() == (-0.05, 0.05)
