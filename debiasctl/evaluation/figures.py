"""Computing each metric of a set of images against the real ones, and the reasons why some are unavailable."""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from debiasctl.api import DatasetInfo, MetricNames, spread_indices
from debiasctl.evaluation.copies import MIN_HELDOUT, QUANTILE, copies
from debiasctl.evaluation.extraction import FEATURES, PIXELS, PixelStatistics
from debiasctl.evaluation.metrics.catalogue import (
    CHANNELS,
    NEAREST,
    NEIGHBOURS,
    not_given,
    pixel_names,
)
from debiasctl.evaluation.metrics.colour import colour_fd, mean_shift_squared, pixel_std
from debiasctl.evaluation.metrics.distances import Moments, covariance_root, gaussian_moments
from debiasctl.evaluation.metrics.neighbours import DENSITY_K, manifolds, nearest_distances
from debiasctl.evaluation.metrics.spectrum import spectrum_distance
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.outcome import Outcome, of_means, of_share
from debiasctl.evaluation.record import Curve
from debiasctl.evaluation.reference.real import RealImages, RealRows
from debiasctl.evaluation.reference.reference import Reference
from debiasctl.evaluation.uncertainty.intervals import Jackknife
from debiasctl.evaluation.uncertainty.jackknife import (
    Division,
    Extrapolation,
    Gaussian,
    KernelSums,
    extrapolate,
    frechet_jackknife,
    group_moments,
    left_out_sets,
    mean_jackknife,
)
from debiasctl.evaluation.uncertainty.kernel_limits import kernel_limits
from debiasctl.evaluation.uncertainty.squared_length import squared_length_limits

_LOG = logging.getLogger(__name__)
MIN_PER_DIMENSION_OF_FIT = 16
_MOST_NEIGHBOURS = 10_000
_SLOW = 512  # dimensions from which an interval takes a while
_SMALL = 1e-300  # keeps the logarithm finite for a class with probability 0


@dataclass(frozen=True)
class Real:
    """The real images that are measured against, as far as the metrics need them.

    `reference` and `spatial` are the training images in the extractor's two spaces, `kernel_self` is the mean kernel
    between different ones (`by_class` if they have classes), and `pixels` are their pixel statistics. `heldout` are
    `num_heldout` other real images, and `fresh` [M] the distances of such images to the nearest training image.
    """

    info: DatasetInfo
    reference: Reference
    spatial: Reference | None
    kernel_self: float | None
    pixels: PixelStatistics | None
    heldout: Observed | None
    fresh: Tensor | None
    by_class: bool = False

    @property
    def num_heldout(self) -> int:
        """The number of held-out images."""
        return 0 if self.heldout is None else len(self.heldout)


def real_images(images: RealImages, rows: RealRows, wanted: Collection[str], names: MetricNames) -> Real:
    """Compute what the `wanted` metrics need of the real `images`, from their `rows`."""
    info = images.data.info
    size = (info.channels, info.image_size, info.image_size)
    heldout = Observed.of(size, rows.heldout, images.labels("heldout")) if rows.heldout else None
    measurable = FEATURES in rows.train
    has_fresh = measurable and heldout is not None and len(heldout) >= MIN_HELDOUT
    return Real(
        info,
        images.reference(rows),
        images.spatial(rows) if names.spatial in wanted else None,
        images.kernel_self(rows) if measurable and names.kernel in wanted else None,
        PixelStatistics.of(rows.train[PIXELS], channels=info.channels) if PIXELS in rows.train else None,
        heldout,
        images.fresh_distances(rows) if has_fresh and any(name in wanted for name in NEAREST) else None,
        by_class=measurable and images.labels("train") is not None,
    )


