"""Training bias apart from exposure bias, from estimates on true and on sampled x_t."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from debiasctl.analysis.parts.impact_figures import (
    LOG,
    PIXEL,
    Layout,
    bracket,
    of_channel,
    quantity,
    series,
    with_mean,
)
from debiasctl.analysis.parts.impact_levels import RealMeans, band_name
from debiasctl.analysis.parts.impact_means import Array, Means, means_of
from debiasctl.analysis.record import Quantity, Series

_FEWEST = 20  # images that a sampler must have changed for the error of the mean change to be known
# the first is that of schedules which begin in almost nothing but noise, where an error of eps is one of x0 times 1,000
RANGES: tuple[tuple[float | None, float | None], ...] = (
    (None, -12.0),
    (-12.0, -6.0),
    (-6.0, -2.0),
    (-2.0, 2.0),
    (2.0, None),
)


def range_name(bounds: tuple[float | None, float | None]) -> str:
    """A range of log-SNR as it stands in a figure's name."""
    low, high = bounds
    if low is None:
        return f"log_snr below {high:g}"
    return f"log_snr above {low:g}" if high is None else f"log_snr {low:g} to {high:g}"


@dataclass(frozen=True)
class Forced:
    """Mean errors of the estimate, by `ERRORS`: at each level [S, columns], and by range of log-SNR [columns].

    `power` [S, bands] is the logarithm of the power of the sampled estimate over that of the forced one.
    """

    log_snr: Sequence[float]
    errors: Mapping[str, Means]
    power: Means
    ranges: Mapping[str, Mapping[str, Means]]


def forced(
    log_snr: Sequence[float], sampled: Mapping[str, Array], real: RealMeans, true: Mapping[str, Array],
    classes: Tensor | None,
) -> Forced:  # fmt: skip
    """Split the error of the estimate along trajectories into training bias and exposure bias.

    The mean of the best estimate of x0 is the data's mean at every level, on true x_t. So the estimate's own error from
    true x_t is training bias; what the error along trajectories has beyond it, sampled x_t cause.
    """
    own = np.moveaxis(with_mean(sampled["own_colours"]), 1, 0)  # [N, S, columns]
    constant = with_mean(real.colours)
    from_true = adjusted(
        np.moveaxis(with_mean(true["from_true"]), 1, 0), with_mean(true["image_colours"]) - constant
    )  # fmt: skip
    shift = np.moveaxis(with_mean(sampled["used_colours"]), 1, 0) - own

    def split(part: Callable[[Array], Array]) -> dict[str, Means]:
        error = means_of(part(own), classes).less(constant)
        training = of_adjusted(part(from_true)).less(constant)
        values = training, error.minus(training), _of_several(part(shift), classes), error
        return dict(zip(ERRORS, values, strict=True))

    power = means_of(np.moveaxis(sampled["own_bands"], 1, 0), classes).log()
    power = power.minus(means_of(np.moveaxis(true["bands"], 1, 0)).log())
    ranges, at = {}, np.asarray(log_snr)
    for bounds in RANGES:
        low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
        within = (at >= low) & (at < high)
        if within.any():
            ranges[range_name(bounds)] = split(partial(_mean_over, within))
    return Forced(log_snr, split(lambda rows: rows), power, ranges)


def _of_several(rows: Array, classes: Tensor | None) -> Means:
    """The means of what few images may have at all, such as clipping; without an error where too few have it."""
    found = means_of(rows, classes)
    return Means(found.value, np.where((rows != 0).sum(axis=0) < _FEWEST, np.nan, found.se), found.freedom)


def _mean_over(within: NDArray[np.bool_], rows: Array) -> Array:
    found: Array = rows[:, within].mean(axis=1)
    return found


def of_adjusted(rows: Array) -> Means:
    """The means of `adjusted` rows, whose slope has taken a degree of freedom."""
    found, num = means_of(rows), len(rows)
    spread = (num - 1) / (num - 2) if num > 2 else np.nan
    return Means(found.value, found.se * np.sqrt(spread), max(num - 2, 1))


def adjusted(rows: Array, deviations: Array) -> Array:
    """Estimates `rows` [N, S, columns] less what follows from their images' own `deviations` [N, columns].

    The images at hand are a sample, whose mean is a little off the training images'. The estimates follow that by a
    slope between 0, at pure noise, and 1, at the image: regression on it leaves the mean that they would have for
    images of the training images' mean, at a far smaller error.
    """
    centred = deviations - deviations.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    slope = np.einsum("nsc,nc->sc", rows, centred) / np.where(squares > 0, squares, 1.0)
    found: Array = rows - slope.clip(0, 1) * deviations[:, None]
    return found


ERRORS = {
    "training_bias": "{what} of the network's own estimate from true x_t, minus the training images', adjusted for the "
    "means of the images at hand",
    "exposure_bias": "what estimates from sampled x_t err beyond those from true x_t, in the {what}",
    "sampler_shift": "what the sampler's clipping, guidance or scaling add to the estimate, in the {what}",
    "estimate_error": "{what} of the network's own estimate along sampled trajectories, minus the training images'",
}


def forced_figures(found: Forced, layout: Layout) -> tuple[list[Quantity], list[Series]]:
    """The figures of teacher forcing."""
    quantities, curves = [], []
    for name, text in ERRORS.items():
        for column, channel in enumerate(layout.colours):
            said, whole = text.format(what=of_channel(channel)), found.errors[name][:, column]
            curves.append(series(f"{name}{bracket(channel)}", "log_snr", found.log_snr, whole, unit=PIXEL, text=said))
            for where, errors in found.ranges.items():
                means = errors[name][column]
                quantities.append(
                    quantity(
                        f"{name}{bracket(channel, where)}", float(means.value), means, unit=PIXEL,
                        text=f"{said}; mean over the steps at {where.replace('log_snr', 'log SNR')}",
                    )
                )  # fmt: skip
    for column, band in enumerate(layout.bands):
        curves.append(
            series(
                f"exposure_power[{band_name(band)} cycles]", "log_snr", found.log_snr, found.power[:, column], unit=LOG,
                text=f"log ratio of the power of the estimate from sampled x_t to that from true x_t, at "
                f"{band_name(band)} cycles per image",
            )
        )  # fmt: skip
    return quantities, curves
