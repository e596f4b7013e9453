"""Pictures of arms: what they draw from plain data, at both widths, whatever the arms' names are."""

import itertools
import math
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from debiasctl.reporting.arm_grids import GridRow, draw_arm_grid
from debiasctl.reporting.effect_pictures import draw_dots, draw_forest, forest_limit
from debiasctl.reporting.names import short_names, shown
from debiasctl.reporting.panels import number_text
from debiasctl.reporting.report.inline_svg import inline_svg
from debiasctl.reporting.study_data import (
    Dots,
    Effect,
    Panel,
    SeedLine,
    arm_styles,
    curves_json,
    mean_of,
    means_of,
)
from debiasctl.reporting.study_pictures import draw_curves, svg_of
from debiasctl.reporting.style import WIDTHS, Width
from debiasctl.reporting.terminal_pictures import curves_text, forest_text

NAMES = ["constant", "$\\frac{$ <b>", "_hidden\x00", "n" * 300]
ARMS = arm_styles(NAMES)


def lines(num_seeds: int = 3) -> list[SeedLine]:
    return [
        SeedLine(arm, seed, [1.0, 10.0, 100.0], [(number + 1) * (3 + seed), 2.0 + seed, 1.0 + seed / 2])
        for number, arm in enumerate(NAMES)
        for seed in range(num_seeds)
    ]


def panel(num_seeds: int = 3, **changes: Any) -> Panel:
    return Panel("fd", "images", "lower is better", lines(num_seeds), **changes)


def effects() -> list[Effect]:
    return [
        Effect("fd, 50 steps", NAMES[1], 10.0, 6.0, 14.0, 5.0, "better", primary=True),
        Effect("fd, 50 steps", NAMES[2], 1.0, -6.0, 8.0, 5.0, "inconclusive", primary=True),
        Effect("kd, 50 steps", NAMES[1], -500.0, -900.0, -100.0, None, "worse"),
        Effect("kd, 50 steps", NAMES[2], None, None, None, None, "withheld"),
    ]


DRAWINGS: dict[str, Callable[[Width], Any]] = {
    "curves": lambda width: draw_curves([panel(), panel(y_log=True, x_log=True, level=0.5)], ARMS, width=width),
    "one seed": lambda width: draw_curves([panel(1)], ARMS, width=width),
    "forest": lambda width: draw_forest(effects(), ARMS, reference="$x_{$" + "m" * 50, width=width),
    "dots": lambda width: draw_dots([Dots("shift", "red", name, [0.1, -0.2]) for name in NAMES], ARMS, width=width),
    "grid": lambda width: draw_arm_grid(
        [GridRow(name, np.full((7, 8, 8, 3), 40, np.uint8)) for name in NAMES], ARMS, width=width
    ),
}


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("name", DRAWINGS)
def test_a_picture_has_its_width_and_holds_every_name_as_text(name: str, width: Width) -> None:
    svg = svg_of(DRAWINGS[name](width))
    root = ElementTree.fromstring(inline_svg(svg, prefix="p-", label="a picture"))
    assert float(root.get("viewBox", "").split()[2]) == pytest.approx(72 * WIDTHS[width])
    words = "".join(root.itertext())
    for arm in ARMS[1:3] if name == "forest" else ARMS:
        assert arm.label in words
    assert "\x00" not in words


@pytest.mark.parametrize("name", DRAWINGS)
def test_nothing_of_a_picture_is_cut_off(name: str) -> None:
    """The text lies within the figure, whatever the width of a column."""
    figure = DRAWINGS[name]("column")
    figure.draw_without_rendering()
    texts = [*figure.texts, *(text for legend in figure.legends for text in legend.get_texts())]
    for axes in figure.axes:
        texts += [*axes.texts, axes.xaxis.label, axes.yaxis.label]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    assert boxes
    assert [text for text, box in boxes if box.x0 < figure.bbox.x0 - 2 or box.x1 > figure.bbox.x1 + 2] == []


def test_a_band_is_students_interval_of_the_mean() -> None:
    mean = mean_of([1.0, 2.0, 6.0])
    assert mean.value == 3
    half = 4.302652729749464 * math.sqrt(7) / math.sqrt(3)  # t of 2 degrees of freedom, and the standard deviation √7
    assert (mean.low, mean.high) == pytest.approx((3 - half, 3 + half))
    assert mean_of([5.0]) == mean_of([5.0], log=False)
    assert mean_of([5.0]).low is None
    log = mean_of([1.0, 100.0], log=True)
    assert log.value == pytest.approx(10)
    assert log.low * log.high == pytest.approx(100)


