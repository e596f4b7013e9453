"""The records of evaluations and likelihoods, which are typed, and checked and migrated when a file is read."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from debiasctl.errors import EvaluationError, ForeignPartError
from debiasctl.evaluation.metrics.catalogue import Better, possible_range
from debiasctl.evaluation.older_records import from_version_1, from_version_2
from debiasctl.evaluation.uncertainty.intervals import Jackknife
from debiasctl.evaluation.uncertainty.shares import check_packed
from debiasctl.files import content_key
from debiasctl.reading.documents import read_json
from debiasctl.registry.messages import damage
from debiasctl.runs.store import Run

EVALUATION_VERSION: Final = 3  # as older_records.VERSION, to which records are migrated
LIKELIHOOD_VERSION: Final = 1
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Error = Annotated[float, Field(ge=0)]  # a standard error
Share = Annotated[float, Field(ge=0, le=1)]


_ROUNDING = 1e-6  # of a distance of equal sets, which is 0 but for this


class _Part(BaseModel):
    """The base of records and their parts; a field with a default is written only if it was given."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)

    def to_json(self) -> dict[str, JsonValue]:
        """Return the record as it is stored and printed."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class KeptJackknife(_Part):
    """The values of one figure that the interval of a difference needs; see `Jackknife`."""

    pseudo_values: list[float] = Field(min_length=2)
    interactions: list[float]

    @model_validator(mode="after")
    def _same_groups(self) -> Self:
        if len(self.pseudo_values) != len(self.interactions):
            raise ValueError("pseudo_values and interactions must have the same number of groups")
        return self

    @property
    def jackknife(self) -> Jackknife:
        """The values in the form from which intervals are computed."""
        return Jackknife(self.pseudo_values, self.interactions)


class Range(_Part):
    """A confidence interval."""

    low: float
    high: float
    level: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.low > self.high:
            raise ValueError("low must not lie above high")
        return self


class KeptInterval(Range):
    """A confidence interval with its method, and what the interval of a difference needs.

    `ones` (of a share) are the bits of the images that count, as hexadecimal digits, and `reach` are the shares at the
    limits of its threshold. `effect` is the standard deviation that the held-out images add.
    """

    method: str
    jackknife: KeptJackknife
    ones: str | None = Field(None, pattern="^([0-9a-f]{2})*$")
    reach: list[Share] | None = Field(None, min_length=2, max_length=2)
    effect: Error = 0.0


class Extrapolated(_Part):
    """A fit in 1/N; see `Extrapolation`. `se` is None in records of versions 1 and 2."""

    value: float
    se: Error | None = None
    fit_residual: Error
    nums: list[Positive] = Field(min_length=2)


class Curve(_Part):
    """The mean power of the images and of the real ones at 1, 2, … cycles per image."""

    cycles_per_image: list[Positive]
    power: list[Error]
    real_power: list[Error]

    @model_validator(mode="after")
    def _same_frequencies(self) -> Self:
        if not len(self.cycles_per_image) == len(self.power) == len(self.real_power):
            raise ValueError("cycles_per_image, power and real_power must have the same length")
        return self


class MetricFigure(_Part):
    """One metric of `num` images; `measure` describes its parts.

    `floor_corrected` and `floor_interval` are those of the floor. `expected` is what fresh images are expected to have.
    `by_class` says that a kernel distance has its pairs counted by class.
    """

    value: float
    num: Positive
    corrected: float | None
    interval: KeptInterval | None
    interval_reason: str | None
    floor: float | None
    floor_num: Count
    value_at_floor_num: float | None
    better: Better
    description: str
    floor_corrected: float | None = None
    floor_interval: Range | None = None
    floor_reason: str | None = None
    expected: float | None = None
    by_class: bool = False
    extrapolated: Extrapolated | None = None
    extrapolated_reason: str | None = None
    curve: Curve | None = None

    @model_validator(mode="after")
    def _a_bit_an_image(self) -> Self:
        if self.interval is not None and self.interval.ones is not None:
            try:
                check_packed(self.interval.ones, self.num)
            except ValueError as error:
                raise ValueError(f"interval.ones: {error}") from error
        return self


def _in_range(metrics: Mapping[str, MetricFigure]) -> None:
    """Check that each metric's figures are values that it can have.

    Raises:
        ValueError: if one is not.
    """
    for name, figure in metrics.items():
        low, high = possible_range(name)
        figures = {
            "value": figure.value,
            "floor": figure.floor,
            "value_at_floor_num": figure.value_at_floor_num,
            "expected": figure.expected,
        }
        for field, value in figures.items():
            if value is not None and not low - _ROUNDING <= value <= high + _ROUNDING:
                allowed = f"at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
                raise ValueError(f"metrics.{name}.{field}: {value} is not possible, it must be {allowed}")


class Against(_Part):
    """The reference that images were measured against, and the features used."""

    split: str
    num: Count | None
    floor_split: str
    dataset_hash: str
    feature_name: str
    features: str
    feature_dimension: Count
    feature_details: dict[str, JsonValue]


class Identical(_Part):
    """How many of the images are the same, pixel for pixel, as one before them, a reference image or a held-out one.

    None: there are no such images to compare with.
    """

    copies: int
    reference: int | None
    heldout: int | None


class Findings(_Part):
    """The results of `measure` for a set of images; `unavailable` gives the reason for each metric without a figure."""

    metrics: dict[str, MetricFigure]
    unavailable: dict[str, str]
    reference: Against
    notes: list[str]
    identical: Identical | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _in_range(self.metrics)
        return self


class Conditions(_Part):
    """The conditions that must be equal for two runs' figures to be comparable; None if unknown.

    `guide` is the weaker network of guided sampling, as it is given to `evaluate`, and `guide_sha256` its weights'
    checksum where it is another run's. They are left out where there is none.
    """

    dataset: str
    dataset_hash: str
    features: str
    features_identity: str
    class_counts: Literal["drawn", "chosen"] | None
    reference: str
    reference_num: Count | None
    num: Positive
    sampler: str | None
    steps: Positive | None
    seed: int | None
    weights: str | None
    label: int | None = Field(alias="class")
    precision: str | None
    guide: str | None = None
    guide_sha256: str | None = None


class EvaluationRecord(_Part):
    """The record that `evaluate` stores for a set of images: a run's at a `checkpoint`, or given ones (`run` is None).

    `features_file`, beside the record, holds the images' features. `samples` is the images' name, and `samples_sha256`
    the hash of given ones. `run_identity` is None in records of older versions, and of given images. `features_given`
    and `reference_given` are the features with their options, and the reference if it is not the run's own data, as
    they are given to `evaluate`; None in older records.
    """

    schema_version: Literal[3]
    run: str | None
    run_identity: str | None = None
    checkpoint: Count | None
    images_seen: Count | None
    nfe: Count | None
    samples: str
    samples_sha256: str | None = None
    measured: Conditions
    metrics: dict[str, MetricFigure]
    unavailable: dict[str, str]
    reference: Against
    notes: list[str]
    identical: Identical | None = None
    features_file: str | None
    features_given: str | None = None
    reference_given: str | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        _in_range(self.metrics)
        return self

    @property
    def key(self) -> str:
        """The name of its file, which is the same for equal measurements of equal images."""
        samples = self.samples if self.samples_sha256 is None else self.samples_sha256
        return content_key({"measured": self.measured.to_json(), "metrics": sorted(self.metrics), "samples": samples})


class Bits(_Part):
    """A mean over images, in bits per dimension, and its standard error."""

    bits: float
    se: Error


class Term(_Part):
    """The sum of the bound's terms at the timesteps from `low` to `high`, and its standard error."""

    low: Count
    high: Count
    bits: float
    se: Error


