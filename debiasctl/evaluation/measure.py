"""Measures a set of images against a data set: the figures, the same figures for real images, and the notes on both."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import DatasetInfo, LoadedDataset, PreparedFeatures
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.colour import colour_fd, mean_colours, mean_shift, mean_shift_squared
from debiasctl.evaluation.distances import frechet_distance, gaussian_moments, kernel_distance
from debiasctl.evaluation.reference import MAX_IMAGES, Reference, extract, reference_statistics, spread_indices
from debiasctl.validation import did_you_mean

LOWER, ZERO = "lower", "closer to 0"
_CHANNELS = {"mean_shift_r": "red", "mean_shift_g": "green", "mean_shift_b": "blue"}
_COLOUR = {
    **{
        name: (ZERO, f"mean {colour} of the images minus the real images', in units of [-1, 1]")
        for name, colour in _CHANNELS.items()
    },
    "mean_shift_squared": (LOWER, "squared mean shift, summed over red, green and blue, in units of [-1, 1]"),
    "colour_fd": (LOWER, "Fréchet distance of the images' mean colours, in units of [-1, 1]"),
}


def default_features(info: DatasetInfo) -> str:
    """The feature extractor that fits a data set: `local` with classes, `pixels` without."""
    return "local" if len(info.classes) > 1 else "pixels"


def distance_names(feature_name: str) -> tuple[str, str]:
    """What the Fréchet and the kernel distance are called; FID and KID are Inception's alone."""
    return ("fid", "kid") if feature_name == "inception" else (f"fd_{feature_name}", f"kd_{feature_name}")


def available_metrics(info: DatasetInfo, feature_name: str) -> dict[str, dict[str, str]]:
    """Every metric of a data set in a feature space: its name, which direction is `better`, and its `description`."""
    frechet, kernel = distance_names(feature_name)
    metrics = {
        frechet: (LOWER, f"Fréchet distance to the training images in '{feature_name}' features"),
        kernel: (LOWER, f"kernel distance (unbiased MMD², cubic) to the training images in '{feature_name}' features"),
        **(_COLOUR if info.channels == 3 else {}),
    }
    return {name: {"better": better, "description": text} for name, (better, text) in metrics.items()}


def check_metrics(metrics: Sequence[str] | None, info: DatasetInfo, *, feature_name: str) -> list[str]:
    """The metrics that are asked for, each once; None asks for all of them.

    Raises:
        UsageError: a name that this data set has not in these features, with the nearest one that it has; or no name.
    """
    known = available_metrics(info, feature_name)
    if metrics is None:
        return list(known)
    for name in metrics:
        if name in _COLOUR and name not in known:
            raise UsageError(
                f"metric '{name}' is for RGB images; this data set's have {info.channels} channel(s). "
                f"Known: {', '.join(known)}"
            )
        if name not in known:
            raise UsageError(
                f"unknown metric '{name}' with features '{feature_name}'.{did_you_mean(name, known)} "
                f"Known: {', '.join(known)}"
            )
    if not metrics:
        raise UsageError(f"no metric is asked for. Known: {', '.join(known)}")
    return list(dict.fromkeys(metrics))


