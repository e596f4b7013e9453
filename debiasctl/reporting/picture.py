"""A picture that can be drawn for a paper, a report or a terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from debiasctl.reporting.style import Width

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture: what it shows in words, its data as JSON, and how it is drawn; `text` draws it with characters."""

    name: str
    title: str
    caption: str
    alt: str
    data: Any
    draw: "Callable[[Width], Figure]"
    text: Callable[[int], str] | None = None
