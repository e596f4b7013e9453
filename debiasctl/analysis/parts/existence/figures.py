"""From measured arrays to the figures of a record along log-SNR."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.existence import statistics
from debiasctl.analysis.parts.existence.levels import Place, units_of
from debiasctl.analysis.parts.existence.statistics import Array, Figure, SquaredMean
from debiasctl.analysis.record import Series

_ERRORS = {"x0": "the image", "eps": "the noise", "v": "v", "flow": "the flow's velocity"}
_MOST_CLASSES = 20
_ROUNDING = 2.0**-22
_WEAK = 0.1  # the standard error of a band's power, relative to it, above which no amplitude is given
PIXEL = "in [-1, 1]"
SQUARED = "squared, per value"


@dataclass(frozen=True)
class Level:
    """A level and what was measured there."""

    place: Place
    arrays: Arrays
    exact: bool

    @property
    def usable(self) -> bool:
        """Whether the ideal says something about new images here."""
        return bool(self.arrays["usable"][0])

    @property
    def away(self) -> Array:
        """Each image's mean error by channel, [N, C]: against the ideal, or else against the image itself."""
        return self.arrays["from_ideal" if self.usable else "from_image"]

    @property
    def squared(self) -> SquaredMean:
        """The squared mean error, by band."""
        return SquaredMean(self.arrays["pseudo"], self.arrays["interactions"], self.arrays["plain"])

    @property
    def slack(self) -> float:
        """By how much the ideal's own error may be too large, as it is of a finite set of images: per value of x0."""
        if self.exact:
            return 0.0
        return float((self.arrays["variance"] * self.arrays["inverse_neighbours"]).mean())

    @property
    def rounding(self) -> float:
        """The squared error of x0 that float32 alone may make; eps-prediction divides by alpha."""
        return (_ROUNDING / (self.place.level.alpha or 1.0)) ** 2

    def best(self) -> Array:
        """Each image's least possible squared error of x0."""
        return self.arrays["variance" if self.exact else "own"]

    def excess(self) -> Array:
        """Each image's squared error of x0 beyond the least possible."""
        return self.arrays["gap"] if self.exact else self.arrays["error"] - self.arrays["own"]

    def error(self) -> Array:
        """Each image's squared error of x0; where the law is known, its mean given x_t, which has less noise."""
        return self.arrays["variance"] + self.arrays["gap"] if self.exact else self.arrays["error"]


@dataclass(frozen=True)
class Facts:
    """What figures are named by: the bands, the channels' names, each image's class, and whether networks are told."""

    bands: Sequence[str]
    channels: Sequence[str]
    labels: Array | None
    classes: Sequence[str]
    conditional: bool


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
    makers = [_errors(levels), _split(levels), _means(levels, facts), _bands(levels, facts), _classes(levels, facts)]
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
        neighbours.add(level.place.log_snr, None if inverse == 0 else Figure(1 / inverse, 0, 1 / inverse, 1 / inverse))
    used = Line("ideal_used", "", "1 where the ideal estimate says something about new images, 0 where it does not")
    for level in levels:
        used.add(level.place.log_snr, Figure(*[float(level.usable)] * 4))
    return [*lines, _without_error(neighbours), _without_error(used)]


def _without_error(line: Line) -> Line:
    return _Known(line.name, line.unit, line.text, line.x, line.figures)


class _Known(Line):
    """A series without standard errors."""

    def series(self, axis: str = "log_snr") -> Series | None:
        found = super().series(axis)
        return found and found.model_copy(update={"se": None, "low": None, "high": None})


def split_of(level: Level) -> dict[str, Figure | None]:
    """The squared error of x0 at a level, split; what is not known without an ideal is None."""
    systematic = widened(level.squared.sum().figure(), below=level.rounding)
    if not level.usable:
        return {"irreducible": None, "systematic": systematic, "rest": None, "excess": None}
    best, excess = statistics.mean(level.best()), excess_of(level)
    return {
        "irreducible": widened(best, below=level.slack),
        "systematic": systematic,
        "rest": _rest(excess, systematic),
        "excess": excess,
    }


def excess_of(level: Level) -> Figure:
    """The excess at a level; its interval also holds what the ideal's own error hides, and what rounding adds."""
    return widened(statistics.mean(level.excess()), below=level.rounding, above=level.slack)


def widened(figure: Figure, *, below: float = 0.0, above: float = 0.0) -> Figure:
    """A figure with a wider interval."""
    return Figure(figure.value, figure.se, figure.low - below, figure.high + above)


def _rest(excess: Figure, systematic: Figure) -> Figure:
    """The excess that is not systematic, as if the two had independent errors."""
    value = excess.value - systematic.value
    below = np.hypot(excess.value - excess.low, systematic.high - systematic.value)
    above = np.hypot(excess.high - excess.value, systematic.value - systematic.low)
    return Figure(value, float(np.hypot(excess.se, systematic.se)), value - float(below), value + float(above))


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
    lines = [Line("mean_error", PIXEL, f"{whole}, over all pixels and channels: negative is too dark")]
    own = Line("mean_error_from_images", PIXEL, "the mean of the estimate less the image itself, which needs no ideal")
    named = list(facts.channels) if len(facts.channels) > 1 else []
    lines += [Line(f"mean_error[{name}]", PIXEL, f"{whole}, in channel {name}") for name in named]
    for level in levels:
        x, away = level.place.log_snr, level.away
        lines[0].add(x, statistics.mean(away.mean(axis=1)))
        own.add(x, statistics.mean(level.arrays["from_image"].mean(axis=1)))
        for number, line in enumerate(lines[1:]):
            line.add(x, statistics.mean(away[:, number]))
    return [*lines, own]


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
            squared = level.squared.figure(number + 1)
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
    """The mean error of each class; without an ideal only of a network that is told the class.

    An image's own class is not known from x_t to one that is not, and even the ideal is then off in one direction.
    """
    if facts.labels is None or not 2 <= len(facts.classes) <= _MOST_CLASSES:
        return []
    lines = []
    for number, name in enumerate(facts.classes):
        chosen = facts.labels == number
        if chosen.sum() < statistics.MIN_IMAGES:
            continue
        line = Line(f"mean_error[class {name}]", PIXEL, f"the mean error of the estimate for images of class {name}")
        for level in levels:
            known = level.usable or facts.conditional
            line.add(level.place.log_snr, statistics.mean(level.away[chosen].mean(axis=1)) if known else None)
        lines.append(line)
    return lines
