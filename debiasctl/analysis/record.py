"""The record of an analysis: typed, stored in a run's `analyses/`, checked when it is read."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from debiasctl.errors import EvaluationError
from debiasctl.files import content_key
from debiasctl.reading.documents import read_json
from debiasctl.registry.messages import damage

VERSION: Final = 1
AGAIN: Final = "Remove that file to measure it again"
Error = Annotated[float, Field(ge=0)]
Missing = float | None  # a value that could not be had, with the reason in the notes


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    def to_json(self) -> dict[str, JsonValue]:
        """Return it as it is stored and printed."""
        return self.model_dump(mode="json", exclude_unset=True)


class Quantity(_Part):
    """One figure: what it is in words, its value and, where it has them, its standard error and 95 % interval.

    `name` has words joined by underscores, with the case in brackets, as in `mean_shift[r]`.
    """

    name: str
    value: float
    se: Error | None = None
    low: float | None = None
    high: float | None = None
    unit: str = ""
    text: str = ""

    @model_validator(mode="after")
    def _an_interval(self) -> Self:
        if (self.low is None) != (self.high is None) or (
            self.low is not None and self.high is not None and self.low > self.high
        ):
            raise ValueError("low and high are both given, and low is not above high")
        return self


class Series(_Part):
    """Figures along an axis: `value[i]` at `x[i]`, None where there is none, with standard errors where they have any.

    `axis` names what x is: log_snr, t, steps (of sampling), images (of training), cycles_per_image.
    """

    name: str
    axis: str
    x: list[float]
    value: list[Missing]
    se: list[Missing] | None = None
    low: list[Missing] | None = None
    high: list[Missing] | None = None
    unit: str = ""
    text: str = ""

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        others = [self.value, *(one for one in (self.se, self.low, self.high) if one is not None)]
        if any(len(one) != len(self.x) for one in others):
            raise ValueError(f"series {self.name}: x and its values must have the same length")
        return self


class Network(_Part):
    """The network that was analysed, or took part in it.

    `run` and `arm` are names, which change where a run is imported under another one, or is analysed beside others.
    """

    run: str
    run_identity: str | None
    arm: str
    checkpoint: Annotated[int, Field(ge=0)]
    weights: str
    weights_sha256: str

    def identity(self) -> dict[str, JsonValue]:
        """What tells it from other networks, whatever it is called."""
        return self.model_dump(mode="json", exclude={"run", "arm"})


class AnalysisRecord(_Part):
    """What one part of an analysis found in one run, with everything that it depends on.

    `others` are the networks that took part, such as that of the other half in stitched sampling. `settings` are those
    of the measurement, and `options` those with which the command analyze makes it again. The arrays of pictures are
    beside it, in `KEY.npz`, under the names in `images`.
    """

    schema_version: Literal[1] = VERSION
    debiasctl: str
    part: str
    network: Network
    others: list[Network] = []
    content_hash: str
    settings: dict[str, JsonValue]
    options: list[str] = []
    quantities: list[Quantity] = []
    series: list[Series] = []
    images: list[str] = []
    notes: list[str] = []

    @property
    def key(self) -> str:
        """The name of its file: a hash of what was measured."""
        return key_of(self.part, self.network, self.others, content_hash=self.content_hash, settings=self.settings)

    def quantity(self, name: str) -> Quantity | None:
        """The figure of that name, if it was measured."""
        return next((one for one in self.quantities if one.name == name), None)

    def series_of(self, name: str) -> Series | None:
        """The series of that name, if it was measured."""
        return next((one for one in self.series if one.name == name), None)


def key_of(part: str, network: Network, others: "list[Network]", *, content_hash: str, settings: dict[str, Any]) -> str:
    """The key of a measurement, which the names of runs and arms have no part in."""
    return content_key([VERSION, part, network.identity(), [one.identity() for one in others], content_hash, settings])


def record_path(folder: Path, key: str) -> Path:
    """The file of a record in a run's folder of analyses."""
    return folder / f"{key}.json"


def record_files(folder: Path) -> list[Path]:
    """The records in a run's folder of analyses, which need not exist, sorted by their keys."""
    return sorted(folder.glob("[!.]*.json"))


def read_record(path: Path) -> AnalysisRecord:
    """Read a record.

    Raises:
        EvaluationError: if it is damaged, or not the one that its file's name says.
    """
    try:
        record = AnalysisRecord.model_validate(read_json(path), strict=True)
        if record.key != path.stem:
            raise ValueError("it is that of another measurement, by its content")
    except (OSError, ValueError) as error:
        raise EvaluationError(f"the analysis in {path} is damaged ({damage(error)}). {AGAIN}") from error
    return record
