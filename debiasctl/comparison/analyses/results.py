"""What an analysis of several runs found: records with their arms and seeds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from debiasctl.analysis.analyze import read_images
from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.part import Part
from debiasctl.analysis.record import AnalysisRecord


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


@dataclass(frozen=True)
class PartResult:
    """One part's records, arm by arm and by ascending seed."""

    part: Part
    entries: Sequence[Entry]

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
