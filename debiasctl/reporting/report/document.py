"""What a report holds, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Tone = Literal["", "better", "worse", "equivalent", "inconclusive", "withheld", "quiet"]


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, the value by which it is sorted (by default the text), and how it is marked."""

    text: str
    sort: float | str | None = None
    tone: Tone = ""
    help: str = ""  # shown beside the text, small


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    number: bool = False  # aligned to the right
    help: str = ""


@dataclass(frozen=True)
class ReportTable:
    """A table, each of whose rows has a cell a column; `strong` are the rows that are set in bold."""

    id: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell | str]]
    strong: frozenset[int] = frozenset()
    notes: Sequence[str] = ()
    folded: bool = False  # behind a title that opens it

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table {self.id!r} has {len(self.columns)} columns and a row of {len(row)} cells")


@dataclass(frozen=True)
class ReportPicture:
    """A figure: SVG as matplotlib writes it, also for a narrow page; what it shows in words, and where it comes from.

    `command` makes it again; `data` is what is drawn, as JSON.
    """

    id: str
    title: str
    caption: str
    svg: str
    alt: str
    command: str
    data: Any
    narrow: str | None = None


@dataclass(frozen=True)
class Points:
    """Sentences under a title of their own."""

    title: str
    sentences: Sequence[str]


@dataclass(frozen=True)
class Section:
    """A part of the report under a heading."""

    title: str
    text: Sequence[str] = ()
    tables: Sequence[ReportTable] = ()
    pictures: Sequence[ReportPicture] = ()
    points: Sequence[Points] = ()


@dataclass(frozen=True)
class Report:
    """A report: the answer in one sentence, what has to be known of its standing, and its sections.

    `environment` gives names and values by group, for example the versions of packages; `created` is a date and time.
    """

    title: str
    answer: str
    sections: Sequence[Section]
    status_lines: Sequence[str] = ()
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    created: str = ""
    command: str = ""
