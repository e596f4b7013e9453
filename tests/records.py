"""Records of evaluations, made by hand."""

from typing import Any

from debiasctl.evaluation.record import EvaluationRecord

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
