"""The table that `debiasctl evaluate` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from debiasctl.cli.messages import with_options
from debiasctl.cli.output import note, print_table, print_text

if TYPE_CHECKING:
    from debiasctl.evaluation.record import Conditions, EvaluationRecord, Range


def print_records(records: "Sequence[EvaluationRecord]") -> None:
    """Print one table of all figures, with what misleads in them; notes on them go to stderr."""
    first = records[0]
    measured = first.measured
    trained = list(dict.fromkeys(record.checkpoint for record in records))
    many = len(trained) > 1
    what = f"{measured.num} images of {first.samples}"
    if measured.sampler is not None:
        checkpoint = f"checkpoints {', '.join(map(str, trained))}" if many else f"checkpoint {trained[0]}"
        what = (
            f"run '{first.run}', {checkpoint} ({measured.weights} weights): "
            f"{measured.num} images by {measured.sampler.partition(':')[0]}"
            + ("" if measured.guide is None else f", guided by {measured.guide},")
        )
    print_text(f"{what} against {_reference(measured)}")
    rows = []
    for record in records:
        for name, figure in record.metrics.items():
            floor = "-" if figure.floor is None else f"{figure.floor:.4g} (N {figure.floor_num})"
            same = figure.value_at_floor_num
            rows.append(
                [
                    *([str(record.images_seen)] if many else []),
                    *([str(record.measured.steps), str(record.nfe)] if first.run is not None else []),
                    name,
                    f"{figure.value:.4g}",
                    _with_interval(figure.corrected, figure.interval),
                    "-" if same is None else f"{same:.4g}",
                    floor,
                    _with_interval(figure.floor_corrected, figure.floor_interval),
                    figure.better,
                ]
            )
    conditions = [*(["images seen"] if many else []), *(["steps", "NFE"] if first.run is not None else [])]
    corrected = "corrected (95 % interval)"
    figures = [f"value, N {measured.num}", corrected, "at floor's N", "floor", f"floor {corrected}"]
    print_table([*conditions, "metric", *figures, "better"], rows, keys=len(conditions) + 1)
    from debiasctl.evaluation.plausibility import warnings

    beside = list(dict.fromkeys(str(one) for record in records for one in warnings(record)))
    for text in beside:
        print_text(f"warning: {with_options(text)}")
    notes = (text for record in records for text in [*record.notes, *_missing(record)])
    for text in dict.fromkeys(text for text in notes if text not in beside):
        note(f"note: {with_options(text)}")


def _with_interval(corrected: float | None, interval: "Range | None") -> str:
    if corrected is None or interval is None:
        return "-"
    return f"{corrected:.4g} ({interval.low:.4g} to {interval.high:.4g})"


def _missing(record: "EvaluationRecord") -> list[str]:
    """Why some metrics have no interval, and others were not measured: one sentence for each reason."""
    from debiasctl.evaluation.metrics.catalogue import not_given

    reasons: dict[str, list[str]] = {}
    for name, figure in record.metrics.items():
        if figure.interval_reason is not None:
            reasons.setdefault(f"no interval, {figure.interval_reason}", []).append(name)
        if figure.floor_reason is not None:
            reasons.setdefault(f"no floor, {figure.floor_reason}", []).append(name)
    no_news = not_given(record.measured.features).values()  # few extractors have these parts
    for name, reason in record.unavailable.items():
        if reason not in no_news:
            reasons.setdefault(f"not measured, {reason}", []).append(name)
    return [f"{', '.join(names)}: {reason}" for reason, names in reasons.items()]


def _reference(measured: "Conditions") -> str:
    if measured.reference == "statistics":
        return f"the statistics in {measured.dataset}"
    kind = "training images" if measured.reference == "train" else "images"
    return f"{measured.reference_num} {kind} of {measured.dataset}"