class BitsFigure(_Part):
    """A likelihood: `se` is the standard error, `se_draws` the part of it that more draws would remove.

    `discretisation` estimates the error from the steps of an ODE. There is no floor, as it is measured on held-out
    images.
    """

    value: float
    se: Error
    se_draws: Error | None
    better: Better
    floor: None
    floor_num: int
    value_at_floor_num: None
    discretisation: float | None = None

    @property
    def interval(self) -> None:
        """None, as there is no interval for a difference of likelihoods."""


class HeldoutConditions(_Part):
    """The `Conditions` for likelihoods of held-out images; `sampler` is the method."""

    dataset: str
    dataset_hash: str
    features: Literal["none"]
    reference: Literal["heldout"]
    num: Positive
    draws: Positive
    sampler: str
    steps: Positive
    seed: int
    weights: str


class LikelihoodRecord(_Part):
    """The record that `likelihood` stores: one metric and, for a bound, its parts."""

    schema_version: Literal[1]
    run: str
    run_identity: str | None = None
    checkpoint: Count
    measured: HeldoutConditions
    weights_sha256: str
    nfe: Count
    metrics: dict[str, BitsFigure] = Field(min_length=1, max_length=1)
    prior: Bits | None = None
    terms: list[Term]
    notes: list[str]

    @model_validator(mode="after")
    def _whole_bound(self) -> Self:
        if bool(self.terms) != (self.prior is not None):
            raise ValueError("terms and prior are parts of a bound: give both or neither")
        return self


Record = EvaluationRecord | LikelihoodRecord


def read_own_record(path: Path, run: Run, *, way_on: str) -> Record:
    """Read a record in a run's folder, as `read_record` does, and check that it is this run's and its file's.

    Raises:
        EvaluationError: if `read_record` raises it; ForeignPartError: if it is of another run or measurement.
    """
    record = read_record(path, way_on=way_on)
    run.check_identity(record.run_identity, what=f"the record in {path}", way_on=way_on)
    if record.run_identity is not None and isinstance(record, EvaluationRecord) and record.key != path.stem:
        raise ForeignPartError(f"the record in {path} is that of another measurement, by its content. {way_on}")
    return record


def read_record(path: Path, *, way_on: str) -> Record:
    """Read the evaluation or likelihood in a file, migrating it if an older version wrote it.

    Raises:
        EvaluationError: if it is damaged (`way_on` then says what to do) or a newer version wrote it.
    """
    try:
        return from_json(read_json(path), source=str(path))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path} is damaged ({damage(error)}). {way_on}") from error


def from_json(raw: Mapping[str, Any], *, source: str) -> Record:
    """Make a record from the output of `to_json`, in this version or an older one.

    Raises:
        EvaluationError: if a newer version wrote it; ValueError: if it is not a record.
    """
    is_likelihood = "terms" in raw
    known = LIKELIHOOD_VERSION if is_likelihood else EVALUATION_VERSION
    version = raw.get("schema_version")
    if type(version) is not int or version < 1:
        raise ValueError(f"its schema_version is {version!r}, and must be a whole number from 1 to {known}")
    if version > known:
        raise EvaluationError(
            f"{source} was written by a newer version of debiasctl (schema version {version}, known up to {known}). "
            "Upgrade it: pip install --upgrade debiasctl"
        )
    if is_likelihood:
        return LikelihoodRecord.model_validate(raw)
    raw = from_version_1(raw) if version == 1 else raw
    return EvaluationRecord.model_validate(from_version_2(raw) if version <= 2 else raw)
