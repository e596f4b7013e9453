"""The metrics by name: which data and features have them, which way is better, and what is computed for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from debiasctl import registry
from debiasctl.api import DatasetInfo
from debiasctl.errors import UsageError
from debiasctl.registry.messages import did_you_mean

Better = Literal["lower", "higher", "closer to 0"]
LOWER: Final = "lower"
HIGHER: Final = "higher"
ZERO: Final = "closer to 0"
CHANNELS = {1: {"grey": "grey value"}, 3: {"r": "red", "g": "green", "b": "blue"}}
NEIGHBOURS = ("precision", "recall", "density", "coverage")
NEAREST = ("nearest_train_gap", "memorised_share")
_RGB = ("mean_shift_squared", "colour_fd")


@dataclass(frozen=True)
class Metric:
    """Which direction of a metric is better, and what it is, in one sentence."""

    better: Better
    description: str


def default_features(info: DatasetInfo) -> str:
    """The feature extractor that fits a data set: `local` with classes, `pixels` without."""
    return "local" if len(info.classes) > 1 else "pixels"


def distance_names(feature_name: str) -> tuple[str, str]:
    """What the Fréchet and the kernel distance are called; FID and KID are Inception's alone."""
    return ("fid", "kid") if feature_name == "inception" else (f"fd_{feature_name}", f"kd_{feature_name}")


def extra_names(feature_name: str) -> tuple[str, str]:
    """What the score by class probabilities and the Fréchet distance of spatial features are called."""
    return ("inception_score", "sfid") if feature_name == "inception" else (f"is_{feature_name}", f"sfd_{feature_name}")


def pixel_names(channels: int) -> list[str]:
    """The metrics of the pixels themselves, which need no features, of images with so many channels."""
    shifts = [f"{kind}_shift_{name}" for kind in ("mean", "std") for name in CHANNELS.get(channels, {})]
    return [*shifts, *(_RGB if channels == 3 else ()), "spectrum_distance"]


def available_metrics(info: DatasetInfo, feature_name: str) -> dict[str, Metric]:
    """Every metric of a data set in a feature space, by name."""
    return _metrics(info.channels, feature_name)


def _metrics(channels: int, feature_name: str) -> dict[str, Metric]:
    frechet, kernel = distance_names(feature_name)
    score, spatial = extra_names(feature_name)
    within = f"in '{feature_name}' features"
    metrics: dict[str, tuple[Better, str]] = {
        frechet: (LOWER, f"Fréchet distance to the training images {within}"),
        kernel: (LOWER, f"kernel distance (unbiased MMD², cubic) to the training images {within}"),
        spatial: (LOWER, f"Fréchet distance to the training images in the spatial features of '{feature_name}'"),
        score: (HIGHER, f"inception score: how sure and how varied the classes of '{feature_name}' are"),
        "precision": (HIGHER, f"share of images among the training images (k = 3) {within}"),
        "recall": (HIGHER, f"share of training images among the images (k = 3) {within}"),
        "density": (HIGHER, f"how many training images' surroundings (k = 5) an image lies in, over k, {within}"),
        "coverage": (HIGHER, f"share of training images with an image in their surroundings (k = 5) {within}"),
        "nearest_train_gap": (
            ZERO,
            f"mean distance to the nearest training image {within}, over held-out images' mean, minus 1; -1: copies",
        ),
        "memorised_share": (LOWER, f"share of images nearer to a training image than 1 % of held-out ones {within}"),
        "spectrum_distance": (LOWER, "mean squared log-ratio of the power at each spatial frequency to the real one"),
    }
    for name, colour in CHANNELS.get(channels, {}).items():
        metrics[f"mean_shift_{name}"] = (ZERO, f"mean {colour} of the images minus the real images', in [-1, 1]")
    for name, colour in CHANNELS.get(channels, {}).items():
        metrics[f"std_shift_{name}"] = (ZERO, f"standard deviation of {colour} minus the real images', in [-1, 1]")
    if channels == 3:
        metrics |= {
            "mean_shift_squared": (LOWER, "squared mean shift, summed over red, green and blue, in units of [-1, 1]"),
            "colour_fd": (LOWER, "Fréchet distance of the images' mean colours, in units of [-1, 1]"),
        }
    return {name: Metric(better, text) for name, (better, text) in metrics.items()}


def check_metrics(metrics: Sequence[str] | None, info: DatasetInfo, *, feature_name: str) -> list[str]:
    """The metrics that are asked for, each once; None asks for all of them.

    Raises:
        UsageError: a name that this data set has not in these features, with the nearest one that it has; or no name.
    """
    return check_names(metrics, channels=[info.channels], feature_names=[feature_name])


def check_names(metrics: Sequence[str] | None, *, channels: Sequence[int], feature_names: Sequence[str]) -> list[str]:
    """`check_metrics` where only several are known of which the images' channels and the features will be one."""
    known = list(dict.fromkeys(name for kind in feature_names for count in channels for name in _metrics(count, kind)))
    if metrics is None:
        return known
    if not metrics:
        raise UsageError(f"no metric is asked for. Known: {', '.join(known)}")
    unknown = next((name for name in metrics if name not in known), None)
    if unknown is not None:
        raise UsageError(f"{_why_unknown(unknown, known, channels, feature_names)} Known: {', '.join(known)}")
    return list(dict.fromkeys(metrics))


def _why_unknown(name: str, known: Sequence[str], channels: Sequence[int], feature_names: Sequence[str]) -> str:
    if name in (*pixel_names(1), *pixel_names(3)):
        needed, given = ("grey", "RGB") if name in pixel_names(1) else ("RGB", "grey")
        given = given if channels[0] in CHANNELS else f"of {channels[0]} channels"
        return f"metric '{name}' is for {needed} images; this data set's are {given}."
    features = " or ".join(f"'{kind}'" for kind in feature_names)
    for record in registry.records("features"):
        own = _feature_metrics(record.name)
        if name in own:
            here = " or ".join(f"'{_feature_metrics(kind)[own.index(name)]}'" for kind in feature_names)
            return f"metric '{name}' needs `features={record.name}`; in features {features} it is {here}."
    return f"unknown metric '{name}' with features {features}.{did_you_mean(name, known)}"


def _feature_metrics(feature_name: str) -> tuple[str, ...]:
    return (*distance_names(feature_name), *extra_names(feature_name))
