"""What was measured at one level: signed errors and what they are measured against, and the split of the square."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.existence import statistics
from debiasctl.analysis.parts.existence.levels import Place, units_of
from debiasctl.analysis.parts.existence.statistics import Array, Figure, SquaredMean

_ROUNDING = 2.0**-22
ALL = slice(None)  # channels


@dataclass(frozen=True)
class Facts:
    """What figures are named by: the bands, the channels' names, each image's class, and whether networks are told.

    `exact` says whether the ideal is that of the data's own law, and not of a finite set of images; `latents`, whether
    the network makes latents, whose channels are no colours.
    """

    bands: Sequence[str]
    channels: Sequence[str]
    labels: Array | None
    classes: Sequence[str]
    conditional: bool
    exact: bool
    latents: bool = False

    def channel_slices(self) -> list[tuple[str, slice]]:
        """The channels by name, where there are several."""
        named = list(self.channels) if len(self.channels) > 1 else []
        return [(name, slice(number, number + 1)) for number, name in enumerate(named)]


@dataclass(frozen=True)
class Level:
    """A level and what was measured there."""

    place: Place
    arrays: Arrays
    facts: Facts

    @property
    def usable(self) -> bool:
        """Whether the ideal says something about new images here."""
        return bool(self.arrays["usable"][0])

    @property
    def in_v(self) -> float:
        """By what a squared error of x0 is multiplied to be that of v."""
        return units_of(self.place.level)["v"]

    @cached_property
    def from_ideal(self) -> bool:
        """Whether signed errors are those against the ideal: where it is known better than the images tell it.

        The mean of x0_hat - x0 has the same expectation, without any ideal, and more noise.
        """
        if self.facts.exact or not self.usable:
            return self.usable
        ideal, images = (statistics.mean(self.arrays[name].mean(axis=1)).se for name in ("from_ideal", "from_image"))
        return float(np.hypot(ideal, self.training_error(ALL))) <= images

    def mean_error(self, columns: slice = ALL) -> Figure:
        """The mean error of the estimate in some channels."""
        return mean_over([self], columns)

    def class_mean_error(self, chosen: Array) -> Figure | None:
        """The mean error for the chosen images, all of one class; None where it is not known.

        Against the images it is known of a network that is told the class alone: x_t does not tell it to others, and
        even the ideal is then off in one direction.
        """
        if self.usable and (self.facts.exact or not self.facts.conditional or self.from_ideal):
            away, error = self.arrays["from_ideal"][chosen], self.training_error(ALL, one_class=True)
        elif self.facts.conditional:
            away, error = self.arrays["from_image"][chosen], 0.0
        else:
            return None
        return statistics.mean(away.mean(axis=1)).with_error(error, quantile=statistics.quantile(len(away)))

    @property
    def squared(self) -> SquaredMean:
        """The squared mean error, by band."""
        end = "ideal" if self.from_ideal else "image"
        return SquaredMean(*(self.arrays[f"{name}_{end}"] for name in ("pseudo", "interactions", "plain")))

    def band(self, number: int) -> Figure:
        """The squared mean error in one band."""
        room = float(self.training_squares[number])
        return self.squared.figure(number).widened(below=room, above=room)

    @property
    def training_squares(self) -> Array:
        """The squared error, by band, of the ideal's mean over x_t by the choice of training images."""
        if self.facts.exact or not self.from_ideal:
            return np.zeros(len(self.facts.bands))
        squares: Array = self.arrays["residual"] * self._training_share(one_class=False)
        return squares

    def training_error(self, columns: slice, *, one_class: bool = False) -> float:
        """The standard error of the mean of the ideal over x_t by the choice of training images.

        For each x_t it is the residual's deviation divided by √neighbours, and no larger for a mean over x_t, as if all
        were of the same training images; those of a conditional network's classes are different ones.
        """
        if self.facts.exact:
            return 0.0
        residual = self.arrays["ideal_from_image"][:, columns].mean(axis=1)
        return float(residual.std(ddof=1)) * math.sqrt(self._training_share(one_class=one_class))

    def _training_share(self, *, one_class: bool) -> float:
        inverse = float(self.arrays["inverse_neighbours"].mean())
        if not self.facts.conditional or self.facts.labels is None or one_class:
            return inverse
        _, counts = np.unique(self.facts.labels, return_counts=True)
        together: float = ((counts / counts.sum()) ** 2).sum()
        return inverse * together

    # ---------------------------------------------------------------- squared errors

    def error(self) -> Array:
        """Each image's squared error of x0; where the law is known, its mean given x_t, which has less noise."""
        return self.arrays["variance"] + self.arrays["gap"] if self.facts.exact else self.arrays["error"]

    def best(self) -> Array:
        """Each image's least possible squared error of x0."""
        return self.arrays["variance" if self.facts.exact else "own"]

    def excess(self) -> Array:
        """Each image's squared error of x0 beyond the least possible."""
        return self.arrays["gap"] if self.facts.exact else self.arrays["error"] - self.arrays["own"]

    @property
    def slack(self) -> float:
        """By how much the ideal's own error may be too large, as it is of a finite set of images: per value of x0."""
        if self.facts.exact:
            return 0.0
        return float((self.arrays["variance"] * self.arrays["inverse_neighbours"]).mean())

    @property
    def rounding(self) -> float:
        """The squared error of x0 that float32 alone may make; eps-prediction divides by alpha."""
        return (_ROUNDING / (self.place.level.alpha or 1.0)) ** 2


def mean_over(levels: Sequence[Level], columns: slice = ALL) -> Figure:
    """The mean over levels of the mean error in some channels; images and training images are the same at all."""
    away = [level.arrays["from_ideal" if level.from_ideal else "from_image"][:, columns] for level in levels]
    each = np.mean([one.mean(axis=1) for one in away], axis=0)
    error = float(np.mean([level.training_error(columns) if level.from_ideal else 0.0 for level in levels]))
    return statistics.mean(each).with_error(error, quantile=statistics.quantile(len(each)))


def split_of(level: Level) -> dict[str, Figure | None]:
    """The squared error of x0 at a level, split; what is not known without an ideal is None."""
    room = float(level.training_squares.sum())
    systematic = level.squared.sum().figure().widened(below=level.rounding + room, above=room)
    if not level.usable:
        return {"irreducible": None, "systematic": systematic, "rest": None, "excess": None}
    excess = statistics.mean(level.excess()).widened(below=level.rounding, above=level.slack)
    return {
        "irreducible": statistics.mean(level.best()).widened(below=level.slack),
        "systematic": systematic,
        "rest": _rest(excess, systematic),
        "excess": excess,
    }


def _rest(excess: Figure, systematic: Figure) -> Figure:
    """The excess that is not systematic, as if the two had independent errors."""
    value = excess.value - systematic.value
    below = np.hypot(excess.value - excess.low, systematic.high - systematic.value)
    above = np.hypot(excess.high - excess.value, systematic.value - systematic.low)
    return Figure(value, float(np.hypot(excess.se, systematic.se)), value - float(below), value + float(above))
