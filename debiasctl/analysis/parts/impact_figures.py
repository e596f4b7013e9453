"""The figures of the impact of bias, from the statistics of trajectories and of teacher forcing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from debiasctl.analysis.parts.impact_levels import RealMeans, band_name
from debiasctl.analysis.parts.impact_means import Array, Means, extended, means_of, root_mean_square
from debiasctl.analysis.record import Quantity, Series
from debiasctl.evaluation.metrics.colour import mean_shift_squared
from debiasctl.evaluation.metrics.spectrum import spectrum_distance
from debiasctl.evaluation.uncertainty.intervals import MIN_IMAGES, squared_interval
from debiasctl.evaluation.uncertainty.jackknife import Division, mean_jackknife
from debiasctl.evaluation.uncertainty.squared_length import squared_length_limits

PIXEL = "in [-1, 1]"
LOG = "natural logarithm"
_DISTANCES = {
    "image_distance": "root mean square distance, over pixels and noises, of an image from the one that the same noise "
    "gives in the most steps",
    "colour_distance": "root mean square distance of an image's mean colour from that of the image that the same noise "
    "gives in the most steps",
}
RANGES: tuple[tuple[float | None, float | None], ...] = ((None, -6.0), (-6.0, -2.0), (-2.0, 2.0), (2.0, None))
_DIGITS = 6  # of a stored figure


@dataclass(frozen=True)
class Layout:
    """What the columns of colours and bands are: `channels` are their short names, `bands` first and last cycle."""

    channels: Sequence[str]
    bands: Sequence[tuple[int, int]]

    @property
    def colours(self) -> list[str]:
        """The columns that `with_mean` makes: of all channels, and of each where there are several."""
        return [""] if len(self.channels) == 1 else ["", *self.channels]


def with_mean(colours: Array) -> Array:
    """Colours [..., C] with their mean over channels before them; of grey images, that alone."""
    return colours if colours.shape[-1] == 1 else np.concatenate([colours.mean(-1, keepdims=True), colours], axis=-1)


def range_name(bounds: tuple[float | None, float | None]) -> str:
    """A range of log-SNR as it stands in a figure's name."""
    low, high = bounds
    if low is None:
        return f"log_snr below {high:g}"
    return f"log_snr above {low:g}" if high is None else f"log_snr {low:g} to {high:g}"


def quantity(name: str, value: float, found: Means | None, *, unit: str, text: str) -> Quantity:
    """A figure with its interval, if it has a finite one."""
    if found is None or not np.isfinite(found.half):
        return Quantity(name=name, value=_short(value), unit=unit, text=text)
    return Quantity(
        name=name, value=_short(value), se=_short(found.se), low=_short(found.low), high=_short(found.high), unit=unit,
        text=text,
    )  # fmt: skip


def series(name: str, axis: str, x: Sequence[float], found: Means | Sequence[Means], *, unit: str, text: str) -> Series:
    """A curve of figures with their intervals; `found` is [len(x)], or as many single ones."""
    parts = [found] if isinstance(found, Means) else found
    value, se, low, high = (
        np.concatenate([np.atleast_1d(getattr(one, part)) for one in parts]) for part in ("value", "se", "low", "high")
    )
    return Series(
        name=name, axis=axis, x=[_short(one) for one in x], value=_all(value), se=_all(se), low=_all(low),
        high=_all(high), unit=unit, text=text,
    )  # fmt: skip


def _short(value: object) -> float:
    return float(f"{float(value):.{_DIGITS}g}")  # type: ignore[arg-type]  # a number of numpy's


def _all(values: Array) -> list[float | None]:
    return [_short(value) if np.isfinite(value) else None for value in values.tolist()]


def bracket(*cases: str) -> str:
    """The cases of a figure as they stand behind its name."""
    given = [case for case in cases if case]
    return f"[{', '.join(given)}]" if given else ""


def of_channel(channel: str) -> str:
    """What is measured, in words."""
    return {"": "mean over all pixels", "r": "mean red", "g": "mean green", "b": "mean blue"}.get(
        channel, f"mean of channel {channel}"
    )


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


class Bounded(NamedTuple):
    """A figure with its limits, if it has any."""

    value: float
    low: float | None = None
    high: float | None = None


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
    from torch import from_numpy

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
    return Means(found.value, found.se * np.sqrt(2), found.freedom)


@dataclass(frozen=True)
class Forced:
    """Mean errors of the network's own estimate: in all, from true x_t, and the rest; [S, columns] each.

    `power` [S, bands] is the logarithm of the power of the sampled estimate over that of the forced one.
    """

    log_snr: Sequence[float]
    error: Means
    training: Means
    exposure: Means
    power: Means
    ranges: Mapping[str, tuple[Means, Means, Means]]  # error, training and exposure [columns]


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
    error, training = means_of(own, classes).less(constant), means_of(from_true).less(constant)
    power = means_of(np.moveaxis(sampled["own_bands"], 1, 0), classes).log()
    ranges = {}
    at = np.asarray(log_snr)
    for bounds in RANGES:
        low, high = (-np.inf if bounds[0] is None else bounds[0]), (np.inf if bounds[1] is None else bounds[1])
        within = (at >= low) & (at < high)
        if within.any():
            one, other = (means_of(own[:, within].mean(axis=1), classes).less(constant),
                          means_of(from_true[:, within].mean(axis=1)).less(constant))  # fmt: skip
            ranges[range_name(bounds)] = (one, other, one.minus(other))
    return Forced(
        log_snr, error, training, error.minus(training),
        power.minus(means_of(np.moveaxis(true["bands"], 1, 0)).log()), ranges,
    )  # fmt: skip


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


FORCED_TEXTS = {
    "estimate_error": "{what} of the network's own estimate along sampled trajectories, minus the training images'",
    "training_bias": "{what} of the network's own estimate from true x_t, minus the training images', adjusted for the "
    "means of the images at hand",
    "exposure_bias": "what estimates from sampled x_t err beyond those from true x_t, in the {what}",
}


def forced_figures(found: Forced, layout: Layout) -> tuple[list[Quantity], list[Series]]:
    """The figures of teacher forcing."""
    quantities, curves = [], []
    for number, (name, text) in enumerate(FORCED_TEXTS.items()):
        whole = (found.error, found.training, found.exposure)[number]
        for column, channel in enumerate(layout.colours):
            said = text.format(what=of_channel(channel))
            curves.append(
                series(f"{name}{bracket(channel)}", "log_snr", found.log_snr, whole[:, column], unit=PIXEL, text=said)
            )
            for where, parts in found.ranges.items():
                means = parts[number][column]
                quantities.append(
                    quantity(
                        f"{name}{bracket(channel, where)}", float(means.value), means, unit=PIXEL,
                        text=f"{said}; mean over the steps at {where.replace('log_snr', 'log-SNR')}",
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
                [None if one is None else _short(one) for one in part] for part in zip(*known, strict=True)
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