def refusals(observed: Observed, real: Real, wanted: Collection[str], names: MetricNames) -> dict[str, str]:
    """The `wanted` metrics that are unavailable for these images, each with the reason."""
    reference = real.reference
    refused: dict[str, str] = {}
    if reference.features is None:
        reason = "the reference holds only a mean and a covariance, not the features of each image"
        refused |= dict.fromkeys([names.kernel, *NEIGHBOURS, *NEAREST], reason)
    else:
        least = min(len(observed), len(reference.features))
        if least <= DENSITY_K:
            refused |= dict.fromkeys(NEIGHBOURS, f"more than {DENSITY_K} images of each kind are needed, not {least}")
        if real.num_heldout < MIN_HELDOUT:
            reason = f"at least {MIN_HELDOUT} held-out images are needed, not {real.num_heldout}"
            refused |= dict.fromkeys(NEAREST, reason)
        elif real.fresh is not None and not real.fresh.quantile(QUANTILE):
            copies, num = int((real.fresh == 0).sum()), len(real.fresh)
            refused["memorised_share"] = (
                f"{copies} of {num} held-out images are copies of training images, so no image can be closer to these "
                "than new images are"
            )
    if real.pixels is None:
        refused |= dict.fromkeys(pixel_names(real.info.channels), "the reference holds no images")
    elif observed.shape[1:] != (real.info.image_size, real.info.image_size):
        refused["spectrum_distance"] = (
            f"images of {observed.shape[1]}x{observed.shape[2]} have other frequencies than real images of "
            f"{real.info.image_size}x{real.info.image_size}"
        )
    if observed.logits is None:
        refused[names.score] = not_given(names.features)["logits"]
    if observed.spatial is None:
        refused[names.spatial] = not_given(names.features)["spatial"]
    elif real.spatial is None:
        refused[names.spatial] = "the reference holds no spatial features"
    elif len(real.spatial.mean) != observed.spatial.shape[1]:
        refused[names.spatial] = (
            f"the reference's spatial features have {len(real.spatial.mean)} dimensions, but these have "
            f"{observed.spatial.shape[1]}: they come from different extractors"
        )
    return {name: reason for name, reason in refused.items() if name in wanted}


def figures(observed: Observed, real: Real, wanted: Collection[str], names: MetricNames) -> dict[str, Outcome]:
    """Compute the `wanted` metrics, leaving out those that need more images."""
    found: dict[str, Outcome] = {}
    if names.frechet in wanted:
        found[names.frechet] = _frechet(observed.features, real.reference, observed.division)
    if names.kernel in wanted:
        found[names.kernel] = _kernel(observed.features, real, observed.division)
    if names.spatial in wanted and observed.spatial is not None and real.spatial is not None:
        found[names.spatial] = _frechet(observed.spatial, real.spatial, observed.division)
    if names.score in wanted and observed.logits is not None:
        found[names.score] = _inception_score(observed.logits, observed.division)
    if any(name in wanted for name in NEIGHBOURS):
        found |= _neighbours(observed.features, real.reference, observed.division)
    if any(name in wanted for name in NEAREST):
        found |= _nearest(observed.features, real, observed.division)
    if any(name in wanted for name in pixel_names(real.info.channels)):
        assert observed.pixels is not None, "extracted for these metrics"
        assert real.pixels is not None, "refused otherwise"
        found |= _pixels(observed.pixels, real.pixels, wanted, division=observed.division)
    return {name: found[name] for name in wanted if name in found}


def _frechet(features: Tensor, reference: Reference, division: Division) -> Outcome:
    target = Gaussian(reference.mean, reference.covariance, reference.root)
    num, dimension = features.shape
    moments = Moments(dimension)
    moments.add(features)
    value = target.distance(moments)

    def extrapolated() -> Extrapolation | str:
        needed = MIN_PER_DIMENSION_OF_FIT * dimension
        if num < needed:
            return f"a fit in 1/N needs {needed} images, not {num}"
        return extrapolate(group_moments(features, division), target)

    def jackknife() -> Jackknife:
        if dimension >= _SLOW:
            _LOG.info("finding an interval: %d Fréchet distances in %d dimensions", len(left_out_sets()), dimension)
        return frechet_jackknife(features, target, division)

    return Outcome(value, num, jackknife, dimension=dimension, squared=True, extrapolate=extrapolated)


def _kernel(features: Tensor, real: Real, division: Division) -> Outcome:
    assert real.reference.features is not None, "refused otherwise"
    assert real.kernel_self is not None, "computed for this metric"
    sums = KernelSums(features, real.reference.features, y_self=real.kernel_self, division=division)
    by_class = division.classes is not None or real.by_class
    limits = partial(kernel_limits, features, real.reference.features, division=division)
    return Outcome(sums.value, len(features), sums.jackknife, squared=True, limits=limits, by_class=by_class)


