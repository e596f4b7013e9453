"""Evaluations: measuring a run's or given images against a reference, and storing the record."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from debiasctl import paths
from debiasctl.api import DataLocation, DatasetInfo, LoadedDataset
from debiasctl.data.load import load_data
from debiasctl.data.pixels import as_measured
from debiasctl.evaluation.choices import Choices, check_images
from debiasctl.evaluation.ground import Ground, make_ground
from debiasctl.evaluation.kept_features import keep_features
from debiasctl.evaluation.measure import OnProgress, Seen
from debiasctl.evaluation.reconstruction import reconstruct
from debiasctl.evaluation.record import EVALUATION_VERSION, Conditions, EvaluationRecord
from debiasctl.evaluation.reference.sources import Source, open_images, open_reference
from debiasctl.evaluation.uncertainty.class_counts import as_drawn
from debiasctl.files import write_json
from debiasctl.models.initial_share import reached_note
from debiasctl.reading.user_text import user_path
from debiasctl.runs.store import Run
from debiasctl.sampling import Networks, SampleRequest, sample
from debiasctl.specs.sections import RunSpec


@dataclass(frozen=True)
class _Images:
    """The measured images: their name and number, and how a run drew them or the hash of given ones."""

    samples: str
    num: int
    sha256: str | None = None
    run: Run | None = None
    images_seen: int | None = None
    nfe: int | None = None
    request: SampleRequest | None = None
    note: str | None = None
    guide_sha256: str | None = None


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
    """Measure a run's samples and store one record per request in the run's folder, named by its content's key.

    Samples are uint8; float32 images of a data set are rounded to uint8 before they are compared with them. Every
    process of a group calls this; the first one gets the records. `on_progress(what, done, all)` counts images.

    Raises:
        UsageError: if a metric, the features or the reference are unknown.
        EvaluationError: if the features are not available, or the images cannot be measured against the reference.
    """
    _phase(on_progress, "reading the data")
    content = run.content(spec)
    own = None if choices.reference and not content.num_train else as_measured(load_data(spec, location))
    if choices.reference is not None:
        source = open_reference(choices.reference, location)
    else:
        assert own is not None, "without images of its own, it has another reference"
        source = Source(spec.data.dataset.name, "train", own)
    info = own.info if own is not None else DatasetInfo(content.image_size, content.channels, content.classes, 0, 0)
    ground = make_ground(source, info, choices, device=device, own=own, on_progress=on_progress)
    records = []
    networks = Networks()
    space = networks.space(run, spec, device=device)
    if space is not None and own is not None:
        _phase(on_progress, "measuring the autoencoder by itself")
        found = reconstruct(space, own, ground, num=max(request.num for request in requests))
        ground.notes.extend([] if found is None else [found.note()])
    for request in requests:
        drawn = sample(
            run,
            spec,
            request,
            device=device,
            batch_size=batch_size,
            on_progress=None if on_progress is None else partial(on_progress, _sampling(request, requests)),
            networks=networks,
        )
        seen = ground.measurement.see(drawn.split())
        if seen is None:
            continue
        images = _Images(
            drawn.folder.name,
            request.num,
            run=run,
            images_seen=request.step * spec.training.batch_size if spec.imported is None else None,
            nfe=drawn.description.nfe,
            request=request,
            note=reached_note(request.weights, spec.ema, request.step, batch_size=spec.training.batch_size),
            guide_sha256=None if drawn.description.guide is None else drawn.description.guide.weights_sha256,
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
    """Measure the images in a folder, zip or npz; return one record as `evaluate` does, with `run` None.

    Every process of a group calls this; the first one gets the record, which is stored in `evaluations` in the user's
    folder.

    Raises:
        UsageError: if no reference is chosen, or a metric, the features or the reference are unknown.
        EvaluationError: if the features are not available, or the images cannot be measured against the reference.
    """
    check_images(path, choices)
    _phase(on_progress, "reading the images")
    images, name = open_images(path, location), str(user_path(path, argument="`samples`").absolute())
    return evaluate_loaded(images, name, location, choices=choices, device=device, on_progress=on_progress)


def evaluate_loaded(
    images: LoadedDataset,
    name: str,
    location: DataLocation,
    *,
    choices: Choices,
    device: torch.device,
    on_progress: OnProgress | None = None,
) -> list[EvaluationRecord]:
    """Measure the training split of `images`, which `name` names in the record, as `evaluate_images` does.

    Raises:
        UsageError, EvaluationError: if `evaluate_images` raises it.
    """
    assert choices.reference is not None, "checked by check_images"
    source = open_reference(choices.reference, location)
    ground = make_ground(source, images.info, choices, device=device, own=None, on_progress=on_progress)
    measured, note = as_drawn(images.train)
    ground.notes.append(note)
    seen = ground.measurement.see(measured)
    if seen is None:
        return []
    given = _Images(name, len(measured), sha256=images.content_hash)
    return [_recorded(seen, ground, given, choices, paths.evaluations_dir())]


def _phase(on_progress: OnProgress | None, what: str) -> None:
    """Report an activity that counts no images."""
    if on_progress is not None:
        on_progress(what, 0, 0)


def _sampling(request: SampleRequest, requests: Sequence[SampleRequest]) -> str:
    """What is drawn, where several requests are."""
    which = f" from step {request.step} in {request.num_steps} steps" if len(requests) > 1 else ""
    return f"sampling{which}"


def _guidance(images: _Images) -> dict[str, str]:
    """The conditions that a guide is.

    Another checkpoint of the run itself is one condition for all runs, seeds of an arm among them, each of which has
    its own weights there.
    """
    guide = None if images.request is None else images.request.guide
    if guide is None:
        return {}
    assert images.guide_sha256 is not None, "stated by the samples"
    return {"guide": str(guide)} | ({} if guide.is_self else {"guide_sha256": images.guide_sha256})


def _recorded(seen: Seen, ground: Ground, images: _Images, choices: Choices, folder: Path) -> EvaluationRecord:
    """Make the record of a measurement and store it in `folder`, with the features of the images beside it."""
    measurement, request = ground.measurement, images.request
    _phase(measurement.on_progress, "computing the metrics")
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
        **_guidance(images),
    )
    record = EvaluationRecord(
        schema_version=EVALUATION_VERSION,
        run=None if images.run is None else images.run.name,
        checkpoint=None if request is None else request.step,
        images_seen=images.images_seen,
        nfe=images.nfe,
        samples=images.samples,
        measured=conditions,
        metrics=found.metrics,
        unavailable=found.unavailable,
        reference=found.reference.model_copy(update={"split": ground.split}),
        notes=[*([images.note] if images.note else []), *ground.notes, *found.notes],
        features_given=ground.features,
        reference_given=choices.reference,
        features_file=keep_features(
            folder, seen.observed.features, identity=identity, images=images.sha256 or images.samples
        ),
    )
    if images.run is not None:
        record = record.model_copy(update={"run_identity": images.run.identity()})
    if found.identical is not None:
        record = record.model_copy(update={"identical": found.identical})
    if images.sha256 is not None:
        record = record.model_copy(update={"samples_sha256": images.sha256})
    write_json(folder / f"{record.key}.json", record.to_json())
    return record
