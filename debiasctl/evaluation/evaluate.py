"""An evaluation: what is measured against what, in which features, and the record that is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from debiasctl import paths
from debiasctl.api import DataLocation
from debiasctl.data.load import load_data
from debiasctl.data.pixels import as_measured
from debiasctl.evaluation.choices import Choices, check_images
from debiasctl.evaluation.ground import Ground, make_ground
from debiasctl.evaluation.kept_features import keep_features
from debiasctl.evaluation.measure import OnProgress, Seen
from debiasctl.evaluation.record import EVALUATION_VERSION, Conditions, EvaluationRecord
from debiasctl.evaluation.reference.sources import Source, open_images, open_reference
from debiasctl.evaluation.uncertainty.class_counts import as_drawn
from debiasctl.files import write_json
from debiasctl.runs.store import Run
from debiasctl.sampling import Networks, SampleRequest, sample
from debiasctl.specs.sections import RunSpec


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
    ground = make_ground(source, own.info, choices, device=device, own=own, on_progress=on_progress)
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
    ground = make_ground(source, images.info, choices, device=device, own=None, on_progress=on_progress)
    measured, note = as_drawn(images.train)
    ground.notes.append(note)
    seen = ground.measurement.see(measured)
    if seen is None:
        return []
    given = _Images(str(path.expanduser().absolute()), len(measured), sha256=images.content_hash)
    return [_recorded(seen, ground, given, choices, paths.evaluations_dir())]


def _recorded(seen: Seen, ground: Ground, images: _Images, choices: Choices, folder: Path) -> EvaluationRecord:
    """The record of what was seen, stored in `folder`, and beside it the features of the images."""
    measurement, request = ground.measurement, images.request
    found = measurement.figures(seen, asked_for=choices.metrics or ())
    identity = measurement.features.identity
    conditions = Conditions(
        dataset=ground.name,
        dataset_hash=measurement.data.content_hash,
        features=measurement.names.features,
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
