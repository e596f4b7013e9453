"""A study as a report: what stands where, that its data are the study's, and how large it is."""

import json
from typing import Any

import pytest
from html_page import Page
from made_study import ARMS, made_study

from debiasctl.comparison.pictures import PICTURES, effects_of, pictures_of
from debiasctl.comparison.report import report_of
from debiasctl.comparison.report_tables import verdict_tables
from debiasctl.comparison.run_sources import RunSources
from debiasctl.comparison.study_record import Study
from debiasctl.comparison.words import figure_text, interval_text, listed
from debiasctl.reporting.report.render import render_report


@pytest.fixture(scope="module")
def study() -> Study:
    return made_study()


@pytest.fixture(scope="module")
def page(study: Study) -> str:
    return render_report(report_of(study, [], command="debiasctl compare 'digits-*'", drawing="draw {}".format))


def test_the_answer_comes_first_then_verdicts_pictures_and_tables(study: Study, page: str) -> None:
    places = [page.index(text) for text in (
        study.answer, 'id="section-verdicts"', 'id="verdicts-primary"', 'id="verdicts"', 'id="training"',
        'id="figures"', 'id="environment"',
    )]  # fmt: skip
    assert places == sorted(places)
    parsed = Page(page)
    assert study.answer in parsed.words
    ids = [attributes.get("id") for _, attributes in parsed.elements]
    assert len([one for one in ids if one]) == len({one for one in ids if one})


def test_every_figure_has_its_command_and_its_data(study: Study, page: str) -> None:
    parsed = Page(page)
    names = [attributes["id"] for tag, attributes in parsed.elements if tag == "figure"]
    assert names == ["verdicts", "training", "steps", "colours"]
    for name in names:
        assert f"draw {name}" in parsed.words
    assert "debiasctl compare 'digits-*'" in parsed.words
    verdicts = {(one["metric"], one["arm"]): one for one in parsed.data("verdicts--data")}
    cell = study.cell(study.primary)
    for one in study.verdicts:
        if one.cell == cell.key:
            scale = next(arm.mean for arm in cell.arms if arm.arm == study.reference)
            drawn = verdicts[f"{cell.metric}, {cell.steps} steps", one.arm]
            assert drawn["value"] == pytest.approx(-100 * one.difference / scale)  # lower is better
            assert (drawn["low"], drawn["high"]) == pytest.approx((-100 * one.high / scale, -100 * one.low / scale))
            assert drawn["margin"] == pytest.approx(5)
    training = parsed.data("training--data")
    curve = next(curve for curve in study.curves if curve.axis == "images_seen" and curve.metric == cell.metric)
    assert training[0]["lines"] == [
        {"arm": line.arm, "seed": line.seed, "x": [point.x for point in line.points],
         "y": [point.value for point in line.points]}
        for line in curve.lines
    ]  # fmt: skip
    assert len(parsed.data("colours--data")) == 3 * len(ARMS)


def test_better_lies_to_the_right_whatever_is_better(study: Study) -> None:
    by_key = {(one.metric, one.arm): one for one in effects_of(study)}
    for one in study.verdicts:
        cell = study.cell(one.cell)
        drawn = by_key[f"{cell.metric}, {cell.steps} steps", one.arm]
        if one.word == "better":
            assert drawn.value > 0
            assert drawn.low > 0
        assert drawn.low <= drawn.value <= drawn.high
    assert effects_of(study)[0].primary


def test_a_report_of_twelve_runs_is_small(page: str) -> None:
    assert len(page.encode()) < 2_000_000


def test_all_verdicts_are_in_the_tables(study: Study, page: str) -> None:
    tables = verdict_tables(study)
    assert sum(len(table.rows) for table in tables) == len(study.verdicts)
    assert [table.folded for table in tables] == [False, True]
    parsed = Page(page)
    marks = [
        attributes for tag, attributes in parsed.elements if tag == "span" and "mark" in str(attributes.get("class"))
    ]
    assert len(marks) == 2 * len(study.verdicts)  # in their table and in that of the evidence
    few = made_study(ARMS[:2], metrics={"fd_local": ("lower", 1.2, 0.04)})
    (single,) = verdict_tables(few)
    assert len(single.rows) == 2
    assert single.strong == {0}


