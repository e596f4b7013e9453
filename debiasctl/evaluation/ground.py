"""The reference and the features of a measurement, chosen, checked and prepared before a sample is drawn."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path

import torch

from debiasctl import paths, registry
from debiasctl.api import DatasetInfo, Features, LoadedDataset, PreparedFeatures
from debiasctl.compute import processes
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.choices import Choices
from debiasctl.evaluation.extraction import FEATURES, SPATIAL
from debiasctl.evaluation.measure import Measurement, OnProgress, check_fit
from debiasctl.evaluation.metrics.catalogue import check_metrics, default_features, features_class
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.reference import FixedReference, fixed_reference
from debiasctl.evaluation.reference.sources import Source
from debiasctl.evaluation.reference.statistics_file import StatisticsFile, write_statistics
from debiasctl.evaluation.suggestions import features_by_mode, features_where, modes_of
from debiasctl.wording import quoted

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ground:
    """The reference that images are measured against: the data called `name`, which `split` of it, and `notes`."""

    name: str
    split: str
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
    name, plugin = _features(choices, base, source)
    known = images if source.published is None else dataclasses.replace(images, channels=clean_fid.CHANNELS)
    data = fixed_reference(content, known) if isinstance(content, StatisticsFile) else content
    size = (images.channels, images.image_size, images.image_size)
    check_fit(size, data.info, any_size=plugin.any_size, feature_name=name)
    names = plugin.metric_names(name)
    metrics = check_metrics(choices.metrics, data.info, names)
    prepared = plugin.prepare(base or data, cache_dir=paths.cache_dir(), device=device)
    notes = []
    if isinstance(content, StatisticsFile):
        _check_identity(content, prepared, name)
        notes = _notes(content, source.published, images, name)
    notes += [f"features '{name}': {text}" for text in prepared.notes()]
    measurement = Measurement(
        data,
        prepared,
        names,
        metrics,
        paths.cache_dir(),
        any_size=plugin.any_size,
        shared=True,
        on_progress=on_progress,
    )
    ground = Ground(source.name, source.split, measurement, notes)
    if choices.export is not None:
        _export(choices.export, ground)
    return ground


def _features(choices: Choices, base: LoadedDataset | None, source: Source) -> tuple[str, Features]:
    """The name of the features and the plugin, with the chosen weights."""
    default = default_features(None if base is None else base.info)
    if source.published is not None:
        default = source.published.features
    ref = registry.as_ref(choices.features or default)
    if choices.feature_weights is not None:
        option = features_class(ref.name).weights_option
        if option is None:
            raise UsageError(
                f"`feature_weights`: features '{ref.name}' have no weights from a file. Leave it out, or choose "
                + features_where(lambda plugin: plugin.weights_option is not None)
            )
        if option in ref.options:
            raise UsageError(f"`feature_weights` and the features' own option {option}=... are the same. Give only one")
        ref = dataclasses.replace(ref, options={**ref.options, option: str(choices.feature_weights)})
    plugin: Features = registry.create("features", ref)
    if source.published is not None:
        _check_published(source.published, plugin, ref.name)
    if base is None and not plugin.pretrained:
        raise UsageError(
            f"features '{ref.name}' are made from a data set's own images, but {source.name} holds no images. "
            f"Use {features_where(lambda plugin: plugin.pretrained)}; or measure a run; or name the data set: "
            "`reference=DATASET`"
        )
    if base is not None and plugin.labelled and not base.info.classes:
        raise UsageError(
            f"features '{ref.name}' need a data set with classes, and '{source.name}' has none. "
            f"Use {features_where(lambda plugin: not plugin.labelled and not plugin.pretrained)}"
        )
    return ref.name, plugin


def _check_published(statistics: clean_fid.Statistics, plugin: Features, name: str) -> None:
    """Check that published statistics were made with these features.

    Raises:
        UsageError: if they were made with others.
    """
    others = modes_of(plugin, clean_fid.NAME)
    if statistics.mode in others:
        return
    raise UsageError(
        f"clean-fid's statistics of mode={statistics.mode} were not made with features '{name}' as chosen: distances "
        f"between them are meaningless. Use `features={statistics.features}`"
        + (f", or statistics of mode={' or mode='.join(others)}" if others else "")
    )


def _check_identity(statistics: StatisticsFile, features: PreparedFeatures, name: str) -> None:
    """Check that statistics which say how they were made were made with this extractor.

    Raises:
        EvaluationError: if they were made with another one.
    """
    made = statistics.metadata.get("features_identity")
    if made not in (None, features.identity):
        raise EvaluationError(
            f"{statistics.path} was made with features {quoted(statistics.metadata.get('features'))} of identity "
            f"{str(made)[:12]}…, but these are '{name}' of identity {features.identity[:12]}…: distances between them "
            "are meaningless. Choose the same features, with the same options and weights"
        )


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
