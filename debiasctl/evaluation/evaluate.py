"""An evaluation of a run: sample, measure, and keep the figures with all that they depend on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from debiasctl import paths, registry
from debiasctl.api import DataLocation, PreparedFeatures
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.measure import check_metrics, default_features, measure
from debiasctl.files import content_key, write_json
from debiasctl.runs import Run
from debiasctl.sampling import SampleRequest, sample
from debiasctl.specs import RunSpec
from debiasctl.training.session import load_data

SCHEMA_VERSION = 1


def evaluate(
    run: Run,
    spec: RunSpec,
    requests: Sequence[SampleRequest],
    location: DataLocation,
    *,
    features: str | None,
    metrics: Sequence[str] | None,
    device: torch.device,
    batch_size: int | None = None,
    on_progress: Callable[[float, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Measure a run's samples, one record a request, each stored in the run's folder under its content's key.

    A record holds `run`, `checkpoint`, `metrics` (see `measure`), `notes`, `samples`, and `measured`: everything
    that must be equal before two runs' figures may be set beside one another.

    Raises:
        UsageError: an unknown metric or features; EvaluationError: the features cannot be had.
    """
    data = load_data(spec, location)
    resolved = registry.resolve("features", features or default_features(data.info))
    name = resolved.record.name
    check_metrics(metrics, data.info, feature_name=name)
    plugin = resolved.create()
    if plugin.labelled and not data.info.classes:
        raise EvaluationError(
            f"features '{name}' need a data set with classes, and '{spec.data.dataset.name}' has none. "
            "Use --features pixels"
        )
    prepared: PreparedFeatures = plugin.prepare(data, cache_dir=paths.cache_dir(), device=device)
    records = []
    for request in requests:
        drawn = sample(run, spec, request, device=device, batch_size=batch_size, on_progress=on_progress)
        found = measure(drawn.images, data, prepared, feature_name=name, metrics=metrics, cache_dir=paths.cache_dir())
        measured = {
            "dataset": spec.data.dataset.name,
            "dataset_hash": data.content_hash,
            "features": name,
            "features_identity": prepared.identity,
            "reference": found["reference"]["split"],
            "reference_num": found["reference"]["num"],
            "num": request.num,
            "sampler": str(request.sampler.ref),
            "steps": request.num_steps,
            "seed": request.seed,
            "weights": request.weights,
            "class": request.label,
            "precision": request.precision,
        }
        record = {
            "schema_version": SCHEMA_VERSION,
            "run": run.name,
            "checkpoint": request.step,
            "measured": measured,
            "nfe": drawn.description["nfe"],
            "metrics": found["metrics"],
            "reference": found["reference"],
            "notes": found["notes"],
            "samples": drawn.folder.name,
        }
        identity = {"measured": measured, "metrics": sorted(found["metrics"]), "samples": drawn.folder.name}
        write_json(run.evaluations_dir / f"{content_key(identity)}.json", record)
        records.append(record)
    return records
