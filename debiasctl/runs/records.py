"""The records of training, one a line of metrics.jsonl: typed when they are written and when they are read."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter

Count = Annotated[int, Field(ge=0, le=2**63 - 1)]
Size = Annotated[float, Field(ge=0)]
Edge = float | None  # None is an open end
Figure = int | float | str
_LARGE = 10**9  # from which a whole number is shown by its first digits
LogSNR = Annotated[tuple[Edge, Edge], Field(strict=False)]  # a list in JSON


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class LossShare(_Record):
    """A log-SNR bin's share of the loss; None if losses are not positive."""

    log_snr: LogSNR
    share: float | None


class BinErrors(_Record):
    """The mean squared errors of eps, x0, v and flow in a log-SNR bin, over `num` held-out images.

    The standard deviations over the images, each at a t of its own in the bin, are those of the `num` errors about
    their mean (divided by `num`, so that mean² + std² is the second moment). Runs of older versions lack them, and
    flow.
    """

    log_snr: LogSNR
    num: Count
    eps: Size
    x0: Size
    v: Size
    flow: Size | None = None
    eps_std: Size | None = None
    x0_std: Size | None = None
    v_std: Size | None = None
    flow_std: Size | None = None


class _Line(_Record):
    kind: str
    step: Count

    def to_json(self) -> dict[str, JsonValue]:
        """The record as it is stored: fields that it was made without are left out."""
        return {"kind": self.kind, **self.model_dump(mode="json", exclude_unset=True)}

    def scalars(self) -> dict[str, int | float | None]:
        """The numbers of the record as a whole, by name, without its step: none of single bins."""
        return {}


class TrainRecord(_Line):
    """The means since the last logged step, and the machine's speed; the earliest runs lack the fields with defaults.

    `grad_norm` is None if fp16's scaling skipped all steps, and `skipped_steps` says how many it skipped.
    """

    kind: Literal["train"] = "train"
    images: Count
    loss: float
    grad_norm: Size | None
    lr: Size
    skipped_steps: Count | None = None
    loss_shares: list[LossShare] = []
    images_per_second: Size
    flops_per_image: int | None = None
    flops_per_second: Size | None = None
    peak_memory: Count | None = None

    def scalars(self) -> dict[str, int | float | None]:
        """The means and the speed."""
        return self.model_dump(exclude={"kind", "step", "loss_shares"})


class HeldoutRecord(_Line):
    """The held-out errors of `weights` in each log-SNR bin that the schedule covers."""

    kind: Literal["heldout"] = "heldout"
    weights: str
    bins: list[BinErrors]


class MonitorRecord(_Line):
    """The metrics of `num` samples of `weights`, drawn by a run's monitor after `step` steps (`images` images)."""

    kind: Literal["evaluation"] = "evaluation"
    images: Count
    num: Count
    sampler: str
    steps: Count
    nfe: Count
    weights: str
    metrics: dict[str, float]
    floors: dict[str, float | None]

    def scalars(self) -> dict[str, int | float | None]:
        """The metrics alone."""
        return dict(self.metrics)


class ExtensionFigures(_Record):
    """What an extension reports of the training, by name (`Extension.summary`)."""

    name: str
    figures: dict[str, Figure]

    def shown(self) -> str:
        """The figures in a line, such as `sparsity 0.5, active weights 10,304`."""
        return ", ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in self.figures.items())


def shown(value: Figure) -> str:
    """A figure as text."""
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) and abs(value) < _LARGE else f"{value:.4g}"


class ExtensionsRecord(_Line):
    """What the extensions report, from this step on; those that report nothing are left out."""

    kind: Literal["extensions"] = "extensions"
    extensions: list[ExtensionFigures]

    def scalars(self) -> dict[str, int | float | None]:
        """The numbers, under their extension's name."""
        return {
            f"{one.name}/{name}": value
            for one in self.extensions
            for name, value in one.figures.items()
            if not isinstance(value, str)
        }


MetricsRecord = TrainRecord | HeldoutRecord | MonitorRecord | ExtensionsRecord
_ANY: TypeAdapter[MetricsRecord] = TypeAdapter(Annotated[MetricsRecord, Field(discriminator="kind")])


def parse_record(raw: dict[str, Any]) -> MetricsRecord:
    """The record that a line's object is.

    Raises:
        ValueError: if its kind is unknown, or a field is missing, unknown or of another type.
    """
    return _ANY.validate_python(raw)
