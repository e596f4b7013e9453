"""The catalogue of metrics: their names, descriptions and better direction, by data and features."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from debiasctl import registry
from debiasctl.api import DatasetInfo, Features, MetricNames
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import did_you_mean

Better = Literal["lower", "higher", "closer to 0"]
LOWER: Final = "lower"
HIGHER: Final = "higher"
ZERO: Final = "closer to 0"
CHANNELS = {1: {"grey": "grey value"}, 3: {"r": "red", "g": "green", "b": "blue"}}
NEIGHBOURS = ("precision", "recall", "density", "coverage")
NEAREST = ("nearest_train_gap", "memorised_share")
# for data with classes, data without, statistics alone; each next one where the data do not suit those before it
_DEFAULTS = (("local", "local-ssl", "pixels"), ("local-ssl", "pixels"), ("inception",))
ALL_DEFAULTS = tuple(dict.fromkeys(name for names in _DEFAULTS for name in names))
_RGB = ("mean_shift_squared", "colour_fd")
_SHARE, _DISTANCE, _SCORE = (0.0, 1.0), (0.0, math.inf), (1 - 1e-6, math.inf)
_RANGES = {
    **dict.fromkeys(("precision", "recall", "coverage", "memorised_share"), _SHARE),
    **dict.fromkeys(("fid", "sfid", "density", "spectrum_distance", "colour_fd"), _DISTANCE),
    **dict.fromkeys(("is", "inception_score"), _SCORE),
    "nearest_train_gap": (-1.0, math.inf),
    "mean_shift": (-2.0, 2.0),
    "std_shift": (-1.0, 1.0),
    "mean_shift_squared": (0.0, 12.0),
}
_ENOUGH = "more than 5 images, and as many reference images"


@dataclass(frozen=True)
class Metric:
    """A metric's better direction, its description in one sentence, and what has to be there to measure it."""

    better: Better
    description: str
    needs: str


def default_features(info: DatasetInfo | None) -> tuple[str, ...]:
    """The features for a data set, or for statistics alone if `info` is None, when none are asked for.

    The first ones are the default; the others are for data that do not suit those before them.
    """
    with_classes, without, of_statistics = _DEFAULTS
    if info is None:
        return of_statistics
    return with_classes if len(info.classes) > 1 else without


def metric_names(features: str) -> MetricNames:
    """The names of the metrics in these features, as their plugin states them.

    Raises:
        UnknownPluginError, PluginLoadError: if there is no such plugin, or it cannot be loaded.
    """
    return features_class(features).metric_names(registry.find("features", features).name)


def features_class(features: str) -> type[Features]:
    """The class of a feature extractor's plugin.

    Raises:
        UnknownPluginError, PluginLoadError: if there is no such plugin, or it cannot be loaded.
    """
    plugin = registry.load("features", features)
    assert issubclass(plugin, Features), "the registry checks a plugin's base"
    return plugin


def not_given(features: str) -> dict[str, str]:
    """For each part that an extractor may not offer, the reason why metrics that need it are unavailable."""
    return {
        "logits": f"features '{features}' give no class probabilities",
        "spatial": f"features '{features}' give no spatial features",
    }


def pixel_names(channels: int) -> list[str]:
    """The metrics of the pixels themselves, which need no features, for images with this number of channels."""
    shifts = [f"{kind}_shift_{name}" for kind in ("mean", "std") for name in CHANNELS.get(channels, {})]
    return [*shifts, *(_RGB if channels == 3 else ()), "spectrum_distance"]


@cache
def is_of_pixels(name: str) -> bool:
    """Whether a metric is of the pixels themselves, and so the same in all features."""
    return name in (*pixel_names(1), *pixel_names(3))


def available_metrics(info: DatasetInfo, names: MetricNames) -> dict[str, Metric]:
    """Every metric that a data set has in a feature space, by name."""
    return _metrics(info.channels, names)


def _metrics(channels: int, names: MetricNames) -> dict[str, Metric]:
    spectrum = Metric(
        LOWER,
        "mean squared log-ratio of the power at each spatial frequency to that of the real images",
        needs="reference images of the same size",
    )
    return {**_in_features(names), "spectrum_distance": spectrum, **_of_colours(channels)}


@cache
def possible_range(name: str) -> tuple[float, float]:
    """The least and the greatest value that a metric can have; unlimited if its name says nothing."""
    kind = name.rsplit("_", 1)[0] if "_shift_" in name and name not in _RGB else name
    if name.startswith(("fd_", "sfd_")):
        return 0.0, math.inf
    return _RANGES.get("is" if name.startswith("is_") else kind, (-math.inf, math.inf))


def direction(name: str) -> Better:
    """Which way a metric of that name is better, as far as its name tells; lower, if it tells nothing."""
    if name == "nearest_train_gap" or (name.startswith(("mean_shift_", "std_shift_")) and name not in _RGB):
        return ZERO
    higher = ("precision", "recall", "density", "coverage", "is", "inception_score")
    return HIGHER if name in higher or name.startswith("is_") else LOWER


