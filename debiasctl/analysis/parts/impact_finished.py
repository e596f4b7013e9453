"""The estimate along trajectories and the finished images against the data, over numbers of steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor, from_numpy

from debiasctl.analysis.parts.impact_figures import (
    LOG,
    PIXEL,
    Layout,
    bracket,
    of_channel,
    quantity,
    series,
    short,
    with_mean,
)
from debiasctl.analysis.parts.impact_levels import RealMeans, band_name
from debiasctl.analysis.parts.impact_means import Array, Means, extended, means_of, root_mean_square
from debiasctl.analysis.record import Quantity, Series
from debiasctl.evaluation.metrics.colour import mean_shift_squared
from debiasctl.evaluation.metrics.spectrum import spectrum_distance
from debiasctl.evaluation.uncertainty.intervals import MIN_IMAGES, squared_interval
from debiasctl.evaluation.uncertainty.jackknife import Division, mean_jackknife
from debiasctl.evaluation.uncertainty.squared_length import squared_length_limits
from debiasctl.reporting.study_data import Bounded

_DISTANCES = {
    "image_distance": "root mean square distance, over pixels and noises, of an image from the one that the same noise "
    "gives in the most steps",
    "colour_distance": "root mean square distance of an image's mean colour from that of the image that the same noise "
    "gives in the most steps",
}


def drift_series(
    num_steps: int, log_snr: Sequence[float], rows: Mapping[str, Array], real: RealMeans, layout: Layout,
    classes: Tensor | None,
) -> list[Series]:  # fmt: skip
    """How far the estimate that each step is made of is from the data, in colour and in the bands of its spectrum."""
    drift = means_of(np.moveaxis(with_mean(rows["used_colours"]), 1, 0), classes).less(with_mean(real.colours))
    power = means_of(np.moveaxis(rows["used_bands"], 1, 0), classes).log().less(np.log(_positive(real.bands)))
    steps = f"T={num_steps}"
    found = [
        series(
            f"estimate_drift{bracket(steps, channel)}", "log_snr", log_snr, drift[:, column], unit=PIXEL,
            text=f"{of_channel(channel)} of the estimate of the image that a step of {num_steps} is made of, minus the "
            "training images'",
        )
        for column, channel in enumerate(layout.colours)
    ]  # fmt: skip
    found += [
        series(
            f"estimate_power{bracket(steps, f'{band_name(band)} cycles')}", "log_snr", log_snr, power[:, column],
            unit=LOG, text=f"log ratio of that estimate's power at {band_name(band)} cycles per image to the training "
            "images'; below 0 at much noise, where even the best estimate is smooth",
        )
        for column, band in enumerate(layout.bands)
    ]  # fmt: skip
    return found


@dataclass(frozen=True)
class Finished:
    """The finished images of one number of steps against the training images', and against the most steps' images."""

    num_steps: int
    shift: Means  # [columns]
    shift_squared: Bounded | None  # summed over channels
    spectrum: Bounded
    distance: Means | None  # RMS over pixels
    colour_distance: Means | None


def finished(
    num_steps: int,
    rows: Mapping[str, Array],
    most: Mapping[str, Array],
    real: RealMeans,
    classes: Tensor | None,
    *,
    longest: Array | None,
) -> Finished:
    """The figures of one number of steps; `longest` [M, C, H, W] are the first images of the most steps.

    `most` are those of the number of steps with the most images; `classes` are of these.
    """
    every, classes = classes, None if classes is None else classes[: len(rows["colours"])]
    colours = rows["colours"]
    division = Division.of(len(colours), classes)
    squared = None
    if colours.shape[1] == 3 and len(colours) > 1:
        shift = from_numpy(colours - real.stored_colours)
        low, high = squared_length_limits(shift.mean(dim=0).numpy(), division.covariance_of_mean(shift).numpy())
        squared = Bounded(mean_shift_squared(shift, 0 * shift[:1]), float(low), float(high))
    power, reference = from_numpy(rows["power"]), from_numpy(real.stored_power)
    spectrum = Bounded(spectrum_distance(power.mean(dim=0), reference))
    if len(power) >= MIN_IMAGES:
        kept = mean_jackknife(power, lambda mean: spectrum_distance(mean, reference), division=division)
        interval = squared_interval(kept, spectrum.value)
        spectrum = Bounded(spectrum.value, max(interval.low, 0.0), max(interval.high, spectrum.value))
    distance = colour = None
    if longest is not None:
        apart = rows["images"][: len(longest)] - longest
        own = None if classes is None else classes[: len(apart)]
        distance = root_mean_square((apart**2).mean(axis=(1, 2, 3)), own)
        colour = root_mean_square((apart.mean(axis=(2, 3)) ** 2).mean(axis=1), own)
    shifted = extended(with_mean(colours), with_mean(most["colours"]), every).less(with_mean(real.stored_colours))
    return Finished(num_steps, shifted, squared, spectrum, distance, colour)


def between_noises(images: Array) -> Means | None:
    """The RMS distance over pixels of images [N, C, H, W] of different noises, each to the next."""
    if len(images) < 3:
        return None
    apart = ((images - np.roll(images, 1, axis=0)) ** 2).mean(axis=(1, 2, 3))
    found = root_mean_square(apart)
    # an image is in two of the distances, and so they are no independent ones: twice the variance holds all of it
    return Means(found.value, found.se * np.sqrt(2), found.freedom, least=0.0)


def finished_figures(
    found: Sequence[Finished], layout: Layout, shown: Sequence[int]
) -> tuple[list[Quantity], list[Series]]:
    """The figures of finished images over numbers of steps; those of the numbers `shown` stand alone as well."""
    quantities, curves = [], []
    for column, channel in enumerate(layout.colours):
        text = f"{of_channel(channel)} of the finished images, minus the training images'"
        shifts = {one.num_steps: one.shift[column] for one in found}
        curves.append(_over_steps(f"final_mean_shift{bracket(channel)}", shifts, text))
        quantities += [
            quantity(
                f"final_mean_shift{bracket(f'T={steps}', channel)}", float(shift.value), shift, unit=PIXEL,
                text=f"{text}, in {steps} steps",
            )
            for steps, shift in shifts.items()
            if steps in shown
        ]  # fmt: skip
    squares: dict[str, tuple[list[Bounded], str, str]] = {
        "final_mean_shift_squared": (
            [one.shift_squared for one in found if one.shift_squared is not None],
            f"{PIXEL}, squared",
            "squared mean shift of the finished images, summed over channels",
        ),
        "final_spectrum_distance": (
            [one.spectrum for one in found],
            "",
            "mean squared log ratio of the finished images' power to the training images'",
        ),
    }
    axis = [float(one.num_steps) for one in found]
    for name, (known, unit, text) in squares.items():
        if len(known) == len(found):
            value, low, high = (
                [None if one is None else short(one) for one in part] for part in zip(*known, strict=True)
            )
            curves.append(
                Series(name=name, axis="steps", x=axis, value=value, low=low, high=high, unit=unit, text=text)
            )
    for name, text in _DISTANCES.items():
        apart = {
            one.num_steps: mean
            for one in found
            if (mean := one.distance if name == "image_distance" else one.colour_distance) is not None
        }
        if apart:
            curves.append(_over_steps(name, apart, text))
        quantities += [
            quantity(f"{name}[T={steps}]", float(mean.value), mean, unit=PIXEL, text=text)
            for steps, mean in apart.items()
            if steps in shown
        ]
    return quantities, curves


def _over_steps(name: str, means: Mapping[int, Means], text: str) -> Series:
    return series(name, "steps", [float(steps) for steps in means], list(means.values()), unit=PIXEL, text=text)


def _positive(values: Array) -> Array:
    return np.maximum(values, np.finfo(np.float64).tiny)
