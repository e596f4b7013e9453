"""Tables as lines of text of some width: what does not fit beside stands below, and no word is ever broken."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

GAP = "  "
INDENT = "    "
_NAMES = 0.4  # of the width, that names may take before the longest stand in lines of their own
_PROSE = 30  # columns that a text needs to stand beside the others
_PARTS = re.compile(r"\s*(?:[^\s,]+,?|,)")  # where a line may end: before a space, and after a comma


@dataclass(frozen=True)
class Table:
    """Columns and rows of text, and what becomes of them where they are wider than there is room.

    The first `keys` columns name a row. `prose` says that the last column is text, to be broken between words or put
    below its row. `spare` are names of columns that are left out, in this order, until there is room; `left_out` says
    which. All other columns go into further tables, which repeat the keys. Columns of numbers are aligned to the right,
    except those whose index is in `left`.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: int = 1
    prose: bool = False
    spare: Sequence[str] = ()
    left: Sequence[int] = ()
    rule: str = "─"

    def widths(self) -> list[int]:
        """The width of each column's widest cell."""
        return [max(map(text_width, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

    def fits(self, width: int | None) -> bool:
        """Whether every row takes one line; None is a width without an end."""
        return width is None or _sum(self.widths()) <= width

    def only(self, numbers: Sequence[int]) -> "Table":
        """The columns of these numbers."""
        return replace(
            self,
            columns=[self.columns[number] for number in numbers],
            rows=[[row[number] for number in numbers] for row in self.rows],
        )


def table_lines(table: Table, width: int | None) -> Iterator[str]:
    """The lines of a table, of which none is longer than `width` unless a single word is."""
    if table.fits(width) or width is None:
        yield from _grid(table, table.widths())
    elif table.prose:
        yield from _with_prose(table, width)
    else:
        kept = set(left_out(table, width))
        table = table.only([number for number, name in enumerate(table.columns) if name not in kept])
        yield from _in_parts(table, width)


def lines_under_names(table: Table, width: int | None) -> tuple[list[str], list[str]]:
    """As `table_lines`, but a few long names do not cost all rows their columns: each stands in a line of its own.

    Their cells follow in the next line. With the lines come the spare columns for which there is no room.
    """
    names = [row[0] for row in table.rows]
    most = 0 if width is None else int(_NAMES * width)
    if width is not None and not table.fits(width) and max(map(text_width, names), default=0) > most:
        above = {number: name for number, name in enumerate(names) if text_width(name) > most}
        rows = [["" if number in above else row[0], *row[1:]] for number, row in enumerate(table.rows)]
        under = replace(table, rows=rows)
        lines, before = list(table_lines(under, width)), 2 if table.rule else 1
        if len(lines) == before + len(rows) and max(map(text_width, lines)) <= width:  # a line a row
            shown = [line for number, text in enumerate(lines[before:]) for line in _with_name(above.get(number), text)]
            return lines[:before] + shown, left_out(under, width)
    return list(table_lines(table, width)), left_out(table, width)


def _with_name(name: str | None, line: str) -> list[str]:
    return [line] if name is None else [name, line]


def left_out(table: Table, width: int | None) -> list[str]:
    """The spare columns for which there is no room."""
    if width is None or not table.spare:
        return []
    widths = dict(zip(table.columns, table.widths(), strict=True))
    for number in range(len(table.spare)):
        gone = table.spare[:number]
        if _sum([size for column, size in widths.items() if column not in gone]) <= width:
            return list(gone)
    return list(table.spare)


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of that width, broken between words; where a word is longer, after its commas, or not at all."""
    lines = [""]
    for word in re.findall(r"\s*\S+", text):
        for part in [word] if text_width(word.strip()) <= width else _PARTS.findall(word):
            if lines[-1] and text_width(lines[-1] + part) > width:
                lines.append(part.strip())
            else:
                lines[-1] += part if lines[-1] else part.strip()
    return lines


def text_width(text: str) -> int:
    """The columns that a text takes in a terminal."""
    if text.isascii():
        return len(text)
    marks = sum(unicodedata.combining(letter) != 0 for letter in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)


def padded(text: str, width: int, *, right: bool = False) -> str:
    """A text with the spaces that fill its column."""
    spaces = " " * (width - text_width(text))
    return spaces + text if right else text + spaces


def _grid(table: Table, widths: Sequence[int]) -> Iterator[str]:
    """Header, rule and rows; cells that are wider than their column take several lines."""
    right = [False] * len(widths)
    for number, column in enumerate(zip(*table.rows, strict=True)):
        right[number] = number not in table.left and all(map(is_number, column))
    header = [padded(name, size, right=end) for name, size, end in zip(table.columns, widths, right, strict=True)]
    yield GAP.join(header).rstrip()
    if table.rule:
        yield table.rule * _sum(widths)
    for row in table.rows:
        cells = [
            [cell] if text_width(cell) <= size else wrapped(cell, size) for cell, size in zip(row, widths, strict=True)
        ]
        for line in zip_longest(*cells, fillvalue=""):
            yield GAP.join(
                padded(text, size, right=end) for text, size, end in zip(line, widths, right, strict=True)
            ).rstrip()


def _with_prose(table: Table, width: int) -> Iterator[str]:
    """The text of the last column beside the others if there is room for it, and else below each row."""
    *widths, _ = table.widths()
    room = width - _sum(widths) - len(GAP)
    if room >= max(_PROSE, *(_longest_word(row[-1]) for row in table.rows)):
        yield from _grid(table, [*widths, room])
        return
    others = table.only(range(len(widths)))
    if others.fits(width):
        header, *lines = _grid(replace(others, rule=""), widths)
        yield header
        yield table.rule * min(width, _sum(widths))
        for line, row in zip(lines, table.rows, strict=True):
            yield line
            yield from _below(row[-1], width)
        return
    for row in table.rows:  # each row is a list of its cells
        yield GAP.join(row[: table.keys])
        for name, cell in list(zip(table.columns, row, strict=True))[table.keys : -1]:
            if cell:
                yield from _below(f"{name}: {cell}", width)
        yield from _below(row[-1], width)


def _in_parts(table: Table, width: int) -> Iterator[str]:
    """As many tables as the columns need, below each other, each with the keys."""
    widths = table.widths()
    keys = widths[: table.keys]
    beside = _sum(keys) <= 0.6 * width
    room = width - (_sum(keys) + len(GAP) if beside else len(INDENT))
    sizes = [
        size if size <= room else max(room, *(_longest_word(row[number]) for row in (table.columns, *table.rows)))
        for number, size in enumerate(widths)
    ]
    parts: list[list[int]] = []
    for number in range(table.keys, len(widths)):
        if parts and _sum([sizes[one] for one in [*parts[-1], number]]) <= room:
            parts[-1].append(number)
        else:
            parts.append([number])
    for number, part in enumerate(parts):
        if number:
            yield ""
        shown = [sizes[one] for one in part]
        if beside:
            yield from _grid(table.only([*range(table.keys), *part]), [*keys, *shown])
            continue
        named = [GAP.join(row[: table.keys]).rstrip() for row in (table.columns, *table.rows)]
        rest = table.only(part)
        for name, row in zip(named[1:], rest.rows, strict=True):
            yield name
            header, line = list(_grid(replace(rest, rows=[row], rule=""), shown))[:2]
            yield INDENT + header
            yield INDENT + line


def _below(text: str, width: int) -> Iterator[str]:
    yield from (INDENT + line for line in wrapped(text, width - len(INDENT)))


def _longest_word(text: str) -> int:
    return max((text_width(part.strip()) for part in _PARTS.findall(text)), default=0)


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1)


def is_number(text: str) -> bool:
    """Whether a cell is a number, with a unit or a mark perhaps, or stands for one that is not there."""
    try:
        float(text.strip().split(" ")[0].replace(",", "") or "0")
    except ValueError:
        return text in ("-", "")
    return True