def test_means_are_over_the_seeds_that_have_a_point() -> None:
    of_two = Panel("a", "x", "y", [SeedLine("A", 0, [1, 2], [1, 5]), SeedLine("A", 1, [2, 3], [7, math.nan])])
    assert [(mean.x, mean.value, mean.num) for mean in means_of(of_two, "A")] == [(1, 1, 1), (2, 6, 2)]
    (json,) = curves_json([of_two])
    assert json["lines"][0] == {"arm": "A", "seed": 0, "x": [1, 2], "y": [1, 5]}
    assert [one["seeds"] for one in json["means"]] == [1, 2]


def test_a_band_of_few_seeds_does_not_flatten_the_curves() -> None:
    """Of two seeds the interval is 13 times as wide as their standard error."""
    two = Panel("a", "x", "y", [SeedLine("A", seed, [1, 2], [seed, seed + 1.0]) for seed in (0, 1)])
    figure = draw_curves([two], arm_styles(["A"]), width="column")
    low, high = figure.axes[0].get_ylim()
    assert low > -1.5
    assert high < 3.5


def test_the_axis_of_a_forest_holds_the_primary_and_cuts_what_is_far_wider() -> None:
    limit = forest_limit(effects())
    assert 14 < limit <= 400
    small = [effect for effect in effects() if effect.primary]
    assert 14 < forest_limit(small) < 20


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("num", [1, 3])
def test_rows_of_a_forest_do_not_overlap_however_few_there_are(num: int, width: Width) -> None:
    words = ["better", "inconclusive", "worse"][:num]
    few = [Effect("fd", name, 1.0, 0.5, 2.0, 5.0, word) for name, word in zip(NAMES[1:], words, strict=False)]
    figure = draw_forest(few, ARMS, reference="n" * 300, width=width)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    rows = [text for text in axes.texts if text.get_text() in words]
    boxes = sorted((text.get_window_extent() for text in rows), key=lambda box: box.y0)
    assert len(boxes) == num
    assert all(below.y1 < above.y0 for below, above in itertools.pairwise(boxes))
    for row in rows:
        assert axes.bbox.y0 <= row.get_window_extent().y0
    bottom, top = axes.get_ylim()
    assert axes.bbox.height / figure.dpi == pytest.approx(0.15 * (bottom - top), rel=0.02)  # inches


def test_the_only_arm_of_a_forest_is_named_where_there_is_no_legend() -> None:
    one = [Effect("fd", "min-snr", 1.0, 0.5, 2.0, 5.0, "better")]
    assert "min-snr" in svg_of(draw_forest(one, arm_styles(["min-snr"]), reference="constant", width="page"))


def test_arms_of_one_weighting_differ_and_keep_its_colour() -> None:
    first, second, third = arm_styles(["a", "b", "c"], ["constant", "debiased", "constant"])
    assert first.colour == third.colour
    assert (first.colour, first.dashes) != (third.colour, third.dashes)
    assert (first.marker, second.marker) == ("o", "o")
    assert third.marker != "o"  # where there are no lines
    assert first.colour != second.colour
    assert arm_styles(["x"], ["constant"])[0].colour == first.colour


@pytest.mark.parametrize("draw", ["forest", "dots"])
def test_arms_of_one_colour_have_other_points_which_the_legend_shows(draw: str) -> None:
    arms = arm_styles(["a", "b"], ["constant", "constant"])
    figure = (
        draw_forest(
            [Effect("fd", arm.name, 1.0, 0.5, 2.0, 5.0, "better") for arm in arms], arms, reference="r", width="page"
        )
        if draw == "forest"
        else draw_dots([Dots("shift", "red", arm.name, [0.1, 0.2]) for arm in arms], arms, width="page")
    )
    (axes,) = figure.axes
    drawn = [line.get_marker() for line in axes.lines if line.get_marker() in ("o", "s")]
    legend = [line.get_marker() for line in figure.legends[0].get_lines()]
    assert drawn == legend == ["o", "s"]


