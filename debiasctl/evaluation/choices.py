"""The user's choices for a measurement, and checks of their names before anything heavy is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from debiasctl import registry
from debiasctl.api import DatasetInfo, MetricNames
from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics.catalogue import ALL_DEFAULTS, CHANNELS, check_any, default_features, metric_names
from debiasctl.evaluation.reference import clean_fid
from debiasctl.evaluation.reference.names import check_reference
from debiasctl.files import check_file
from debiasctl.reading.user_text import user_path


@dataclass(frozen=True)
class Choices:
    """A user's choices for a measurement.

    `reference` is its text, or None for a run's own data; `export` is a file to which the reference's statistics are
    written.
    """

    features: str | None = None
    feature_weights: Path | None = None
    metrics: Sequence[str] | None = None
    reference: str | None = None
    export: Path | None = None


def check_choices(choices: Choices, info: DatasetInfo | None) -> None:
    """Check the choices before any image is read; `info` describes the run's data, or is None for given images.

    Raises:
        UsageError: if the features, the reference or a metric are unknown, there is neither a reference nor data of the
            run's own, or `export` is not an .npz file.
        DebiasctlError: if `export` cannot be written.
    """
    if choices.reference is not None:
        check_reference(choices.reference)
    elif info is not None and not info.num_train:
        raise UsageError(
            "the model was added without a data set, so there are no images of its own to measure it against. Name "
            "some, such as `reference=digits`; or add it again, by another name, with the data set that it was trained "
            "on: `dataset=digits`"
        )
    features: Sequence[str] = ALL_DEFAULTS
    if choices.features is not None:
        features = [registry.find("features", registry.as_ref(choices.features).name).name]
    elif choices.reference is not None and clean_fid.is_named(choices.reference):
        features = [registry.as_ref(clean_fid.parse_statistics(choices.reference).features).name]
    elif info is not None and choices.reference is None:
        features = default_features(info)[:1]
    if choices.metrics is not None:
        spaces: list[MetricNames] = [metric_names(name) for name in features]
        check_any(choices.metrics, channels=list(CHANNELS) if info is None else [info.channels], spaces=spaces)
    if choices.export is not None:
        check_file(choices.export, argument="export_reference", endings=(".npz",))


def check_images(path: Path, choices: Choices) -> None:
    """Check that given images exist and that there is a reference to measure them against.

    Raises:
        UsageError: if the path does not exist, or no reference is chosen.
    """
    if choices.reference is None:
        raise UsageError(
            "`samples` needs `reference`: a data set, a folder, .zip, .tar or .npz of images, or statistics"
        )
    if not user_path(path, argument="`samples`").exists():
        raise UsageError(f"`samples={path}` does not exist. Give a folder, .zip, .tar or .npz of images")
