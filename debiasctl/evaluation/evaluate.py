"""An evaluation: what is measured against what, in which features, and the record that is kept of it."""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from debiasctl import paths, registry
from debiasctl.api import DataLocation, DatasetInfo, Features, LoadedDataset, PreparedFeatures
from debiasctl.compute import processes
from debiasctl.data.load import load_data
from debiasctl.data.pixels import as_measured
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.choices import Choices, check_images
from debiasctl.evaluation.extraction import FEATURES, SPATIAL
from debiasctl.evaluation.kept_features import keep_features
from debiasctl.evaluation.measure import Measurement, OnProgress, Seen, check_fit, check_metrics, default_features
from debiasctl.evaluation.record import EVALUATION_VERSION, Conditions, EvaluationRecord
from debiasctl.evaluation.reference.reference import FixedReference, fixed_reference
from debiasctl.evaluation.reference.sources import Source, open_images, open_reference
from debiasctl.evaluation.reference.statistics_file import StatisticsFile, write_statistics
from debiasctl.evaluation.uncertainty.class_counts import as_drawn
from debiasctl.files import write_json
from debiasctl.runs.store import Run
from debiasctl.sampling import Networks, SampleRequest, sample
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Ground:
    """What images are measured against: the data under `name`, of which `split`."""

    name: str
    split: str
    measurement: Measurement
    notes: list[str]


@dataclass(frozen=True)
class _Images:
    """What is measured: the name of the images and how many they are; how a run drew them, or the given ones' hash."""

    samples: str
    num: int
    sha256: str | None = None
    run: str | None = None
    images_seen: int | None = None
    nfe: int | None = None
    request: SampleRequest | None = None


def evaluate(
    run: Run,
    spec: RunSpec,
    requests: Sequence[SampleRequest],
    location: DataLocation,
    *,
    choices: Choices,
    device: torch.device,
    batch_size: int | None = None,
    on_progress: OnProgress | None = None,
) -> list[EvaluationRecord]:
    """Measure a run's samples, one record a request, each stored in the run's folder under its content's key.

    Samples are uint8, and so are the real images beside them: those of a data set that gives float32 are rounded first.
    Every process of a group calls this; the first one gets the records. `on_progress(what, done, all)` counts images.

    Raises:
        UsageError: an unknown metric, features or reference; EvaluationError: the features cannot be had, or the
        images cannot be measured against the reference.
    """
    own = as_measured(load_data(spec, location))
    source = Source(spec.data.dataset.name, "train", own)
    if choices.reference is not None:
        source = open_reference(choices.reference, location)
    ground = _ground(source, own.info, choices, device=device, own=own, on_progress=on_progress)
    records = []
    networks = Networks()
    for request in requests:
        drawn = sample(
            run,
            spec,
            request,
            device=device,
            batch_size=batch_size,
            on_progress=None if on_progress is None else partial(on_progress, "sampling"),
            networks=networks,
        )
        seen = ground.measurement.see(drawn.split())
        if seen is None:
            continue
        images = _Images(
            drawn.folder.name,
            request.num,
            run=run.name,
            images_seen=request.step * spec.training.batch_size,
            nfe=drawn.description.nfe,
            request=request,
        )
        records.append(_recorded(seen, ground, images, choices, run.evaluations_dir))
    return records


def evaluate_images(
    path: Path,
    location: DataLocation,
    *,
    choices: Choices,
    device: torch.device,
    on_progress: OnProgress | None = None,
) -> list[EvaluationRecord]:
    """Measure the images in a folder, zip or npz: one record, as `evaluate` makes it, with `run` None.

    Every process of a group calls this; the first one gets the record, which is stored below the user's folder, in
    `evaluations`.

    Raises:
        UsageError: no reference is chosen; and as `evaluate`.
    """
    check_images(path, choices)
    assert choices.reference is not None, "refused otherwise"
    images = open_images(path, location)
    source = open_reference(choices.reference, location)
    ground = _ground(source, images.info, choices, device=device, own=None, on_progress=on_progress)
    measured, note = as_drawn(images.train)
    ground.notes.append(note)
    seen = ground.measurement.see(measured)
    if seen is None:
        return []
    given = _Images(str(path.expanduser().absolute()), len(measured), sha256=images.content_hash)
    return [_recorded(seen, ground, given, choices, paths.evaluations_dir())]


def _recorded(seen: Seen, ground: _Ground, images: _Images, choices: Choices, folder: Path) -> EvaluationRecord:
    """The record of what was seen, stored in `folder`, and beside it the features of the images."""
    measurement, request = ground.measurement, images.request
    found = measurement.figures(seen, asked_for=choices.metrics or ())
    identity = measurement.features.identity
    conditions = Conditions(
        dataset=ground.name,
        dataset_hash=measurement.data.content_hash,
        features=measurement.feature_name,
        features_identity=identity,
        class_counts="drawn" if seen.observed.division.classes is None else "chosen",
        reference=ground.split,
        reference_num=found.reference.num,
        num=images.num,
        sampler=None if request is None else str(request.sampler.ref),
        steps=None if request is None else request.num_steps,
        seed=None if request is None else request.seed,
        weights=None if request is None else request.weights,
        label=None if request is None else request.label,
        precision=None if request is None else request.precision,
    )
    record = EvaluationRecord(
        schema_version=EVALUATION_VERSION,
        run=images.run,
        checkpoint=None if request is None else request.step,
        images_seen=images.images_seen,
        nfe=images.nfe,
        samples=images.samples,
        measured=conditions,
        metrics=found.metrics,
        unavailable=found.unavailable,
        reference=found.reference.model_copy(update={"split": ground.split}),
        notes=[*ground.notes, *found.notes],
        features_file=keep_features(
            folder, seen.observed.features, identity=identity, images=images.sha256 or images.samples
        ),
    )
    if images.sha256 is not None:
        record = record.model_copy(update={"samples_sha256": images.sha256})
    write_json(folder / f"{record.key}.json", record.to_json())
    return record


