"""A drawing in fewer letters, which looks the same: short ids, no empty groups, and no digits that cannot be seen."""

import re
from collections.abc import Iterator
from itertools import count
from xml.etree import ElementTree

_UNIT = 100  # of a point: a sixtieth of a pixel of the page
_COORDINATES = {"x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "cx", "cy", "r", "points"}
_INHERITED = (
    "fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-linecap", "stroke-linejoin",
    "stroke-dasharray", "stroke-dashoffset",
)  # fmt: skip
_NUMBER = re.compile(r"-?\d*\.\d+(?![\d.]*e)")
_TOKEN = re.compile(r"\s*(?:([MLQCZz])|(-?\d*\.?\d+(?:e-?\d+)?))[\s,]*")
_PAIRS = {"M": 1, "L": 1, "Q": 2, "C": 3}  # points that a command of a path takes
_MOVE = re.compile(r"(translate|rotate)\(([^)]*)\)")
_UNTURNED = re.compile(r"rotate\(-?0[ ,)][^()]*\)?")
_SCALED = re.compile(r"(?:scale\((?!-?1 -?1\)|-?1\))|matrix\()")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def compact(root: ElementTree.Element, *, prefix: str) -> None:
    """Shorten a drawing in place; the ids that are referred to begin with `prefix`, and others are left out.

    References must be `href="#id"` or `url(#id)`, and every id unique. Coordinates are rounded to a hundredth of a
    point, unless something is scaled.
    """
    numbers = count()
    names: dict[str, str] = {}
    for element in root.iter():
        for name in _referred(element):
            if name not in names:
                names[name] = f"{prefix}{next(numbers)}"
    scaled = any(_SCALED.search(element.get("transform", "")) for element in root.iter())
    for element in root.iter():
        _rename(element, names)
        if not scaled:
            _round(element)
    _unwrap(root)


def _referred(element: ElementTree.Element) -> Iterator[str]:
    for key, value in element.attrib.items():
        if key == "href" and value.startswith("#"):
            yield value[1:]
        elif (found := _REFERENCE.fullmatch(value)) is not None:
            yield found[1]


def _rename(element: ElementTree.Element, names: dict[str, str]) -> None:
    for key, value in list(element.attrib.items()):
        if key == "id" and value not in names:
            del element.attrib[key]
        elif key == "id":
            element.set(key, names[value])
        elif key == "href" and value.startswith("#"):
            element.set(key, f"#{names[value[1:]]}")
        elif (found := _REFERENCE.fullmatch(value)) is not None:
            element.set(key, f"url(#{names[found[1]]})")


def _round(element: ElementTree.Element) -> None:
    for key, value in list(element.attrib.items()):
        if key == "d":
            element.set(key, _path(value))
        elif key in _COORDINATES:
            element.set(key, _NUMBER.sub(_rounded, value))
        elif key == "transform" and _UNTURNED.fullmatch(value):
            del element.attrib[key]
        elif key == "transform":
            element.set(key, _MOVE.sub(lambda match: f"{match[1]}({_NUMBER.sub(_rounded, match[2])})", value))


def _rounded(match: re.Match[str]) -> str:
    return _text(round(float(match[0]) * _UNIT))


def _text(hundredths: int) -> str:
    whole, part = divmod(abs(hundredths), _UNIT)
    decimals = f".{part:02d}".rstrip("0") if part else ""
    return f"{'-' * (hundredths < 0)}{whole or ('' if part else 0)}{decimals}"


def _path(text: str) -> str:
    """A path of absolute M, L, Q, C and z with rounded points, each relative to the one before; another as it is."""
    tokens = list(_TOKEN.finditer(text))
    if "".join(one[0] for one in tokens) != text:
        return text
    words, command, last = [], "", (0, 0)
    place = 0
    while place < len(tokens):
        letter = tokens[place][1]
        if letter in ("z", "Z"):
            words.append("z")
            command, place = "", place + 1
            continue
        if letter is not None:
            command, place = letter, place + 1
        num = 2 * _PAIRS.get(command, 0)
        numbers = [one[2] for one in tokens[place : place + num]]
        if not num or len(numbers) < num or None in numbers:
            return text
        place += num
        points = [round(float(one) * _UNIT) for one in numbers]
        pairs = list(zip(points[::2], points[1::2], strict=True))
        first = (0, 0) if command == "M" else last
        words += [command if command == "M" else command.lower(), *(x for pair in pairs for x in _apart(pair, first))]
        last, command = pairs[-1], "L" if command == "M" else command
    return _joined(words)


def _apart(pair: tuple[int, int], first: tuple[int, int]) -> tuple[str, str]:
    return _text(pair[0] - first[0]), _text(pair[1] - first[1])


def _joined(words: list[str]) -> str:
    """Commands and numbers with no more between them than tells them apart; a repeated command is left out."""
    found, command, after_number = [], "", False
    for word in words:
        if word.isalpha():
            if word != command or word == "M":
                found.append(word)
                after_number = False
            command = word
            continue
        found.append(f" {word}" if after_number and word[0] != "-" else word)
        after_number = True
    return "".join(found)


def _unwrap(element: ElementTree.Element) -> None:
    """Put the children of groups without attributes in their places, and what all of a group's have at the group."""
    children: list[ElementTree.Element] = []
    for child in element:
        _unwrap(child)
        if child.tag == "g" and not child.attrib:
            children += list(child)
        elif len(child) or child.tag not in ("g", "defs"):
            children.append(child)
    element[:] = children
    if element.tag == "g" and len(children) > 1 and all(child.tag in ("path", "use") for child in children):
        for key in _INHERITED:
            values = {child.get(key) for child in children}
            if key not in element.attrib and len(values) == 1 and None not in values:
                element.set(key, values.pop() or "")
                for child in children:
                    del child.attrib[key]
