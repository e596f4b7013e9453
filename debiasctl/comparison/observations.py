"""What was observed of one seed of an arm: the figures of its evaluations, without what intervals are made of."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from pydantic import JsonValue

from debiasctl.comparison.evaluations import Evaluation
from debiasctl.evaluation.metrics.catalogue import HIGHER, LOWER, is_of_pixels
from debiasctl.evaluation.plausibility import Warned, warnings
from debiasctl.evaluation.record import BitsFigure, EvaluationRecord, MetricFigure, Record

Better = Literal["lower", "higher", "zero"]
Measured = tuple[tuple[str, JsonValue], ...]  # the conditions of a measurement but for its seed, steps included
_BETTER: dict[str, Better] = {LOWER: "lower", HIGHER: "higher"}
_NORMAL = 1.959964  # of a 95 % interval
SAMPLING_SEED = "seed"
_FEATURES = ("features", "features_identity")


LARGEST = 1e100  # size of a figure: squares of figures are added up


class Observed(NamedTuple):
    """One figure; `corrected` is free of the bias in 1/N, `low` and `high` are its sampling interval (95 %)."""

    value: float
    corrected: float | None
    low: float | None
    high: float | None
    floor: float | None
    better: Better
    description: str
    by_class: bool


@dataclass(frozen=True)
class Observation:
    """One evaluation of one seed: `of_pixels` are the conditions of metrics that need no features.

    `reasons` say why its images are not near working ones.
    """

    measured: Measured
    of_pixels: Measured
    checkpoint: int | None
    images_seen: int | None
    sampling_seed: int | None
    record: str | None
    figures: dict[str, Observed]
    reasons: tuple[Warned, ...]

    def conditions(self, metric: str) -> Measured:
        """The conditions under which a metric was measured; those of the pixels are the same in all features."""
        return self.of_pixels if is_of_pixels(metric) else self.measured


@dataclass
class Member:
    """One seed of an arm: a run, or images or figures made elsewhere."""

    seed: int
    source: str
    run: str | None
    run_identity: str | None
    path: str | None
    observations: list[Observation] = field(default_factory=list)


@dataclass
class ArmData:
    """An arm with its members by ascending seed."""

    name: str
    kind: Literal["runs", "images", "figures"]
    settings: dict[str, JsonValue]
    members: list[Member]


def observations_of(evaluations: Iterable[Evaluation], *, batch_size: int | None) -> list[Observation]:
    """A run's evaluations as observations, oldest first; without `batch_size`, of a model from elsewhere.

    What is not plausible of some images holds for all their figures, whichever evaluation showed it.
    """
    reasons: dict[str, dict[Warned, None]] = {}
    found: list[tuple[str, Observation]] = []
    for one in evaluations:
        samples = one.record.samples if isinstance(one.record, EvaluationRecord) else ""
        if isinstance(one.record, EvaluationRecord) and (warned := warnings(one.record)):
            reasons.setdefault(samples, {}).update(dict.fromkeys(warned))
        checkpoint = None if batch_size is None else one.checkpoint  # no step of a training that others share
        found.append((samples, _observation(one.record, one.key, checkpoint=checkpoint, batch_size=batch_size)))
        del one
    return [
        replace(observation, reasons=tuple(reasons[samples])) if samples in reasons else observation
        for samples, observation in found
    ]


def given_images(record: EvaluationRecord) -> Observation:
    """The evaluation of images that belong to no run."""
    observation = _observation(record, record.key, checkpoint=None, batch_size=None)
    return replace(observation, reasons=tuple(warnings(record)))


def _observation(record: Record, key: str, *, checkpoint: int | None, batch_size: int | None) -> Observation:
    measured = {name: value for name, value in record.measured.to_json().items() if name != SAMPLING_SEED}
    seen = record.images_seen if isinstance(record, EvaluationRecord) else None
    if seen is None and checkpoint is not None and batch_size is not None:
        seen = checkpoint * batch_size
    return Observation(
        measured=tuple(measured.items()),
        of_pixels=tuple((measured | dict.fromkeys(_FEATURES, "none")).items()),
        checkpoint=checkpoint,
        images_seen=seen,
        sampling_seed=record.measured.seed,
        record=key,
        figures={name: observed(figure) for name, figure in record.metrics.items()},
        reasons=(),
    )


def observed(figure: MetricFigure | BitsFigure) -> Observed:
    """A stored figure as a comparison needs it."""
    better = _BETTER.get(figure.better, "zero")
    if isinstance(figure, BitsFigure):
        reach = _NORMAL * figure.se
        value = figure.value
        return Observed(value, None, value - reach, value + reach, None, better, "bits per dimension", by_class=False)
    kept = figure.interval
    low, high = (None, None) if kept is None else (kept.low, kept.high)
    # the floor has a bias too, that of fewer images: beside a corrected figure stands a corrected floor, or none
    floor = figure.floor if figure.corrected is None else figure.floor_corrected
    return Observed(
        figure.value, figure.corrected, low, high, floor, better, figure.description, by_class=figure.by_class
    )
