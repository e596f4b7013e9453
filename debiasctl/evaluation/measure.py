"""Measures a set of images against a data set: the figures, the same figures for real images, and the notes on both."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import DatasetInfo, LoadedDataset, PreparedFeatures, Split
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.figures import Real, figures, fresh_distances, refusals
from debiasctl.evaluation.intervals import (
    METHOD,
    SHARE_METHOD,
    images_needed,
    jackknife_interval,
    refusal,
    share_interval,
)
from debiasctl.evaluation.jackknife import Division
from debiasctl.evaluation.metrics import (
    NEAREST,
    Outcome,
    available_metrics,
    check_metrics,
    default_features,
    distance_names,
    extra_names,
    pixel_names,
)
from debiasctl.evaluation.observed import EXTRAS, Observed, PixelStatistics, Shape, observe, real_pixels
from debiasctl.evaluation.reference import (
    MAX_IMAGES,
    Reference,
    reference_statistics,
    spread_indices,
)

__all__ = ["available_metrics", "check_metrics", "default_features", "distance_names", "measure", "observe_for"]


class _Spatial:
    """An extractor's spatial features as features of their own, so that their reference is kept like any other."""

    def __init__(self, features: Any, dimension: int) -> None:
        self.identity, self.dimension = f"{features.identity}-spatial", dimension
        self.details: Mapping[str, Any] = {}
        self._features = features

    def __call__(self, images: Tensor) -> Tensor:
        found: Tensor = self._features.spatial(images)
        return found


def observe_for(
    images: Split,
    features: PreparedFeatures,
    *,
    metrics: Sequence[str] | None,
    info: DatasetInfo,
    feature_name: str,
    batch_size: int = 256,
) -> Observed:
    """What `measure` needs to know of `images` for `metrics`, in one pass; its `features` are float64 [N, D].

    Raises:
        UsageError: see `check_metrics`.
        EvaluationError: see `observe`; images that are not of the data set's channels, or of its size where the
        extractor does not take any.
    """
    names = check_metrics(metrics, info, feature_name=feature_name)
    wanted = dict(zip(EXTRAS, extra_names(feature_name), strict=True))
    extras = [extra for extra, name in wanted.items() if name in names and hasattr(features, extra)]
    check_shape = partial(_check_shape, info=info, any_size=getattr(features, "any_size", False))
    pixels = _any_of(pixel_names(info.channels), names)
    return observe(images, features, extras=extras, pixels=pixels, batch_size=batch_size, check_shape=check_shape)


def measure(
    images: Split | Observed,
    data: LoadedDataset,
    features: PreparedFeatures,
    *,
    feature_name: str,
    metrics: Sequence[str] | None,
    cache_dir: Path,
    batch_size: int = 256,
    max_reference: int = MAX_IMAGES,
) -> dict[str, Any]:
    """Every metric of `images`, or of what `observe_for` found of them, against the training images, ready for JSON.

    What `observe_for` found was found for the same `metrics`.

    A Fréchet distance of N images is biased upward, the more the smaller N, so each figure stands beside its `floor`,
    the same figure for real held-out images, of the same number: of `floor_num` = N held-out images spread evenly where
    there are so many; otherwise of all of them, with `value_at_floor_num`, the figure of the first `floor_num` of
    `images`. `floor` is None where fewer than 2 images are held out. `corrected` is freed of the bias in 1/N, and
    `interval` is for what infinitely many such images would give, against the reference as it stands; it is None
    where `interval_reason` says why. Figures do not depend on `batch_size`, as long as the extractor's features do
    not (the built-in ones do not).

    Returns:
        `metrics` (name -> value, num, corrected, interval, interval_reason, floor, floor_num, value_at_floor_num,
        better, description, and a metric's own details), `unavailable` (name -> reason, of metrics that were not asked
        for by name), `reference` (what they were measured against) and `notes` (sentences on their limits).

    Raises:
        UsageError: see `check_metrics`.
        EvaluationError: see `observe_for`; a metric asked for by name that these images, features or reference do not
        have; features called Inception's that are not.
    """
    names = check_metrics(metrics, data.info, feature_name=feature_name)
    if feature_name == "inception" and not getattr(features, "verified_inception", False):
        raise EvaluationError("features named 'inception' are not from verified weights, so their figures are no FID")
    observed = (
        images
        if isinstance(images, Observed)
        else observe_for(
            images, features, metrics=metrics, info=data.info, feature_name=feature_name, batch_size=batch_size
        )
    )
    known = partial(reference_statistics, data, cache_dir=cache_dir, max_images=max_reference, batch_size=batch_size)
    reference, spatial, pixels, heldout_pixels = known(features), None, None, None
    if len(data.train) and _any_of(pixel_names(data.info.channels), names):
        pixels, heldout_pixels = real_pixels(data, cache_dir=cache_dir, max_images=max_reference, batch_size=batch_size)
    if len(data.train) and observed.spatial is not None:
        spatial = known(_Spatial(features, observed.spatial.shape[1]))
    fresh = fresh_distances(reference) if _any_of(NEAREST, names) else None
    real = Real(reference, pixels, spatial, fresh, size=data.info.image_size, channels=data.info.channels)
    refused = refusals(observed, real, names, feature_name=feature_name)
    _check_refused(metrics, refused)
    names = [name for name in names if name not in refused]
    outcomes = figures(observed, real, names, feature_name=feature_name)
    logits = None
    if observed.logits is not None and len(data.heldout) > 1:
        indices = spread_indices(len(data.heldout), max_reference)
        logits = observe(
            data.heldout, features, indices=indices, extras=["logits"], pixels=False, batch_size=batch_size
        ).logits
    floors, matched, floor_num = _floors(observed, outcomes, real, heldout_pixels, logits, feature_name=feature_name)
    described = available_metrics(data.info, feature_name)
    measured = {
        name: {
            "value": outcome.value,
            "num": outcome.num,
            **_uncertainty(outcome),
            "floor": floors.get(name),
            "floor_num": floor_num,
            "value_at_floor_num": matched.get(name),
            **described[name],
            **(outcome.details() if outcome.details else {}),
        }
        for name, outcome in outcomes.items()
    }
    frechet, spatial_name = distance_names(feature_name)[0], extra_names(feature_name)[1]
    return {
        "metrics": measured,
        "unavailable": refused,
        "reference": {
            "split": "train",
            "num": len(reference.features) if reference.features is not None else None,
            "floor_split": "heldout",
            "dataset_hash": data.content_hash,
            "feature_name": feature_name,
            "features": features.identity,
            "feature_dimension": features.dimension,
            "feature_details": dict(features.details),
        },
        "notes": _notes(names, feature_name, num=len(observed), floor_num=floor_num, reference=reference)
        + _below_zero(measured, [frechet, spatial_name, "colour_fd"]),
    }


