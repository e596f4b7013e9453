"""What a part of an analysis is."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import JsonValue

from debiasctl.analysis.book import Arrays, Book
from debiasctl.analysis.record import AnalysisRecord, Quantity, Series
from debiasctl.analysis.subject import Subject
from debiasctl.reporting.picture import Picture

LATENTS = "latents"  # the setting of a part that measured latents: the SHA-256 of the autoencoder
IN_LATENTS = "all figures are those of the latents that the network makes; pictures show what these decode to"


@dataclass(frozen=True)
class Choices:
    """What a user may choose of an analysis; None is each part's own default.

    `num` are images, and `trajectories` the numbers of steps of sampling that are compared.
    """

    num: int | None = None
    seed: int = 0
    trajectories: tuple[int, ...] | None = None
    counterfactual: tuple[str, ...] = ()
    metric: str | None = None  # that held-out errors are compared with: `metric` or `metric@steps`


@dataclass(frozen=True)
class Found:
    """What a part measured. `images` are arrays [N, C, H, W] in [-1, 1] for pictures, by name."""

    quantities: list[Quantity] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    images: Arrays = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class Part(ABC):
    """A part of an analysis of one run; a part with others in it is made for the run beside each of them.

    `asked_as` is what a user asks for it by, if that is not its name: parts may share it, such as one of each run and
    one of each pair of runs. One that is `optional` is made only if it is asked for. Where `averages` is true, its
    pictures show several seeds of an arm by their mean; others are given the first seed of each arm alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs_other: ClassVar[bool] = False  # whether it is made of two runs, such as stitched sampling
    needs_all: ClassVar[bool] = False  # whether it is made once, of the first run and all others, such as a ranking
    asked_as: ClassVar[str | None] = None
    optional: ClassVar[bool] = False
    averages: ClassVar[bool] = False
    of_latents: ClassVar[bool] = False  # whether its figures are of what a network makes, and not of images

    @abstractmethod
    def settings(self, subject: Subject, others: Sequence[Subject], choices: Choices) -> dict[str, JsonValue]:
        """Everything that the figures depend on besides the networks and the data, resolved.

        Raises:
            UsageError: if the run cannot be analysed so; the message says what to do.
        """

    @abstractmethod
    def measure(self, subject: Subject, others: Sequence[Subject], settings: dict[str, JsonValue], book: Book) -> Found:
        """Measure, unit by unit through `book`."""

    @abstractmethod
    def findings(self, record: AnalysisRecord) -> list[str]:
        """What was found, in plain sentences with its uncertainty; nothing that was not measured."""

    @abstractmethod
    def pictures(self, records: Sequence[AnalysisRecord], images: Sequence[Arrays]) -> list[Picture]:
        """The pictures of one run or of several side by side; `images` are those of each record."""
