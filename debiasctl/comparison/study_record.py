"""The record of a study: arms of runs that differ in seed alone, their figures, the verdicts and the answer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from debiasctl.errors import ComparisonError
from debiasctl.reading.documents import read_json
from debiasctl.registry.messages import damage

STUDY_VERSION: Final = 1
Count = Annotated[int, Field(ge=0)]
Word = Literal["better", "worse", "equivalent", "inconclusive", "withheld", "one seed"]


class _Part(BaseModel):
    """The base of the record and its parts: frozen, complete and without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Member(_Part):
    """One seed of an arm: a run of the store, or images or figures made elsewhere (`run` is None).

    `source` names the run, the images' path, or the file of figures. `sampling_seeds` are those that its figures in
    this study were sampled with.
    """

    seed: int
    source: str
    run: str | None
    run_identity: str | None
    path: str | None
    checkpoint: Count | None
    images_seen: Count | None
    sampling_seeds: list[int]


class Arm(_Part):
    """Runs that differ in seed alone. `settings` has a value for each of the study's `differing` fields, None: none."""

    name: str
    kind: Literal["runs", "images", "figures"]
    settings: dict[str, JsonValue]
    members: list[Member] = Field(min_length=1)

    @property
    def seeds(self) -> list[int]:
        """The training seeds, ascending."""
        return [member.seed for member in self.members]


class SeedFigure(_Part):
    """One seed's figure with its sampling interval (95 %), which says nothing about other training seeds."""

    seed: int
    value: float
    low: float | None
    high: float | None
    record: str | None  # the evaluation's key


class ArmFigures(_Part):
    """An arm's figures in one cell: `missing` are the seeds without one, `mean` and `sd` are over seeds."""

    arm: str
    figures: list[SeedFigure]
    missing: list[int]
    mean: float | None
    sd: float | None
    withheld: str | None  # why no verdict is given on this arm


class StudyCell(_Part):
    """One metric under one measurement, for every arm.

    `measured` are the conditions that all its figures share. `figure` says which one of an evaluation's figures is
    compared: `corrected` is free of the bias in 1/N, and is taken where all evaluations have it.
    """

    key: str
    metric: str
    steps: int | None
    better: Literal["lower", "higher", "zero"]
    description: str
    measured: dict[str, JsonValue]
    figure: Literal["corrected", "value"]
    floor: float | None
    primary: bool
    arms: list[ArmFigures]


class VerdictRecord(_Part):
    """The verdict on an arm against the reference in one cell; see `comparison.verdict.Verdict`."""

    cell: str
    arm: str
    reference: str
    word: Word
    difference: float | None
    low: float | None
    high: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    ratio_note: str | None
    p: float | None
    p_corrected: float | None
    probability_better: float | None
    probability_low: float | None
    probability_high: float | None
    margin: float | None
    seeds_more: int | None
    seeds_more_equivalence: int | None
    method: str | None  # None where no test was made
    num: list[int]
    primary: bool
    seed_correlation: float | None
    evidence: str
    reason: str | None
    seeds_alone: float | None  # with one seed: how often seeds alone differ by as much, where other runs tell


class Point(_Part):
    """A point of a curve with its sampling interval."""

    x: float
    value: float
    low: float | None
    high: float | None


class Line(_Part):
    """One seed's curve."""

    arm: str
    seed: int
    points: list[Point]


class StudyCurve(_Part):
    """One metric of all arms and seeds against training images seen, or against sampling steps."""

    key: str
    metric: str
    better: Literal["lower", "higher", "zero"]
    axis: Literal["images_seen", "steps"]
    measured: dict[str, JsonValue]
    lines: list[Line]


class Efficiency(_Part):
    """How much sooner an arm reaches a level than the reference does: `ratio` above 1 is in the arm's favour.

    `reached` gives, for each arm, one x a seed (training images or sampling steps), None where the level is not
    reached. `at_least` says that the ratio is a lower limit ("≥"), `at_most` that it is an upper one ("≤").
    """

    kind: Literal["training", "sampling"]
    metric: str
    level: float
    curve: str  # key of the StudyCurve
    arm: str
    reference: str
    ratio: float | None
    low: float | None
    high: float | None
    at_least: bool
    at_most: bool
    reached: dict[str, list[float | None]]
    note: str | None


class Study(_Part):
    """What was compared, and what came out.

    `differing` are the settings in which arms differ. `answer` is one plain sentence. `warnings` are what may mislead,
    `notes` what a reader must know, and `skipped` what was left out by the user's word, with the reason.
    """

    schema_version: Literal[1]
    answer: str
    primary: str  # a cell's key
    reference: str  # an arm's name
    margin: float
    paired: bool  # all arms have the same seeds
    differing: list[str]
    by: list[str]
    arms: list[Arm] = Field(min_length=1)
    cells: list[StudyCell]
    verdicts: list[VerdictRecord]
    curves: list[StudyCurve]
    efficiency: list[Efficiency]
    warnings: list[str]
    notes: list[str]
    skipped: list[str]
    environment: dict[str, str]

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        arms = {arm.name for arm in self.arms}
        cells = {cell.key for cell in self.cells}
        if len(arms) < len(self.arms) or len(cells) < len(self.cells):
            raise ValueError("names of arms and keys of cells must be unique")
        named = {self.reference, *(one.arm for one in self.verdicts)} | {a.arm for c in self.cells for a in c.arms}
        unknown = sorted(named - arms) + sorted(({self.primary} | {one.cell for one in self.verdicts}) - cells)
        if unknown:
            raise ValueError(f"'{unknown[0]}' names no arm or cell of the study")
        return self

    def to_json(self) -> dict[str, JsonValue]:
        """Return the record as it is stored and printed."""
        return self.model_dump(mode="json")

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    def cell(self, key: str) -> StudyCell:
        """The cell of that key."""
        return next(cell for cell in self.cells if cell.key == key)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], *, source: str) -> "Study":
        """Make a study from the output of `to_json`.

        Raises:
            ComparisonError: if it is not one, or a newer version wrote it.
        """
        version = raw.get("schema_version")
        if type(version) is int and version > STUDY_VERSION:
            raise ComparisonError(
                f"{source} was written by a newer version of debiasctl (schema version {version}, known up to "
                f"{STUDY_VERSION}). Upgrade it: pip install --upgrade debiasctl"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise ComparisonError(f"{source} is damaged ({damage(error)}). Make it again: debiasctl compare") from error


def read_study(path: Path) -> Study:
    """Read a stored study; ComparisonError: if it is damaged or a newer version wrote it."""
    try:
        raw = read_json(path)
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path} is damaged ({damage(error)}). Make it again: debiasctl compare") from error
    return Study.from_json(raw, source=str(path))
