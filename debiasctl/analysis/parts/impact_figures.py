"""Figures of the impact of bias as records hold them: their names, their intervals and their words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from debiasctl.analysis.parts.impact_means import Array, Means
from debiasctl.analysis.record import Quantity, Series

PIXEL = "in [-1, 1]"
LOG = "natural logarithm"
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


def quantity(name: str, value: float, found: Means | None, *, unit: str, text: str) -> Quantity:
    """A figure with its interval, if it has a finite one."""
    if found is None or not np.isfinite(found.half):
        return Quantity(name=name, value=short(value), unit=unit, text=text)
    return Quantity(
        name=name, value=short(value), se=short(found.se), low=short(found.low), high=short(found.high), unit=unit,
        text=text,
    )  # fmt: skip


def series(name: str, axis: str, x: Sequence[float], found: Means | Sequence[Means], *, unit: str, text: str) -> Series:
    """A curve of figures with their intervals; `found` is [len(x)], or as many single ones."""
    parts = [found] if isinstance(found, Means) else found
    value, se, low, high = (
        np.concatenate([np.atleast_1d(getattr(one, part)) for one in parts]) for part in ("value", "se", "low", "high")
    )
    return Series(
        name=name, axis=axis, x=[short(one) for one in x], value=_all(value), se=_all(se), low=_all(low),
        high=_all(high), unit=unit, text=text,
    )  # fmt: skip


def short(value: object) -> float:
    """A number of as many digits as are stored."""
    return float(f"{float(value):.{_DIGITS}g}")  # type: ignore[arg-type]  # a number of numpy's


def _all(values: Array) -> list[float | None]:
    return [short(value) if np.isfinite(value) else None for value in values.tolist()]


def bracket(*cases: str) -> str:
    """The cases of a figure as they stand behind its name."""
    given = [case for case in cases if case]
    return f"[{', '.join(given)}]" if given else ""


def of_channel(channel: str) -> str:
    """What is measured, in words."""
    return {"": "mean over all pixels", "r": "mean red", "g": "mean green", "b": "mean blue"}.get(
        channel, f"mean of channel {channel}"
    )
