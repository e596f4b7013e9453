"""Records of evaluations, and runs that have some, made by hand."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from debiasctl.evaluation.record import EvaluationRecord
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run
from debiasctl.specs.sections import RunSpec

CONDITIONS = {
    "dataset": "digits", "dataset_hash": "ab", "features": "local", "features_identity": "cd", "class_counts": "chosen",
    "reference": "train", "reference_num": 1500, "num": 100, "sampler": "ddim", "steps": 50, "seed": 0,
    "weights": "ema", "class": None, "precision": "fp32",
}  # fmt: skip
REFERENCE = {
    "split": "train", "num": 1500, "floor_split": "heldout", "dataset_hash": "ab", "feature_name": "local",
    "features": "cd", "feature_dimension": 32, "feature_details": {"classes": ["0", "1"]},
}  # fmt: skip


def figure_json(value: float, **changes: Any) -> dict[str, Any]:
    found = {
        "value": value, "num": 100, "corrected": None, "interval": None, "interval_reason": "few", "floor": 0.5,
        "floor_num": 9, "value_at_floor_num": None, "better": "lower", "description": "how far",
    }  # fmt: skip
    return found | changes


def interval_json(pseudo_values: list[float], **changes: Any) -> dict[str, Any]:
    kept = {"pseudo_values": pseudo_values, "interactions": [0.0] * len(pseudo_values)}
    return {"low": 0.0, "high": 1.0, "level": 0.95, "method": "by hand", "jackknife": kept} | changes


def record_json(metrics: dict[str, Any], *, measured: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """As `evaluate` stores it, of a run "a" at checkpoint 6."""
    found = {
        "schema_version": 3, "run": "a", "checkpoint": 6, "images_seen": 48, "nfe": 50, "samples": "ef",
        "measured": CONDITIONS | (measured or {}), "metrics": metrics, "unavailable": {}, "reference": REFERENCE,
        "notes": [], "features_file": "x.features.npz",
    }  # fmt: skip
    return found | changes


def record(metrics: dict[str, Any], **changes: Any) -> EvaluationRecord:
    return EvaluationRecord.model_validate(record_json(metrics, **changes))


def plain_spec(weighting: str = "debiased", seed: int = 0, **sections: Mapping[str, Any]) -> RunSpec:
    """A spec of a run on digits, made without looking at any data; `section={field: value}` changes settings."""
    raw: dict[str, Any] = {
        "data": {"dataset": "digits"},
        "loss": {"weighting": weighting},
        "training": {"seed": seed, "steps": 6, "batch_size": 8},
        "content": {
            "image_size": 8, "channels": 1, "classes": ["a"], "class_counts": [4], "num_train": 4, "num_heldout": 4,
            "content_hash": "ab",
        },
    }  # fmt: skip
    return RunSpec.model_validate(
        {name: raw.get(name, {}) | dict(sections.get(name, {})) for name in {**raw, **sections}}
    )


def make_run(name: str, spec: RunSpec) -> Run:
    status = new_status(
        num_steps=spec.training.steps, dataset="digits", weighting=spec.loss.weighting.name, seed=spec.training.seed
    )
    return create_run(name, spec, status=status)


def add_evaluation(
    run: Run,
    metrics: Mapping[str, float | dict[str, Any]],
    *,
    seed: int | None = None,
    checkpoint: int = 6,
    reach: float | None = 0.1,
    **measured: Any,
) -> None:
    """Store a record of a run: a figure is a value, with an interval that reaches that far, or a whole `figure_json`.

    It is sampled with the run's training seed unless one is given.
    """
    spec = run.spec()
    figures = {
        name: value if isinstance(value, dict) else figure_json(value, interval=_interval(value, reach))
        for name, value in metrics.items()
    }
    conditions = {"seed": spec.training.seed if seed is None else seed} | measured
    stored = record_json(
        figures, measured=conditions, run=run.name, checkpoint=checkpoint,
        images_seen=checkpoint * spec.training.batch_size, samples=f"{checkpoint}-{sorted(conditions.items())}",
    )  # fmt: skip
    run.evaluations_dir.mkdir(exist_ok=True)
    number = len(list(run.evaluations_dir.iterdir()))
    file = run.evaluations_dir / f"{number:016x}.json"
    file.write_text(json.dumps(stored))
    os.utime(file, (1000 + number, 1000 + number))  # later than the one before, whatever the clock's grain


def _interval(value: float, reach: float | None) -> dict[str, Any] | None:
    if reach is None:
        return None
    return interval_json(
        [value + reach * ((7 * number) % 11 - 5) for number in range(20)], low=value - reach, high=value + reach
    )


def make_arm(
    weighting: str, values: Sequence[float], *, metric: str = "fd_local", first: int = 0, **sections: Mapping[str, Any]
) -> list[Run]:
    """Runs of one weighting, with seeds from `first` on, each with one figure."""
    runs = []
    for seed, value in enumerate(values, start=first):
        run = make_run(f"{weighting.partition(':')[0]}-{len(sections)}-{seed}", plain_spec(weighting, seed, **sections))
        add_evaluation(run, {metric: value})
        runs.append(run)
    return runs
