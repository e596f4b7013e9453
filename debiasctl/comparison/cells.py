"""What a verdict is made from: the figures of all arms, one a seed, under one measurement."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Better = Literal["lower", "higher", "zero"]


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

    `sampling` is the mean sampling variance of the figure of one run, where it is known: `borrowed` needs it.
    """

    key: str  # "fd_local@50": unique
    metric: str
    steps: int | None
    better: Better
    arms: tuple[ArmValues, ...]  # in the same order in all cells; the first is the reference, if none is named
    withheld: Mapping[str, str] = field(default_factory=dict)  # arm -> why its figures allow no verdict
    floor: float | None = None  # what real images get
    sampling: float | None = None
