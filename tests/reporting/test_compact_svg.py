"""A drawing in a report takes fewer letters, and is drawn the same."""

import copy
import re
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest
from test_study_pictures import ARMS, DRAWINGS, panel

from debiasctl.reporting.report import inline_svg as inline
from debiasctl.reporting.report.compact_svg import compact
from debiasctl.reporting.study_pictures import draw_curves, svg_of

_PRESENTED = ("fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-linecap", "stroke-dasharray")


def points(path: str) -> Iterator[tuple[str, float, float]]:
    """The commands of a path with their absolute points."""
    x = y = 0.0
    command, start = "", (0.0, 0.0)
    words = iter(re.findall(r"[A-Za-z]|-?(?:\d+\.?\d*|\.\d+)", path))
    for word in words:
        if word.isalpha():
            command = word
            if command in "zZ":
                x, y = start
                yield "Z", x, y
                continue
            word = next(words)
        base = (x, y) if command.islower() else (0.0, 0.0)
        for number in range({"M": 1, "L": 1, "Q": 2, "C": 3}[command.upper()]):
            first = word if number == 0 else next(words)
            x, y = base[0] + float(first), base[1] + float(next(words))
            yield command.upper(), x, y
        if command == "M":
            start, command = (x, y), "L"


def drawn(root: ElementTree.Element) -> list[tuple]:
    """What is drawn, in order: points, and the properties that hold for them, inherited ones among them."""
    named = {one.get("id"): one for one in root.iter() if one.get("id")}
    found = []

    def visit(one: ElementTree.Element, inherited: dict[str, str], dx: float, dy: float, clips: tuple) -> None:
        held = inherited | {key: value for key in _PRESENTED if (value := one.get(key)) is not None}
        if (clip := one.get("clip-path")) is not None:
            rect = named[clip.removeprefix("url(#").removesuffix(")")][0]
            clips = (*clips, tuple(round(float(rect.get(key, "0"))) for key in ("x", "y", "width", "height")))
        if one.tag in ("defs", "clipPath"):
            return
        if one.tag == "use":
            dx, dy = float(one.get("x", "0")), float(one.get("y", "0"))
            visit(named[one.get("href", "")[1:]], held, dx, dy, clips)
        if one.tag == "path":
            found.append(([(name, x + dx, y + dy) for name, x, y in points(one.get("d", ""))], held, clips))
        if one.tag in ("text", "image", "rect"):
            place = [("M", float(one.get("x", "0")), float(one.get("y", "0")))]
            found.append((place, held | {"is": f"{one.tag}{''.join(one.itertext())}"}, clips))
        for child in one:
            visit(child, held, dx, dy, clips)

    visit(root, {}, 0.0, 0.0, ())
    return found


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_compact_drawing_draws_the_same(name: str) -> None:
    whole = inline._copied(ElementTree.fromstring(svg_of(DRAWINGS[name]("page"))))
    assert whole is not None
    short = copy.deepcopy(whole)
    compact(short, prefix="W0-")
    before, after = drawn(whole), drawn(short)
    assert [(held, clips, [p[0] for p in path]) for path, held, clips in after] == [
        (held, clips, [p[0] for p in path]) for path, held, clips in before
    ]
    for (path, *_), (other, *_) in zip(before, after, strict=True):
        for (_, x, y), (_, u, v) in zip(path, other, strict=True):
            assert (u, v) == pytest.approx((x, y), abs=0.0101)
    assert all(one.get("id", "W0-").startswith("W0-") for one in short.iter())
    assert all(one.attrib for one in short.iter("g"))


def test_it_takes_two_thirds_of_the_letters() -> None:
    """Most of a report of six runs are the drawings' coordinates and the ids that matplotlib gives everything."""
    root = inline._copied(ElementTree.fromstring(svg_of(draw_curves([panel()] * 4, ARMS, width="page"))))
    assert root is not None
    before = len(ElementTree.tostring(root))
    compact(root, prefix="W0-")
    assert len(ElementTree.tostring(root)) < 0.65 * before


@pytest.mark.parametrize(
    "path, short",
    [
        ("M 0 1403.64  L 234 1403.64  L 234 0  z ", "M0 1403.64l234 0 0-1403.64z"),
        ("M 1.006 2 3 4 Q 1 1 2.5 -0.5", "M1.01 2l1.99 2q-2-3-.5-4.5"),
        ("M 0.001 0.004 C 1 1 2 2 3 3 C 3 3 3 3 0 0", "M0 0c1 1 2 2 3 3 0 0 0 0-3-3"),
        ("m 1 2 l 3.125 4", "m 1 2 l 3.125 4"),
        ("M 1 2 A 1 1 0 0 0 3 3", "M 1 2 A 1 1 0 0 0 3 3"),
        ("M 1 2 L 3", "M 1 2 L 3"),
        ("", ""),
    ],
)
def test_paths(path: str, short: str) -> None:
    root = ElementTree.fromstring(f'<svg viewBox="0 0 1 1"><path d="{path}"/></svg>')
    compact(root, prefix="p")
    assert root[0].get("d") == short


def test_what_is_scaled_keeps_its_digits_and_a_text_its_colour() -> None:
    scaled = '<svg><g transform="scale(90 90)"><path id="a" d="M 0.00123 0 L 0.5 0.25"/></g></svg>'
    root = ElementTree.fromstring(scaled)
    compact(root, prefix="p")
    assert root[0][0].get("d") == "M 0.00123 0 L 0.5 0.25"
    texts = '<svg><g clip-path="url(#c)"><text fill="#111">a</text><path d="M 1 1" fill="#111"/></g></svg>'
    root = ElementTree.fromstring(texts)
    compact(root, prefix="p")
    assert [one.get("fill") for one in root[0]] == ["#111", "#111"]
    assert root[0].get("fill") is None
