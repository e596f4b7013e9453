"""The verdict over training seeds: which arm is better, by how much, and how many more seeds would settle it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["lower", "higher", "zero"]
Word = Literal["better", "worse", "equivalent", "inconclusive", "withheld", "one seed"]
Method = Literal["pooled t", "paired t", "borrowed"]


@dataclass(frozen=True)
class ArmValues:
    """The figures of one arm under one cell: one a seed, corrected for bias where there is a correction.

    Raises:
        ValueError: if a seed stands twice, or the numbers of seeds and values differ.
    """

    arm: str
    seeds: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.seeds) != len(self.values):
            raise ValueError(f"arm {self.arm!r} has {len(self.seeds)} seeds and {len(self.values)} values")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"arm {self.arm!r} has a seed twice: {self.seeds}")


@dataclass(frozen=True)
class Cell:
    """One metric under one measurement (sampler, steps, features), for all arms.

    `sampling` is the mean sampling variance of a figure of one run, where it is known: `borrowed` needs it.
    """

    key: str  # "fd_local@50": unique
    metric: str
    steps: int | None
    better: Better
    arms: tuple[ArmValues, ...]  # in the same order in all cells; the first is the reference, if none is named
    withheld: Mapping[str, str] = field(default_factory=dict)  # arm -> why its figures allow no verdict
    floor: float | None = None  # what real images get
    sampling: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What the seeds say of one arm against the reference in one cell.

    `low` and `high` are a 95 % interval of the difference, as are `ratio_low` and `ratio_high` of the ratio. Where
    closer to 0 is better, `difference` and `ratio` are of the distances of the two means from 0.
    """

    cell: str
    arm: str
    reference: str
    word: Word
    difference: float | None  # arm minus reference
    low: float | None
    high: float | None
    ratio: float | None  # arm over reference
    ratio_low: float | None
    ratio_high: float | None
    ratio_note: str | None  # why the ratio or a limit is missing: "unbounded", ...
    p: float | None  # of this comparison alone
    p_corrected: float | None  # for all comparisons, the primary metric first
    probability_better: float | None  # that the next run of the arm beats the next of the reference
    probability_low: float | None
    probability_high: float | None
    margin: float | None  # within which a difference counts as none
    seeds_more: (
        int | None
    )  # more an arm, for 80 % power at the difference seen; 0 if decided; None if unknown or > 1,000
    seeds_more_equivalence: int | None  # more an arm, to find two equal arms equivalent with 80 % power
    method: Method | None
    num: tuple[int, int]  # seeds of the arm and of the reference that the verdict rests on
    primary: bool
    seed_correlation: float | None  # of the two arms' figures over the seeds they share
    evidence: str  # one plain sentence
    reason: str | None  # why there is no better, worse or equivalent
