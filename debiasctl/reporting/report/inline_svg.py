"""Matplotlib's SVG as part of a page: without styles of its own, with ids of its own, and nothing that could run."""

import re
from xml.etree import ElementTree

from debiasctl.reporting.report.compact_svg import compact

_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_ELEMENTS = {
    "svg", "g", "defs", "path", "use", "text", "tspan", "image", "clipPath", "rect", "circle", "ellipse", "line",
    "polyline", "polygon", "linearGradient", "radialGradient", "stop",
}  # fmt: skip
_LEFT_OUT = {"metadata", "style", "title", "desc"}  # as matplotlib writes them; a page's own words take their place
_ATTRIBUTES = {
    "id", "d", "x", "y", "x1", "x2", "y1", "y2", "dx", "dy", "r", "rx", "ry", "cx", "cy", "width", "height", "points",
    "transform", "viewBox", "preserveAspectRatio", "clip-path", "clip-rule", "fill", "fill-opacity", "fill-rule",
    "stroke", "stroke-width", "stroke-opacity", "stroke-linejoin", "stroke-linecap", "stroke-dasharray",
    "stroke-dashoffset", "stroke-miterlimit", "opacity", "font-size", "font-weight", "font-style",
    "text-anchor", "dominant-baseline", "image-rendering", "offset", "stop-color", "stop-opacity", "visibility",
    "gradientUnits", "gradientTransform", "clipPathUnits", "href",
}  # fmt: skip
_FONT = re.compile(r"^(?P<rest>(?:[a-z0-9]+ )*?)(?P<size>[\d.]+(?:px|pt))(?:/\S+)? (?P<family>.+)$")
_IMAGE = re.compile(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=\s]*")
_REFERENCE = re.compile(r"url\(#([^)\s]+)\)")
_SCALE = 1.25 * 4 / 3  # pixels of the page a point: letters of 7.5 points are read on a screen at 12.5 pixels


def inline_svg(text: str, *, prefix: str, label: str) -> str:
    """The SVG as an element of a page whose policy allows no inline styles; `label` says what it shows.

    Colours become attributes, which the page's style sheet changes for a dark page. All ids begin with `prefix`. What
    is not seen is left out; see `compact`.

    Raises:
        ValueError: if it holds what a drawing does not need, such as a script or a reference to another file.
    """
    try:
        given = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"this is no SVG: {error}") from error
    root = _copied(given)
    if root is None or root.tag != "svg":
        raise ValueError("this is no SVG")
    box = [float(number) for number in root.get("viewBox", "").replace(",", " ").split()]
    if len(box) != 4:
        raise ValueError("the SVG has no viewBox")
    compact(root, prefix=prefix)
    root.set("width", f"{box[2] * _SCALE:.0f}")
    root.set("height", f"{box[3] * _SCALE:.0f}")
    for name, value in {
        "role": "img", "aria-label": label, "stroke-linejoin": "round", "stroke-linecap": "butt", "focusable": "false",
    }.items():  # fmt: skip
        root.set(name, value)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _copied(given: ElementTree.Element) -> ElementTree.Element | None:
    """The element without namespaces and styles, or None where it is left out."""
    name = given.tag.removeprefix(f"{{{_SVG}}}") if isinstance(given.tag, str) else ""
    if name in _LEFT_OUT:
        return None
    if name not in _ELEMENTS:
        raise ValueError(f"an SVG in a report must not hold <{name or 'a comment'}>")
    made = ElementTree.Element(name)
    attributes = dict(given.attrib)
    for declaration in attributes.pop("style", "").split(";"):
        key, _, value = declaration.partition(":")
        attributes.update(_font(value.strip()) if key.strip() == "font" else {key.strip(): value.strip()})
    for key, value in attributes.items():
        local = key.removeprefix(f"{{{_XLINK}}}")
        if local in _ATTRIBUTES:
            made.set(local, _checked(local, value))
    made.text = given.text if name in ("text", "tspan") else None
    for child in given:
        copy = _copied(child)
        if copy is not None:
            copy.tail = child.tail if name in ("text", "tspan") else None
            made.append(copy)
    return made


def _font(value: str) -> dict[str, str]:
    """The attributes for CSS's `font` as matplotlib writes it; the page gives the family."""
    found = _FONT.match(value)
    if found is None:
        return {}
    words = found["rest"].split()
    attributes = {"font-size": found["size"]}
    for word in words:
        if word in ("italic", "oblique"):
            attributes["font-style"] = word
        elif word == "bold" or word.isdigit():
            attributes["font-weight"] = word
    return attributes


def _checked(key: str, value: str) -> str:
    """The value of an attribute.

    Raises:
        ValueError: if it refers to what is outside the drawing.
    """
    if key == "href" and not value.startswith("#"):
        if not _IMAGE.fullmatch(value):
            raise ValueError(f"an SVG in a report must not refer to {value[:60]!r}")
        return "".join(value.split())
    if "url(" in value and not _REFERENCE.fullmatch(value):
        raise ValueError(f"an SVG in a report must not refer to {value[:60]!r}")
    return value
