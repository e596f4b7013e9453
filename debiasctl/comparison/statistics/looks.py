"""Looks at the data while seeds are added, declared beforehand, with the type I error spent over them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds an arm at which a verdict may stop the sweep, and the one of them that this look is.

    All are declared before the first seed is trained. Arms that lack a seed at this look, because a run failed, change
    nothing in it.

    Raises:
        ValueError: if the numbers do not increase, start below 2, or do not hold `at`.
    """

    planned: tuple[int, ...]
    at: int

    def __post_init__(self) -> None:
        increasing = all(first < second for first, second in zip(self.planned, self.planned[1:], strict=False))
        if not self.planned or self.planned[0] < 2 or not increasing:
            raise ValueError(f"looks are numbers of seeds from 2 that increase, not {self.planned}")
        if self.at not in self.planned:
            raise ValueError(f"{self.at} seeds is none of the looks declared beforehand: {self.planned}")