def _in_features(names: MetricNames) -> dict[str, Metric]:
    within = f"in '{names.features}' features"
    return {
        names.frechet: Metric(
            LOWER, f"Fréchet distance to the training images {within}", needs="a reference of images or of statistics"
        ),
        names.kernel: Metric(
            LOWER,
            f"kernel distance (unbiased MMD², cubic) to the training images {within}",
            needs="reference images",
        ),
        names.spatial: Metric(
            LOWER,
            f"Fréchet distance to the training images in the spatial features of '{names.features}'",
            needs="features that offer a spatial layer",
        ),
        names.score: Metric(
            HIGHER,
            f"inception score: how confident and how varied the classes predicted by '{names.features}' are",
            needs="features that offer class probabilities",
        ),
        "precision": Metric(
            HIGHER, f"share of images in the training images' neighbourhoods (k = 3) {within}", needs=_ENOUGH
        ),
        "recall": Metric(
            HIGHER, f"share of training images in the images' neighbourhoods (k = 3) {within}", needs=_ENOUGH
        ),
        "density": Metric(
            HIGHER,
            f"mean number of training images' neighbourhoods (k = 5) around an image, over k, {within}",
            needs=_ENOUGH,
        ),
        "coverage": Metric(
            HIGHER,
            f"share of training images with an image in their neighbourhood (k = 5) {within}",
            needs=_ENOUGH,
        ),
        "nearest_train_gap": Metric(
            ZERO,
            f"mean distance to the nearest training image {within}, relative to held-out images' mean, minus 1; "
            "-1: copies",
            needs="at least 100 held-out images",
        ),
        "memorised_share": Metric(
            LOWER,
            f"share of images closer to a training image than all but 1 % of held-out images are {within}",
            needs="at least 100 held-out images, which are not copies of training images",
        ),
    }


def _of_colours(channels: int) -> dict[str, Metric]:
    metrics = {}
    coloured = "grey images" if channels == 1 else "colour images"
    for name, colour in CHANNELS.get(channels, {}).items():
        metrics[f"mean_shift_{name}"] = Metric(
            ZERO, f"mean {colour} of the images minus the real images', in [-1, 1]", needs=coloured
        )
    for name, colour in CHANNELS.get(channels, {}).items():
        metrics[f"std_shift_{name}"] = Metric(
            ZERO, f"standard deviation of {colour} minus the real images', in [-1, 1]", needs=coloured
        )
    if channels == 3:
        metrics["mean_shift_squared"] = Metric(
            LOWER, "squared mean shift, summed over red, green and blue, in units of [-1, 1]", needs=coloured
        )
        metrics["colour_fd"] = Metric(
            LOWER, "Fréchet distance of the images' mean colours, in units of [-1, 1]", needs=coloured
        )
    return metrics


def check_metrics(metrics: Sequence[str] | None, info: DatasetInfo, names: MetricNames) -> list[str]:
    """Return the requested metrics, each once; None requests all of them.

    Raises:
        UsageError: if a metric is not available for this data set and these features, or none is requested.
    """
    return check_any(metrics, channels=[info.channels], spaces=[names])


def check_any(metrics: Sequence[str] | None, *, channels: Sequence[int], spaces: Sequence[MetricNames]) -> list[str]:
    """Do the same as `check_metrics` when only the possible channels and features of the images are known yet."""
    known = list(dict.fromkeys(name for names in spaces for count in channels for name in _metrics(count, names)))
    if metrics is None:
        return known
    if not metrics:
        raise UsageError(f"no metric is requested. Known: {', '.join(known)}")
    unknown = next((name for name in metrics if name not in known), None)
    if unknown is not None:
        raise UsageError(f"{_why_unknown(unknown, known, channels, spaces)} Known: {', '.join(known)}")
    return list(dict.fromkeys(metrics))


def _why_unknown(name: str, known: Sequence[str], channels: Sequence[int], spaces: Sequence[MetricNames]) -> str:
    if name in (*pixel_names(1), *pixel_names(3)):
        needed, given = ("grey", "RGB") if name in pixel_names(1) else ("RGB", "grey")
        given = given if channels[0] in CHANNELS else f"of {channels[0]} channels"
        return f"metric '{name}' is for {needed} images; this data set's are {given}."
    features = " or ".join(f"'{names.features}'" for names in spaces)
    owner = _owner(name)
    if owner is not None:
        here = " or ".join(f"'{_own(names)[_own(owner).index(name)]}'" for names in spaces)
        return f"metric '{name}' needs `features={owner.features}`; in features {features} it is {here}."
    return f"unknown metric '{name}' with features {features}.{did_you_mean(name, known)}"


def _owner(name: str) -> MetricNames | None:
    """Find the installed features with a metric of this name, loading no plugin if the name says it."""
    installed = [record.name for record in registry.records("features")]
    for names in map(MetricNames.of, installed):
        if name in _own(names):
            return names
    for features in installed:
        try:
            names = metric_names(features)
        except DebiasctlError:  # a plugin that cannot be loaded is reported when it is asked for
            continue
        if name in _own(names):
            return names
    return None


def _own(names: MetricNames) -> tuple[str, ...]:
    return names.frechet, names.kernel, names.score, names.spatial
