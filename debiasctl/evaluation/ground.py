"""The reference and the features of a measurement, chosen, checked and prepared before a sample is drawn."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from debiasctl import paths
from debiasctl.api import DatasetInfo, LoadedDataset
from debiasctl.compute import processes
from debiasctl.errors import UsageError
from debiasctl.evaluation.choices import Choices
from debiasctl.evaluation.extraction import FEATURES, SPATIAL
from debiasctl.evaluation.extractor import candidates_for, check_identity, prepare_first
from debiasctl.evaluation.measure import Measurement, OnProgress, check_fit
from debiasctl.evaluation.metrics.catalogue import check_metrics
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.reference import FixedReference, fixed_reference
from debiasctl.evaluation.reference.sources import Source
from debiasctl.evaluation.reference.statistics_file import StatisticsFile, write_statistics
from debiasctl.evaluation.suggestions import features_by_mode

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ground:
    """The reference that images are measured against: the data called `name`, which `split` of it, and `notes`.

    `features` are those that are used, with their options, as a reference to them.
    """

    name: str
    split: str
    features: str
    measurement: Measurement
    notes: list[str]


def make_ground(
    source: Source,
    images: DatasetInfo,
    choices: Choices,
    *,
    device: torch.device,
    own: LoadedDataset | None,
    on_progress: OnProgress | None,
) -> Ground:
    """Prepare the reference and the extractor; `images` describes the measured images, `own` is a run's data.

    Raises:
        UsageError: if metrics, features and reference do not fit one another.
        EvaluationError: if the features are not available, or the images cannot be measured against the reference.
    """
    content = source.content
    base = own if isinstance(content, StatisticsFile) else content  # an extractor may be made from its images
    known = images if source.published is None else dataclasses.replace(images, channels=clean_fid.CHANNELS)
    data = fixed_reference(content, known) if isinstance(content, StatisticsFile) else content
    size = (images.channels, images.image_size, images.image_size)
    candidates = candidates_for(choices, base, source)
    first = candidates[0]
    check_fit(size, data.info, any_size=first.plugin.any_size, feature_name=first.name)
    metrics = check_metrics(choices.metrics, data.info, first.names)
    if on_progress is not None:
        on_progress(f"preparing the features '{first.name}'", 0, 0)
    extractor = prepare_first(candidates, base or data, metrics=choices.metrics, device=device)
    if extractor.name != first.name:
        metrics = check_metrics(choices.metrics, data.info, extractor.names)
    notes = list(extractor.notes)
    if isinstance(content, StatisticsFile):
        check_identity(content, extractor.prepared, extractor.name)
        notes += _notes(content, source.published, images, extractor.name)
    measurement = Measurement(
        data,
        extractor.prepared,
        extractor.names,
        metrics,
        paths.cache_dir(),
        any_size=extractor.plugin.any_size,
        shared=True,
        on_progress=on_progress,
    )
    ground = Ground(source.name, source.split, extractor.reference, measurement, notes)
    if choices.export is not None:
        _export(choices.export, ground)
    return ground


def _notes(
    statistics: StatisticsFile, published: clean_fid.Statistics | None, images: DatasetInfo, name: str
) -> list[str]:
    """The notes on statistics that do not say how they were made, or that have another image size."""
    if published is not None:
        if images.image_size == published.resolution:
            return []
        return [
            f"the images have {images.image_size} pixels a side, and {statistics.path.name} is of images of "
            f"{published.resolution}"
        ]
    if statistics.metadata.get("features_identity") is not None:
        return []
    older = features_by_mode(clean_fid.NAME).get("legacy_tensorflow")
    hint = "" if older is None else f" (statistics of guided-diffusion and EDM: `features={older}`)"
    return [
        f"{statistics.path.name} does not say how it was made: the figures are valid only if it was with '{name}' and "
        f"the same resizing{hint}"
    ]


def _export(path: Path, ground: Ground) -> None:
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
        "features": measurement.names.features,
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
