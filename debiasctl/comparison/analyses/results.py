"""What an analysis of several runs found: records with their arms and seeds."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from debiasctl.analysis.analyze import read_images
from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.part import Part
from debiasctl.analysis.record import AGAIN, AnalysisRecord, record_path
from debiasctl.errors import EvaluationError
from debiasctl.reporting.picture import Picture
from debiasctl.reporting.style import Width

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Entry:
    """A record with the training seed of its run, and the folder that its pictures' arrays are in."""

    record: AnalysisRecord
    seed: int
    folder: Path

    @property
    def arm(self) -> str:
        """The run's arm, and the other's in a record of two runs."""
        others = list(dict.fromkeys(one.arm for one in self.record.others))
        return self.record.network.arm if len(others) != 1 else f"{self.record.network.arm} with {others[0]}"

    @cached_property
    def images(self) -> Arrays:
        """The arrays of its pictures."""
        return read_images(self.folder, self.record)


@contextmanager
def _whole(part: Part, entries: Sequence[Entry]) -> Iterator[None]:
    """Report records whose figures are not all there: a part reads those that it wrote, and relies on them.

    Raises:
        EvaluationError: if the block finds less in a record than it needs.
    """
    try:
        yield
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
        found = [str(record_path(one.folder, one.record.key)) for one in entries]
        named = f"the analysis in {found[0]} is" if len(found) == 1 else f"one of the analyses in {', '.join(found)} is"
        raise EvaluationError(
            f"{named} damaged (figures that the part '{part.name}' needs are missing or do not fit together: "
            f"{error}). {AGAIN}"
        ) from error


@dataclass(frozen=True)
class PartResult:
    """One part's records, arm by arm and by ascending seed."""

    part: Part
    entries: Sequence[Entry]

    def findings(self, entry: Entry) -> list[str]:
        """What the part says of one of its records.

        Raises:
            EvaluationError: if figures are missing in it.
        """
        with _whole(self.part, [entry]):
            return self.part.findings(entry.record)

    def pictures(self, entries: Sequence[Entry]) -> list[Picture]:
        """What the part draws of some of its records.

        Raises:
            EvaluationError: if figures are missing in one, or its arrays are damaged; a drawing raises it too.
        """
        images = [one.images for one in entries]
        with _whole(self.part, entries):
            found = self.part.pictures([one.record for one in entries], images)
        return [replace(one, draw=self._reported(one.draw, entries)) for one in found]

    def _reported(self, draw: "Callable[[Width], Figure]", entries: Sequence[Entry]) -> "Callable[[Width], Figure]":
        def drawn(width: Width) -> "Figure":
            with _whole(self.part, entries):
                return draw(width)

        return drawn

    @property
    def heading(self) -> str:
        """The part's title, with its name before it."""
        name, title = self.part.name.capitalize(), self.part.title
        return title if title.lower().startswith(self.part.name) else f"{name}: {title[:1].lower()}{title[1:]}"

    @property
    def arms(self) -> dict[str, list[Entry]]:
        """The records by arm, the one first that the others are compared with."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.arm, []).append(entry)
        return found

    @property
    def firsts(self) -> list[Entry]:
        """The first seed's record of each arm."""
        return [entries[0] for entries in self.arms.values()]


@dataclass(frozen=True)
class ArmInfo:
    """An arm: its name, and its runs and their training seeds."""

    name: str
    seeds: Sequence[int]
    runs: Sequence[str]


@dataclass(frozen=True)
class Analysis:
    """An analysis of several runs; `skipped` says what was left out, and why."""

    arms: Sequence[ArmInfo]
    parts: Sequence[PartResult]
    dataset: str = ""
    skipped: Sequence[str] = ()
    warnings: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=list)

    @property
    def several_seeds(self) -> bool:
        """Whether an arm has more than one seed."""
        return any(len(arm.seeds) > 1 for arm in self.arms)
