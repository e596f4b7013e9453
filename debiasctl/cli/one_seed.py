"""What `debiasctl compare` prints and writes with one training seed an arm: the figures of these very images."""

import csv
import io
from typing import TYPE_CHECKING

from debiasctl.cli.comparison_table import CONDITIONS, print_comparison
from debiasctl.cli.output import note, print_text

if TYPE_CHECKING:
    from debiasctl.comparison.tables import Comparison


def print_one_seed(compared: "Comparison") -> None:
    """Print the table of figures, and what must be known of them."""
    print_comparison(compared)
    for text in compared.warnings:
        print_text(f"warning: {text}")
    for text in [*_missing(compared), *compared.notes]:
        note(f"note: {text}")
    if any(figure.floor_num not in (0, figure.measured.num) for figure in compared.figures):
        note("note: a floor of fewer images is biased upward; compare it with 'evaluate', column \"at floor's N\"")
    if any(interval is not None for figure in compared.figures for interval in figure.intervals):
        note(
            "note: differences with an interval are free of the bias in 1/N, unlike the runs' figures beside them. The "
            "intervals cover sampling alone: what infinitely many images of these very runs would give"
        )


def _missing(compared: "Comparison") -> list[str]:
    """Why some differences have no interval: one sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for figure in compared.figures:
        for reason in filter(None, dict.fromkeys(figure.interval_reasons)):
            reasons.setdefault(reason, []).append(figure.metric)
    return [f"{', '.join(dict.fromkeys(names))}: no interval, {reason}" for reason, names in reasons.items()]


def figures_csv(compared: "Comparison") -> str:
    """Every run's figures, with differences from the first run's."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    fields = ["sampler", "steps", "num", *CONDITIONS]
    writer.writerow(
        [
            "metric",
            *fields,
            "run",
            "checkpoint",
            "value",
            "difference",
            "corrected_difference",
            "low",
            "high",
            "best",
            "floor",
            "floor_num",
        ]
    )
    for figure in compared.figures:
        measured = figure.measured.to_json()
        for index, name in enumerate(compared.runs):
            interval = figure.intervals[index]
            writer.writerow(
                [
                    figure.metric,
                    *[measured.get(field) for field in fields],
                    name,
                    figure.checkpoints[index],
                    repr(figure.values[index]),
                    repr(figure.differences[index]),
                    *(
                        ("", "", "")
                        if interval is None
                        else map(repr, (interval.estimate, interval.low, interval.high))
                    ),
                    int(index == figure.best),
                    "" if figure.floor is None else repr(figure.floor),
                    figure.floor_num,
                ]
            )
    return text.getvalue()
