"""What a sweep is asked to find out, before anything is resolved: from a study file, or from the command line."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from debiasctl.api.options import Settings
from debiasctl.errors import UsageError

Place = tuple[str | int, ...]  # of a key or an item in a study file
MOST_SEEDS = 1000


class _Part(Settings):
    """The base of a study's parts; text is never taken for a number."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Measures(_Part):
    """How the runs of every arm are sampled and measured; training seed s is sampled with seed s."""

    steps: list[int] | None = Field(
        None, min_length=1, description="sampling steps (default: 50, or all timesteps where there are fewer)"
    )
    num: int = Field(1000, ge=2, description="images drawn from each run")
    sampler: str = Field("ddim", description="sampler, as name or name:key=value,...")
    features: str | None = Field(None, description="feature extractor (default: as the command evaluate chooses it)")
    metrics: list[str] | None = Field(None, min_length=1, description="metrics (default: all)")

    @field_validator("steps")
    @classmethod
    def _steps_are_counts(cls, steps: list[int] | None) -> list[int] | None:
        if steps is not None and min(steps) < 1:
            raise ValueError("sampling steps are whole numbers from 1")
        return None if steps is None else list(dict.fromkeys(steps))

    @field_validator("steps", mode="before")
    @classmethod
    def _one_is_a_list(cls, steps: Any) -> Any:
        return [steps] if isinstance(steps, int) and not isinstance(steps, bool) else steps


class UntilDecided(_Part):
    """When a sweep may add seeds by itself: after each round of seeds it looks at the verdict."""

    max_seeds: int = Field(ge=2, le=MOST_SEEDS, description="seeds of each arm at which it stops whatever the verdict")


class Study(_Part):
    """A sweep as it is asked for; the keys of a study file."""

    name: str | None = Field(None, description="the sweep's name (default: the file's, or the data set's)")
    dataset: str = Field(
        description="data set, as name or name:key=value,...; or the path of a folder or zip of images"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of all arms, as in a spec")
    grid: dict[str, list[Any]] = Field(
        default_factory=dict, description="a setting's values; arms are all combinations"
    )
    arms: list[dict[str, Any]] = Field(default_factory=list, description="settings of each arm, in place of a grid")
    seeds: list[int] = Field(
        [0, 1, 2], min_length=1, max_length=MOST_SEEDS, description="how many seeds, from 0; or the seeds themselves"
    )
    evaluate: Measures = Field(Measures(), description="how runs are measured")
    primary: str | None = Field(None, description="the metric that decides, such as fd_local@50")
    reference: str | None = Field(None, description="the arm that the others are compared with (default: the first)")
    margin: float = Field(0.05, gt=0, lt=1, description="share of the reference's figure that counts as equivalent")
    until_decided: UntilDecided | None = Field(None, description="add seeds until the verdict is clear")
    engine: str = Field("local", description="what runs the jobs, as name or name:key=value,...")
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads of each run")
    trial: bool = Field(False, description="a small network and a budget of about half an hour in all, on this machine")

    @field_validator("seeds", mode="before")
    @classmethod
    def _a_number_of_seeds(cls, seeds: Any) -> Any:
        if not isinstance(seeds, int) or isinstance(seeds, bool):
            return seeds
        if not 0 < seeds <= MOST_SEEDS:
            raise ValueError(f"give a number of seeds from 1 to {MOST_SEEDS}, or a list of the seeds themselves")
        return list(range(seeds))

    @field_validator("seeds")
    @classmethod
    def _seeds_are_seeds(cls, seeds: list[int]) -> list[int]:
        if min(seeds) < 0 or max(seeds) >= 2**63:
            raise ValueError("a seed is a whole number from 0 to 2^63 - 1")
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed is given twice")
        return seeds

    @field_validator("grid")
    @classmethod
    def _axes_have_values(cls, grid: dict[str, list[Any]]) -> dict[str, list[Any]]:
        empty = [name for name, values in grid.items() if not values]
        if empty:
            raise ValueError(f"'{empty[0]}' has no values")
        return grid

    @field_validator("arms")
    @classmethod
    def _grid_or_arms(cls, arms: list[dict[str, Any]], info: ValidationInfo) -> list[dict[str, Any]]:
        if arms and info.data.get("grid"):
            raise ValueError("a study has a grid or a list of arms. Give one of them")
        return arms


@dataclass(frozen=True)
class Origin:
    """Where a study was read: its file, and the line of each of its keys and items; nothing for the command line."""

    file: str | None = None
    lines: Mapping[Place, int] = field(default_factory=dict)

    def at(self, place: Place) -> str:
        """`FILE, line N: ` of the nearest part that has a line; empty for the command line."""
        if self.file is None:
            return ""
        while place and place not in self.lines:
            place = place[:-1]
        return f"{self.file}, line {self.lines[place]}: " if place else f"{self.file}: "

    @contextmanager
    def locating(self, *place: str | int) -> Iterator[None]:
        """Put the place before the message of what is refused in the block."""
        try:
            yield
        except UsageError as error:
            raise self.located(error, place) from error

    def located(self, error: UsageError, place: Place) -> UsageError:
        """The error with the place before its message."""
        return error if self.file is None else type(error)(f"{self.at(place)}{error}")
