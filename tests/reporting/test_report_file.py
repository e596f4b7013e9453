"""The HTML report: whatever its names are, it is one file that asks for nothing and runs nothing but its own script."""

import base64
import hashlib
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from html_page import Page

from debiasctl.reporting.report.document import Cell, Column, Report, ReportPicture, ReportTable, Section
from debiasctl.reporting.report.render import embedded_json, render_report

HOSTILE = [
    "</script><script>alert(1)</script>",
    "<!--<script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)" x="',
    "{{ 7 * 7 }}{% raw %}",
    "null\x00escape\x1b[31mred\r\u202eltr\u2028line\ud800",
    "long" * 500,
    "$\\frac{1}{0$ _private &amp; ]]>",
]


def drawing(label: str = "a curve") -> str:
    from matplotlib.figure import Figure

    from debiasctl.reporting.style import plot_style

    with plot_style():
        figure = Figure(figsize=(3, 2))
        panel = figure.subplots()
        panel.plot([1, 2, 3], [1, 4, 2])
        panel.imshow([[[0, 0, 0], [255, 255, 255]]], interpolation="none")
        panel.set_title(label, parse_math=False)
        stream = io.BytesIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue().decode()


def report_of(name: str, data: Any = None) -> Report:
    table = ReportTable(
        name, name, [Column(name, help=name), Column("figure", number=True)], [[name, Cell("1", 1.0, "better", name)]],
        frozenset({0}), [name],
    )  # fmt: skip
    picture = ReportPicture(name, name, name, drawing(), name, name, {name: name} if data is None else data)
    section = Section(name, [name], [table, replace(table, folded=True)], [picture])
    return Report(name, name, [section, section], [name], {name: {name: name}}, name, name)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_adds_nothing_to_the_page(name: str) -> None:
    plain, hostile = Page(render_report(report_of("plain"))), Page(render_report(report_of(name)))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in plain.elements]
    assert [sorted(one) for _, one in hostile.elements] == [sorted(one) for _, one in plain.elements]
    ids = [one["id"] for _, one in hostile.elements if "id" in one]
    assert len(ids) == len(set(ids))
    hidden = [mark for word in hostile.words for mark in word if not mark.isprintable() and mark != "\n"]
    assert hidden == []
    figures = [one["id"] for tag, one in hostile.elements if tag == "figure"]
    assert [hostile.data(f"{figure}--data") for figure in figures] == [{name: name}] * 2
    assert hostile.data("environment--data") == {name: {name: name}}


@pytest.mark.parametrize("name", ["plain", *HOSTILE[:4]])
def test_the_page_refers_to_nothing_outside(name: str) -> None:
    page = Page(render_report(report_of(name)))
    for tag, attributes in page.elements:
        for key, value in attributes.items():
            assert not key.startswith("on"), (tag, key)
            assert key not in ("style", "srcset", "action", "ping", "background", "poster", "srcdoc"), (tag, key)
            if key in ("src", "href", "data", "xlink:href"):
                assert str(value).startswith(("#", "data:")), (tag, key, value)
    assert not {tag for tag, _ in page.elements} & {"iframe", "object", "embed", "base", "form", "foreignobject"}
    assert "@import" not in page.raw["style"][0][1]
    assert "url(" not in page.raw["style"][0][1]


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone() -> None:
    page = Page(render_report(report_of("plain")))
    policy = next(one["content"] for tag, one in page.elements if one.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.strip().split(" ", 1) for part in str(policy).split(";"))
    assert allowed["default-src"] == "'none'"
    assert allowed["img-src"] == "data:"
    scripts = [text for attributes, text in page.raw["script"] if attributes.get("type") != "application/json"]
    for key, (text,) in {"style-src": [text for _, text in page.raw["style"]], "script-src": scripts}.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed[key] == f"'sha256-{digest}'"


def test_json_is_what_was_given_and_ends_no_element() -> None:
    data = {"a": [1, 2.5, None, True, "</script>&<!--"], "€\u2028": {"b": -1e-300}}
    text = embedded_json(data)
    assert json.loads(text) == data
    assert not set("<>&\u2028") & set(text)
    assert json.loads(embedded_json([float("nan"), float("inf"), 1.0])) == [None, None, 1.0]


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        "<foreignObject/>",
        '<image href="http://example.org/a.png"/>',
        '<use href="other.svg#a"/>',
        '<path fill="url(http://example.org/a)"/>',
        '<image href="data:image/svg+xml;base64,AAAA"/>',
        "<unclosed>",
    ],
)
def test_a_drawing_with_more_than_a_drawing_is_refused(inner: str) -> None:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1">{inner}</svg>'
    picture = ReportPicture("p", "p", "p", svg, "p", "p", {})
    with pytest.raises(ValueError, match="SVG"):
        render_report(Report("t", "a", [Section("s", pictures=[picture])]))


def test_a_row_has_a_cell_for_each_column() -> None:
    with pytest.raises(ValueError, match="2 columns and a row of 1"):
        ReportTable("t", "t", [Column("a"), Column("b")], [["1"]])
