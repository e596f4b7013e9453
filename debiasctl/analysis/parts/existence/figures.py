"""From measured arrays to the figures of a record along log-SNR."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from debiasctl.analysis.parts.existence import statistics
from debiasctl.analysis.parts.existence.levels import units_of
from debiasctl.analysis.parts.existence.reading import ALL, Facts, Level, split_of
from debiasctl.analysis.parts.existence.statistics import Figure
from debiasctl.analysis.record import Series

_ERRORS = {"x0": "the image", "eps": "the noise", "v": "v", "flow": "the flow's velocity"}
_MOST_CLASSES = 20
_WEAK = 0.1  # the standard error of a band's power, relative to it, above which no amplitude is given
PIXEL = "in [-1, 1]"
SQUARED = "squared, per value"


@dataclass
class Line:
    """A series that is being made."""

    name: str
    unit: str
    text: str
    x: list[float] = field(default_factory=list)
    figures: list[Figure | None] = field(default_factory=list)

    def add(self, x: float, figure: Figure | None) -> None:
        """Add a point."""
        self.x.append(x)
        self.figures.append(figure)

    def series(self, axis: str = "log_snr") -> Series | None:
        """The series, or None if it has no value at all."""
        if all(one is None for one in self.figures):
            return None
        columns = {
            name: [None if one is None else float(getattr(one, name)) for one in self.figures]
            for name in ("value", "se", "low", "high")
        }
        return Series(name=self.name, axis=axis, x=self.x, unit=self.unit, text=self.text, **columns)


def lines_of(levels: Sequence[Level], facts: Facts) -> list[Series]:
    """All series along log-SNR, from noise to image."""
    levels = [level for level in levels if level.place.level.alpha > 0]
    makers = [
        _errors(levels),
        _split(levels),
        _means(levels, facts),
        _bands(levels, facts),
        _classes(levels, facts),
    ]
    made = [line.series() for lines in makers for line in lines]
    return [series for series in made if series is not None]


def _errors(levels: Sequence[Level]) -> list[Line]:
    lines = [
        Line(f"error_{unit}", SQUARED, f"mean squared error of {words} on held-out images")
        for unit, words in _ERRORS.items()
    ]
    for level in levels:
        error, units = statistics.mean(level.error()), units_of(level.place.level)
        for line, unit in zip(lines, _ERRORS, strict=True):
            line.add(level.place.log_snr, error.times(units[unit]))
    neighbours = Line("neighbours", "images", "training images that the ideal is a mean of (harmonic mean over x_t)")
    for level in levels:
        inverse = float(level.arrays["inverse_neighbours"].mean())
        neighbours.add(
            level.place.log_snr,
            None if inverse == 0 else Figure(1 / inverse, 0, 1 / inverse, 1 / inverse),
        )
    used = Line("ideal_used", "", "1 where signed errors are those against the ideal, 0 where against the images")
    for level in levels:
        used.add(level.place.log_snr, Figure(*[float(level.from_ideal)] * 4))
    return [*lines, _without_error(neighbours), _without_error(used)]


def _without_error(line: Line) -> Line:
    return _Known(line.name, line.unit, line.text, line.x, line.figures)


class _Known(Line):
    """A series without standard errors."""

    def series(self, axis: str = "log_snr") -> Series | None:
        found = super().series(axis)
        return found and found.model_copy(update={"se": None, "low": None, "high": None})


PARTS = {
    "irreducible": "the least possible squared error{of}: what x_t does not tell of the image",
    "systematic": "the squared mean error{of}, the same on all images, summed over pixels and free of its noise bias",
    "rest": "what is left of the excess{of} without the systematic error",
    "excess": "the squared error{of} beyond the least possible",
}


def _split(levels: Sequence[Level]) -> list[Line]:
    lines = {
        (part, unit): Line(f"{part}_{unit}", SQUARED, text.format(of=" of x0" if unit == "x0" else " in units of v"))
        for part, text in PARTS.items()
        for unit in ("x0", "v")
    }
    share = Line("excess_share", "", "the excess as a share of the least possible error, the same in every unit")
    for level in levels:
        found, units = split_of(level), units_of(level.place.level)
        for (part, unit), line in lines.items():
            figure = found[part]
            line.add(level.place.log_snr, None if figure is None else figure.times(units[unit]))
        best = level.best()
        known = level.usable and float(best.mean()) > 0
        share.add(level.place.log_snr, statistics.ratio(level.excess(), best) if known else None)
    return [*lines.values(), share]


def _means(levels: Sequence[Level], facts: Facts) -> list[Line]:
    whole = "the mean of the estimate of the image less that of the ideal estimate"
    lines = [(Line("mean_error", PIXEL, f"{whole}, over all pixels and channels: negative is too dark"), ALL)]
    lines += [
        (Line(f"mean_error[{name}]", PIXEL, f"{whole}, in channel {name}"), columns)
        for name, columns in facts.channel_slices()
    ]
    own = Line("mean_error_from_images", PIXEL, "the mean of the estimate less the image itself, which needs no ideal")
    for level in levels:
        for line, columns in lines:
            line.add(level.place.log_snr, level.mean_error(columns))
        own.add(level.place.log_snr, statistics.mean(level.arrays["from_image"].mean(axis=1)))
    return [*(line for line, _ in lines), own]


def _bands(levels: Sequence[Level], facts: Facts) -> list[Line]:
    names = facts.bands[1:]
    size = [
        Line(f"mean_error_size[{name} cycles]", PIXEL, f"root mean square of the mean error at {name} cycles per image")
        for name in names
    ]
    squares = [
        Line(f"systematic_x0[{name} cycles]", SQUARED, f"the systematic error at {name} cycles per image")
        for name in names
    ]
    amplitude = [
        Line(
            f"amplitude_error[{name} cycles]", "",
            f"share by which the estimate's amplitude at {name} cycles per image is too large (negative: too small)",
        )
        for name in names
    ]  # fmt: skip
    for level in levels:
        x = level.place.log_snr
        for number in range(len(names)):
            squared = level.band(number + 1)
            squares[number].add(x, squared)
            size[number].add(x, _root(squared))
            amplitude[number].add(x, _amplitude(level, number))
    return [*size, *squares, *amplitude]


def _root(squared: Figure) -> Figure:
    value, low, high = (max(one, 0.0) ** 0.5 for one in (squared.value, squared.low, squared.high))
    return Figure(value, squared.se / (2 * value) if value > 0 else squared.se**0.5, low, high)


def _amplitude(level: Level, number: int) -> Figure | None:
    power = level.arrays["amplitude"][:, number]
    if power.mean() <= 0 or statistics.mean(power).se > _WEAK * power.mean():
        return None
    return statistics.ratio(level.arrays["amplitude_error"][:, number], power)


def _classes(levels: Sequence[Level], facts: Facts) -> list[Line]:
    """The mean error of each class that has enough images."""
    if facts.labels is None or not 2 <= len(facts.classes) <= _MOST_CLASSES:
        return []
    lines = []
    for number, name in enumerate(facts.classes):
        chosen = facts.labels == number
        if chosen.sum() < statistics.MIN_IMAGES:
            continue
        line = Line(f"mean_error[class {name}]", PIXEL, f"the mean error of the estimate for images of class {name}")
        for level in levels:
            line.add(level.place.log_snr, level.class_mean_error(chosen))
        lines.append(line)
    return lines