def _ground(
    source: Source,
    images: DatasetInfo,
    choices: Choices,
    *,
    device: torch.device,
    own: LoadedDataset | None,
    on_progress: OnProgress | None,
) -> _Ground:
    """The reference and the extractor, ready; `images` is what is known of the measured ones, `own` a run's data.

    Everything that can be refused before a sample is drawn is refused here.
    """
    content = source.content
    base = own if isinstance(content, StatisticsFile) else content  # whose images an extractor may be made from
    name, plugin = _features(choices, base, source)
    data = fixed_reference(content, images) if isinstance(content, StatisticsFile) else content
    size = (images.channels, images.image_size, images.image_size)
    check_fit(size, data.info, any_size=plugin.any_size, feature_name=name)
    names = check_metrics(choices.metrics, data.info, feature_name=name)
    prepared = plugin.prepare(base or data, cache_dir=paths.cache_dir(), device=device)
    notes = _identity_notes(content, prepared, name) if isinstance(content, StatisticsFile) else []
    if "heldout_accuracy" in prepared.details:
        accuracy = prepared.details["heldout_accuracy"]
        known = (
            f"their classifier is right on {accuracy:.1%} of the held-out images"
            if accuracy is not None
            else ("nothing is held out: the classifier's accuracy is not known")
        )
        notes.append(f"features '{name}': {known}")
    measurement = Measurement(data, prepared, name, names, paths.cache_dir(), shared=True, on_progress=on_progress)
    ground = _Ground(source.name, source.split, measurement, notes)
    if choices.export is not None:
        _export(choices.export, ground)
    return ground


def _features(choices: Choices, base: LoadedDataset | None, source: Source) -> tuple[str, Features]:
    """The name of the features and the plugin, its weights as chosen."""
    default = "inception" if base is None else default_features(base.info)
    ref = registry.as_ref(choices.features or default)
    if choices.feature_weights is not None:
        if "weights" in ref.options:
            raise UsageError("`feature_weights` and the features' own option weights=... are one thing. Give one")
        if "weights" not in registry.load("features", ref.name).Options.model_fields:
            raise UsageError(
                f"`feature_weights`: features '{ref.name}' have no weights from a file. Leave it out, or choose "
                "`features=inception`, clip or dinov2"
            )
        ref = dataclasses.replace(ref, options={**ref.options, "weights": str(choices.feature_weights)})
    plugin: Features = registry.create("features", ref)
    if base is None and not plugin.pretrained:
        raise UsageError(
            f"features '{ref.name}' are made from a data set's own images, and {source.name} holds none. "
            "Use `features=inception`, clip or dinov2; or measure a run; or name the data set: `reference=DATASET`"
        )
    if base is not None and plugin.labelled and not base.info.classes:
        raise UsageError(
            f"features '{ref.name}' need a data set with classes, and '{source.name}' has none. "
            "Use `features=local-ssl` or pixels"
        )
    return ref.name, plugin


def _identity_notes(statistics: StatisticsFile, features: PreparedFeatures, name: str) -> list[str]:
    """What a reader must know of statistics that do not say how they were made.

    Raises:
        EvaluationError: they say so, and it was with another extractor.
    """
    made = statistics.metadata.get("features_identity")
    if made is None:
        return [
            f"{statistics.path.name} does not say how it was made: the figures hold only if that was with '{name}' and "
            "the same resizing (statistics of guided-diffusion and EDM: `features=inception:resize=legacy-tf`)"
        ]
    if made != features.identity:
        raise EvaluationError(
            f"{statistics.path} was made with features '{statistics.metadata.get('features')}' of identity "
            f"{str(made)[:12]}…, and these are '{name}' of identity {features.identity[:12]}…: distances between them "
            "mean nothing. Choose the same features, with the same options and weights"
        )
    return []


def _export(path: Path, ground: _Ground) -> None:
    measurement = ground.measurement
    if isinstance(measurement.data, FixedReference):
        raise UsageError("`export_reference`: this reference is a file of statistics already. Copy it")
    parts = [part for part in (FEATURES, SPATIAL) if part in measurement.features.offers]
    rows = measurement.real().rows(parts, shared=True)
    if processes.rank() > 0:
        return
    reference, spatial = measurement.real().reference(rows), measurement.real().spatial(rows)
    metadata = {
        "dataset": ground.name,
        "dataset_hash": measurement.data.content_hash,
        "split": ground.split,
        "num": None if reference.features is None else len(reference.features),
        "features": measurement.feature_name,
        "features_identity": measurement.features.identity,
        "feature_details": dict(measurement.features.details),
    }
    write_statistics(
        path,
        reference.mean,
        reference.covariance,
        metadata=metadata,
        spatial=None if spatial is None else (spatial.mean, spatial.covariance),
    )
    _LOG.info("the reference's statistics: %s", path)