def test_a_grid_has_an_image_for_every_arm_and_no_colour_between_them() -> None:
    images = np.full((3, 8, 8), 10, np.uint8)
    figure = draw_arm_grid([GridRow(name, images) for name in NAMES[:2]], ARMS, width="column")
    strips = [axes.images[0].get_array() for axes in figure.axes]
    assert [strip.shape for strip in strips] == [(8, 3 * 8 + 2, 4)] * 2
    assert set(np.unique(strips[0][:, 8])) == {0}
    with pytest.raises(ValueError, match="differ in size"):
        draw_arm_grid([GridRow("constant", images), GridRow(NAMES[1], images[:, :4])], ARMS, width="page")


def test_large_images_are_shown_smaller() -> None:
    images = np.zeros((12, 256, 128, 3), np.uint8)
    figure = draw_arm_grid([GridRow(name, images) for name in NAMES], ARMS, width="page")
    assert figure.axes[0].images[0].get_array().shape[0] == 64


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"), (5, "5"), (0.25, "0.25"), (-0.05, "−0.05"), (192000, "192k"), (2.5e6, "2.5M"), (1e-4, "10⁻⁴"),
        (-2.5e-5, "−2.5·10⁻⁵"), (1e-6, "10⁻⁶"),
    ],
)  # fmt: skip
def test_a_tick_is_short(value: float, text: str) -> None:
    assert number_text(value) == text


def test_names_are_shown_whatever_they_hold() -> None:
    assert shown("a\x1b[31m\u202e") == "a\\x1b[31m\\u202e"
    assert shown("Ünïcode 图 ok") == "Ünïcode 图 ok"
    first, second = short_names(["x" * 50 + "y", "x" * 50 + "y"], longest=20)
    assert len(first) == 20
    assert first != second
    assert short_names(["", " "], longest=5) == ["?", "? (2)"]


def test_a_forest_in_the_terminal_has_a_line_an_effect() -> None:
    text = forest_text(effects(), reference="constant", columns=80)
    rows = text.splitlines()
    assert len(rows) == len(effects()) + 1
    assert max(map(len, rows)) <= 80
    assert re.search("better$", rows[0])
    assert "●" in rows[0]
    assert "○" in rows[1]
    assert "◀" in rows[2]
    assert "constant" in rows[-1]
    assert rows[0].index("●") > rows[0].index("│")  # better lies to the right
    long = forest_text(
        [Effect("m" * 99, "a" * 99, 1.0, 0.5, 200.0, 5.0, "inconclusive")], reference="r" * 99, columns=60
    )
    assert re.search(r"-\d+ % +r+…r+ +\+\d+ %$", long)


def test_curves_in_the_terminal_name_every_arm() -> None:
    text = curves_text(panel(), ARMS, columns=80)
    assert text.startswith("fd\n")
    frame = text.rpartition("\n")[0]
    assert [frame.count(mark) for mark in "ABC"] >= [1, 1, 1]
    (single,) = arm_styles(["a"])
    rising = Panel("fd", "images", "", [SeedLine("a", 0, [1.0, 2.0, 3.0], [1.0, 2.0, 3.0])])
    assert curves_text(rising, [single], columns=80).rpartition("\n")[0].count("A") == 3  # the first and the last too
    assert ARMS[0].label in text.splitlines()[-1]


def test_a_grid_of_many_arms_stays_small() -> None:
    """A report of twelve runs has at most 3 MB; noise is what PNG compresses least."""
    names = [f"arm {number}" for number in range(12)]
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    widths: tuple[Width, ...] = ("page", "column")
    drawn = [
        draw_arm_grid([GridRow(name, noise) for name in names], arm_styles(names), width=width) for width in widths
    ]
    assert sum(len(svg_of(figure)) for figure in drawn) < 1_700_000
    assert all(len(figure.axes) == 12 for figure in drawn)


@pytest.mark.parametrize("values", [[0.25], [-0.1], [0.0], [0.3, 0.31], [-0.2, 0.4]])
def test_every_dot_lies_within_its_panel(values: list[float]) -> None:
    figure = draw_dots([Dots("shift", "red", "constant", values)], ARMS, width="column")
    low, high = figure.axes[0].get_ylim()
    assert low < min(values) <= max(values) < high
    assert low < 0 < high