def test_one_seed_an_arm_is_said_so_and_has_no_band() -> None:
    study = made_study(ARMS[:2], seeds=(0,))
    pictures = {picture.name: picture for picture in pictures_of(study, RunSources())}
    assert "no band" in pictures["training"].caption
    assert all(mean["low"] is None for panel in pictures["training"].data for mean in panel["means"])
    parsed = Page(render_report(report_of(study, [], command="debiasctl compare a b")))
    assert "one seed" in parsed.words
    raw = study.to_json()
    raw["verdicts"][0]["seeds_alone"] = 0.42
    words = Page(render_report(report_of(Study.model_validate(raw), [], command="debiasctl compare a b"))).words
    assert "seeds alone differ by as much in 42 % of pairs" in words


def test_many_warnings_are_folded_and_none_is_lost() -> None:
    raw = made_study(ARMS[:2], metrics={"fd_local": ("lower", 1.2, 0.04)}).to_json()
    study = Study.model_validate(raw | {"warnings": [f"warning number {n}" for n in range(9)], "skipped": ["run x"]})
    report = report_of(study, [], command="debiasctl compare a b")
    assert len([line for line in report.status_lines if line.startswith("Warning")]) == 4
    assert "Left out: run x" in report.status_lines
    words = Page(render_report(report)).words
    assert all(any(f"warning number {n}" in word for word in words) for n in range(9))


def test_the_environment_says_what_the_arms_share_and_differ_in(study: Study) -> None:
    environment = report_of(study, [], command="x").environment
    assert environment["Report"]["device"] == "cpu"
    assert "matplotlib" in environment["Report"]
    assert environment["Settings that differ"]["loss.weighting"].startswith("constant: constant; p2: p2")
    assert environment["Measured"]["sampler"] == "ddim"
    json.dumps(environment)


def test_all_pictures_have_names_that_the_command_line_knows() -> None:
    from debiasctl.cli.compare_report import PICTURES as KNOWN

    assert list(PICTURES) == list(KNOWN)


@pytest.mark.parametrize(
    "value, options, text",
    [
        (None, {}, ""), (float("nan"), {}, ""), (-0.25, {}, "−0.25"), (0.25, {"signed": True}, "+0.25"),
        (1.23456, {"digits": 3}, "1.23"), (2.5e-7, {}, "2.5e−7"), (0.0, {"signed": True}, "+0"),
    ],
)  # fmt: skip
def test_figures_are_written_for_readers(value: float | None, options: dict[str, Any], text: str) -> None:
    assert figure_text(value, **options) == text


def test_intervals_and_lists_are_written_for_readers() -> None:
    assert interval_text(-1.0, 2.5) == "−1 to 2.5"
    assert interval_text(None, 2.0) == "up to 2"
    assert interval_text(1.5, None, signed=True) == "from +1.5"
    assert interval_text(None, None) == ""
    assert listed(["a"]) == "'a'"
    assert listed(["a", "b", "c"]) == "'a', 'b' and 'c'"
    assert listed([str(n) for n in range(9)], most=2) == "'0', '1' and 7 more"


def test_a_table_of_very_many_rows_says_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch, study: Study) -> None:
    monkeypatch.setattr("debiasctl.comparison.report_tables._MOST_ROWS", 5)
    table = verdict_tables(study)[1]
    assert len(table.rows) == 5
    assert "40 further rows" in table.notes[-1]


def test_names_of_arms_and_metrics_may_hold_anything() -> None:
    """A CSV of figures made elsewhere may name metrics and arms in any way."""
    hostile = "\x1b]0;\x07</svg><script>$\\frac{$\ud800" + "é" * 300
    study = made_study((hostile, f"{hostile}2"), metrics={hostile: ("lower", 1.0, 0.1)})
    parsed = Page(render_report(report_of(study, [], command=hostile)))
    assert len([tag for tag, _ in parsed.elements if tag == "figure"]) == 3
    assert {line["arm"] for line in parsed.data("training--data")[0]["lines"]} == {hostile, f"{hostile}2"}
    for picture in pictures_of(study, RunSources()):
        assert "\x1b" not in (picture.text or str)(80)


def test_no_probability_is_certain(study: Study) -> None:
    raw = study.to_json()
    others = [one for one in raw["verdicts"] if not one["primary"]]
    for one, probability in zip(others, (1e-9, 1.0, 0.256, None), strict=False):
        one["probability_better"] = probability
    table = verdict_tables(Study.model_validate(raw))[1]
    place = [column.title for column in table.columns].index("P(better)")
    assert [row[place].text for row in table.rows[:4]] == ["< 1 %", "> 99 %", "26 %", ""]


def test_one_arm_alone_has_a_report_without_verdicts() -> None:
    page = Page(render_report(report_of(made_study(ARMS[:1]), [], command="debiasctl compare a")))
    assert "1 arm on digits" in page.words
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert "figures" in ids
    assert not {name for name in ids if name and name.startswith("verdicts")}