def measure(
    images: Tensor,
    data: LoadedDataset,
    features: PreparedFeatures,
    *,
    feature_name: str,
    metrics: Sequence[str] | None,
    cache_dir: Path,
    batch_size: int = 256,
    max_reference: int = MAX_IMAGES,
) -> dict[str, Any]:
    """Every metric of `images` (uint8 [N, C, H, W]) against the training images, ready for JSON.

    A Fréchet distance of N images is biased upward, the more the smaller N, so each figure stands beside its `floor`,
    the same figure for real held-out images, of the same number: of `floor_num` = N held-out images spread evenly where
    there are so many; otherwise of all of them, with `value_at_floor_num`, the figure of the first `floor_num` of
    `images`. `floor` is None where fewer than 2 images are held out. Figures do not depend on `batch_size`, as long
    as the extractor's features do not (the built-in ones do not).

    Returns:
        `metrics` (name -> value, num, floor, floor_num, value_at_floor_num, better, description), `reference` (what
        they were measured against) and `notes` (sentences on their limits).

    Raises:
        UsageError: see `check_metrics`.
        EvaluationError: fewer than 2 images, or images that are not of the data set's shape.
    """
    names = check_metrics(metrics, data.info, feature_name=feature_name)
    _check_images(images, data.info)
    if feature_name == "inception" and not getattr(features, "verified_inception", False):
        raise EvaluationError("features named 'inception' are not from verified weights, so their figures are no FID")
    reference = reference_statistics(
        data, features, cache_dir=cache_dir, max_images=max_reference, batch_size=batch_size
    )
    images = images.cpu()
    found = extract(features, images, batch_size=batch_size)
    num = len(images)
    values, floors, matched, floor_num = _with_floor(found, mean_colours(images), reference, names, feature_name)
    described = available_metrics(data.info, feature_name)
    return {
        "metrics": {
            name: {
                "value": values[name],
                "num": num,
                "floor": floors.get(name),
                "floor_num": floor_num,
                "value_at_floor_num": matched.get(name),
                **described[name],
            }
            for name in names
        },
        "reference": {
            "split": "train",
            "num": len(reference.features),
            "floor_split": "heldout",
            "dataset_hash": data.content_hash,
            "feature_name": feature_name,
            "features": features.identity,
            "feature_dimension": features.dimension,
            "feature_details": dict(features.details),
        },
        "notes": _notes(names, feature_name, num=num, floor_num=floor_num, reference=reference),
    }


def _with_floor(
    features: Tensor, colours: Tensor, reference: Reference, names: Sequence[str], feature_name: str
) -> tuple[dict[str, float], dict[str, float], dict[str, float], int]:
    """The figures of the images, of the real held-out ones, of as many images as held out, and that number."""
    values = _figures(features, colours, reference, names, feature_name)
    kept = spread_indices(len(reference.heldout_features), len(features))
    if len(kept) < 2:
        return values, {}, {}, 0
    real = reference.heldout_features[kept], reference.heldout_colours[kept]
    floors = _figures(*real, reference, names, feature_name)
    if len(kept) == len(features):
        return values, floors, values, len(kept)
    matched = _figures(features[: len(kept)], colours[: len(kept)], reference, names, feature_name)
    return values, floors, matched, len(kept)


def _figures(
    features: Tensor, colours: Tensor, reference: Reference, names: Sequence[str], feature_name: str
) -> dict[str, float]:
    """The figures that are asked for, of images with these features [N, D] and mean colours [N, C]."""
    frechet, kernel = distance_names(feature_name)
    figures: dict[str, float] = {}
    if frechet in names:
        figures[frechet] = frechet_distance(*gaussian_moments(features), reference.mean, reference.covariance)
    if kernel in names:
        figures[kernel] = kernel_distance(features, reference.features, y_self=reference.kernel_self.item())
    if not any(name in _COLOUR for name in names):
        return figures
    figures |= dict(zip(_CHANNELS, mean_shift(colours, reference.colours), strict=True))
    figures["mean_shift_squared"] = mean_shift_squared(colours, reference.colours)
    figures["colour_fd"] = colour_fd(colours, reference.colours)
    return figures


def _check_images(images: Tensor, info: DatasetInfo) -> None:
    expected = (info.channels, info.image_size, info.image_size)
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise EvaluationError(f"images must be uint8 [N, C, H, W], not {images.dtype} {list(images.shape)}")
    if tuple(images.shape[1:]) != expected:
        raise EvaluationError(
            f"the images are {list(images.shape[1:])} (channels, height, width) and the data set's are "
            f"{list(expected)}: they cannot be measured against it"
        )
    if len(images) < 2:
        raise EvaluationError(f"a distance needs at least 2 images, not {len(images)}. Draw more: --num")


def _notes(names: Sequence[str], feature_name: str, *, num: int, floor_num: int, reference: Reference) -> list[str]:
    notes = []
    dimension = reference.features.shape[1]
    frechet = distance_names(feature_name)[0]
    counts = {"images": num, "held-out images": floor_num, "training images": len(reference.features)}
    for what, count in counts.items():
        if frechet in names and 0 < count <= dimension:
            notes.append(
                f"{frechet}: {count} {what} in {dimension} dimensions have a singular covariance; the figure is biased "
                "upward. Use several times more"
            )
    if not floor_num:
        notes.append("fewer than 2 images are held out, so there is no floor")
    elif floor_num < num:
        notes.append(
            f"only {floor_num} images are held out: compare the floor with the figure at its number, that of the "
            f"first {floor_num} of the {num}"
        )
    return notes