def _floors(
    observed: Observed,
    outcomes: Mapping[str, Outcome],
    real: Real,
    pixels: PixelStatistics | None,
    logits: Tensor | None,
    *,
    feature_name: str,
) -> tuple[dict[str, float], dict[str, float], int]:
    """The figures of real held-out images, of as many of the images as are held out, and that number."""
    heldout = real.reference.heldout_features
    kept = spread_indices(len(heldout), len(observed))
    if len(kept) < 2:
        return {}, {}, 0
    pixels = None if pixels is None else pixels.take(kept)
    spatial = None if real.spatial is None else real.spatial.heldout_features[kept]
    shape = (real.channels, real.size, real.size)
    logits = None if logits is None else logits[kept]
    fresh = Observed(shape, heldout[kept], pixels, Division.of(len(kept)), logits, spatial)
    values = _values(figures(fresh, real, outcomes, feature_name=feature_name))
    if len(kept) == len(observed):
        return values, _values(outcomes), len(kept)
    first = observed.take(torch.arange(len(kept)))
    return values, _values(figures(first, real, outcomes, feature_name=feature_name)), len(kept)


def _values(outcomes: Mapping[str, Outcome]) -> dict[str, float]:
    return {name: outcome.value for name, outcome in outcomes.items()}


def _uncertainty(outcome: Outcome) -> dict[str, Any]:
    """`corrected`, `interval` with what the interval of a difference needs of each record, and `interval_reason`."""
    reason = outcome.reason if outcome.jackknife is None else refusal(outcome.num, outcome.dimension)
    if outcome.jackknife is None or reason is not None:
        return {"corrected": None, "interval": None, "interval_reason": reason}
    found = outcome.jackknife()
    if outcome.successes is None:
        interval, method = jackknife_interval(found), METHOD
    else:
        interval, method = share_interval(outcome.successes, outcome.num), SHARE_METHOD
    bounds = {"low": interval.low, "high": interval.high, "level": interval.level, "method": method}
    return {
        "corrected": interval.estimate,
        "interval": {**bounds, "jackknife": dataclasses.asdict(found)},
        "interval_reason": None,
    }


def _check_shape(shape: Shape, *, info: DatasetInfo, any_size: bool) -> None:
    expected = (info.channels, info.image_size, info.image_size)
    if shape == expected or (any_size and shape[0] == info.channels):
        return
    kinds = {1: "grey", 3: "colour"}
    if shape[0] != info.channels:
        first, second = (kinds.get(count, f"{count}-channel") for count in (shape[0], info.channels))
        what = f"{first} images cannot be measured against {second} ones. Convert one of the two sets first"
    else:
        what = "bring them to one size first, or use features that take any size"
    raise EvaluationError(
        f"the images are {list(shape)} (channels, height, width) and the data set's are {list(expected)}: {what}"
    )


def _any_of(some: Sequence[str], names: Sequence[str]) -> bool:
    return any(name in names for name in some)


def _check_refused(metrics: Sequence[str] | None, refused: Mapping[str, str]) -> None:
    named = [f"'{name}': {refused[name]}" for name in metrics or () if name in refused]
    if named:
        raise EvaluationError(f"these images cannot be measured by {'; '.join(named)}. Leave that out of --metrics")


def _notes(names: Sequence[str], feature_name: str, *, num: int, floor_num: int, reference: Reference) -> list[str]:
    notes = []
    dimension = len(reference.mean)
    frechet = distance_names(feature_name)[0]
    num_reference = 0 if reference.features is None else len(reference.features)
    counts = {"images": num, "held-out images": floor_num, "training images": num_reference}
    few = [f"{count} {what}" for what, count in counts.items() if 0 < count <= dimension]
    if frechet in names and few:
        notes.append(
            f"{frechet}: {' and '.join(few)} in {dimension} dimensions have a singular covariance, so the figure is "
            f"biased upward: at least D + 1 = {dimension + 1} are needed, and {images_needed(dimension)} images for an "
            "interval"
        )
    if not floor_num:
        notes.append("fewer than 2 images are held out, so there is no floor")
    elif floor_num < num:
        notes.append(
            f"only {floor_num} images are held out: compare the floor with the figure at its number, that of the "
            f"first {floor_num} of the {num}"
        )
    return notes


def _below_zero(measured: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """A distance is not negative, so such an interval says that its assumption does not hold."""
    found = [name for name in names if name in measured and (measured[name]["interval"] or {"high": 0})["high"] < 0]
    if not found:
        return []
    return [
        f"{', '.join(found)}: the interval lies below 0, so the images are no independent sample of anything at that "
        "distance: they overlap the reference, or their classes were chosen"
    ]
