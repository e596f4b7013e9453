"""Writing a report as one HTML file that needs no network and no other file."""

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from debiasctl.files import write_bytes
from debiasctl.reporting.names import shown
from debiasctl.reporting.report.document import Cell, Report, ReportPicture, ReportTable
from debiasctl.reporting.report.inline_svg import inline_svg


def render_report(report: Report) -> str:
    """The report as the text of an HTML page, which holds its style, its script, its figures and their data.

    The page's policy allows no request, and no style or script but these, whatever names are in it.

    Raises:
        ValueError: if a figure's SVG holds what a drawing does not need.
        TypeError: if a figure's data are nothing that JSON has.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("debiasctl.reporting.report", "page"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=lambda value: _finalized(value),
    )  # fmt: skip
    style = environment.get_template("page.css").render()
    script = environment.get_template("page.js").render()
    ids, numbers = _Ids(), dict[str, int]()

    def drawn(picture: ReportPicture, own: str, *, narrow: bool = False) -> Markup:
        svg = (picture.narrow or "") if narrow else picture.svg
        # short, as markers refer to them thousands of times; no id of the page begins with a capital letter
        prefix = f"{'N' if narrow else 'W'}{numbers.setdefault(own, len(numbers))}-"
        return Markup(inline_svg(svg, prefix=prefix, label=shown(picture.alt)))

    return environment.get_template("page.html").render(
        report=report,
        policy=f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
        "base-uri 'none'; form-action 'none'",
        style=Markup(style),
        script=Markup(script),
        sections=[(ids.new(f"section {section.title}"), section) for section in report.sections],
        new_id=ids.new,
        drawn=drawn,
        rows=_rows,
        sort_value=_sort_value,
        embedded=lambda value: Markup(embedded_json(value)),
        environment=report.environment,
    )


def write_report(path: Path, report: Report) -> None:
    """Write the report, atomically."""
    write_bytes(path, render_report(report).encode())


def embedded_json(value: Any) -> str:
    """JSON that can stand within a script element: no mark of it ends the element or begins another.

    Numbers that are not finite become null, for JSON has none.
    """
    text = json.dumps(_finite(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finalized(value: object) -> object:
    from markupsafe import Markup

    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_finite(item) for item in value]
    return value


def _rows(table: ReportTable) -> Iterator[tuple[bool, list[Cell]]]:
    """Each row's cells, and whether it is set in bold."""
    for number, row in enumerate(table.rows):
        yield number in table.strong, [Cell(cell) if isinstance(cell, str) else cell for cell in row]


def _sort_value(cell: Cell) -> str:
    """What a cell is sorted by, where it is not its text."""
    if cell.sort is None or (isinstance(cell.sort, float) and not math.isfinite(cell.sort)):
        return ""
    return cell.sort if isinstance(cell.sort, str) else f"{cell.sort:.12g}"


class _Ids:
    """Ids of a page, each given once; none holds two hyphens in a row, after which others are made of it."""

    def __init__(self) -> None:
        self._given = {"main", "environment", "theme", "contents"}

    def new(self, text: str) -> str:
        """An id made of the text."""
        plain = re.sub(r"[^a-z0-9]+", "-", text.casefold())[:40].strip("-") or "part"
        plain = plain if plain[0].isalpha() else f"part-{plain}"
        name, number = plain, 2
        while name in self._given:
            name, number = f"{plain}-{number}", number + 1
        self._given.add(name)
        return name