def _inception_score(logits: Tensor, division: Division) -> Outcome:
    """Compute exp of the mean KL of an image's class probabilities from their mean (Salimans et al., 1606.03498)."""
    probabilities = logits.to(torch.float64).softmax(dim=1)
    information = (probabilities * probabilities.clamp(min=_SMALL).log()).sum(dim=1, keepdim=True)
    rows = torch.cat([probabilities, information], dim=1)

    def score(mean: Tensor) -> float:
        return float((mean[-1] - (mean[:-1] * mean[:-1].clamp(min=_SMALL).log()).sum()).exp())

    return of_means(rows, division, score, dimension=logits.shape[1])


def _neighbours(features: Tensor, reference: Reference, division: Division) -> dict[str, Outcome]:
    """Compute the metrics with equally many images and training images, since the figures depend on both numbers."""
    assert reference.features is not None, "refused otherwise"
    num = min(len(features), len(reference.features), _MOST_NEIGHBOURS)
    if num <= DENSITY_K:
        return {}
    chosen = division.subset(num)
    found = manifolds(features[chosen], reference.features[spread_indices(len(reference.features), num)])
    hanging = (
        "one image more or less changes many neighbourhoods, and no interval method with verified coverage exists for "
        "this metric"
    )
    return {
        "precision": of_share(found.inside),
        "recall": Outcome(float(found.found.mean()), num, reason=hanging),
        "density": of_means(found.density, division.take(chosen), float),
        "coverage": Outcome(float(found.covered.mean()), num, reason=hanging),
    }


def _nearest(features: Tensor, real: Real, division: Division) -> dict[str, Outcome]:
    assert real.reference.features is not None, "refused otherwise"
    assert real.fresh is not None, "computed for these metrics"
    return copies(nearest_distances(features, real.reference.features), real.fresh, division)


def _pixels(
    pixels: PixelStatistics, real: PixelStatistics, wanted: Collection[str], *, division: Division
) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    real_means = real.colours.mean(dim=0)
    for channel, name in enumerate(CHANNELS.get(pixels.colours.shape[1], {})):
        colours, moments = (
            pixels.colours[:, channel],
            torch.stack([pixels.colours[:, channel], pixels.squares[:, channel]], dim=1),
        )
        target = pixel_std(torch.stack([real_means[channel], real.squares[:, channel].mean()]))
        found[f"mean_shift_{name}"] = of_means(colours, division, _less(float, float(real_means[channel])))
        found[f"std_shift_{name}"] = of_means(moments, division, _less(pixel_std, target))
    if "mean_shift_squared" in wanted:
        outcome = of_means(pixels.colours, division, lambda mean: mean_shift_squared(mean[None], real_means[None]))
        found["mean_shift_squared"] = replace(
            outcome, limits=partial(_length_limits, pixels.colours - real_means, division=division)
        )
    if "colour_fd" in wanted:
        mean, covariance = gaussian_moments(real.colours)
        target_colours = Gaussian(mean, covariance, covariance_root(covariance))
        found["colour_fd"] = Outcome(
            colour_fd(pixels.colours, real.colours), len(pixels.colours),
            lambda: frechet_jackknife(pixels.colours, target_colours, division),
            dimension=pixels.colours.shape[1],
            squared=True,
        )  # fmt: skip
    if "spectrum_distance" in wanted and pixels.power.shape[1] == real.power.shape[1]:
        found["spectrum_distance"] = _spectrum(pixels.power, real.power.mean(dim=0), division)
    return found


def _spectrum(power: Tensor, real: Tensor, division: Division) -> Outcome:
    mean = power.mean(dim=0)
    curve = Curve(cycles_per_image=list(range(1, len(real) + 1)), power=mean.tolist(), real_power=real.tolist())
    statistic = partial(spectrum_distance, reference=real)
    jackknife = partial(mean_jackknife, power, statistic, division=division)
    return Outcome(statistic(mean), len(power), jackknife, squared=True, curve=curve)


def _length_limits(rows: Tensor, estimate: float, *, division: Division) -> tuple[float, float]:
    """The limits of the squared length of the expectation of `rows` [N, C], whatever the estimate."""
    low, high = squared_length_limits(rows.mean(dim=0).numpy(), division.covariance_of_mean(rows).numpy())
    return float(low), float(high)


def _less(statistic: Callable[[Tensor], float], target: float) -> Callable[[Tensor], float]:
    return lambda mean: statistic(mean) - target
