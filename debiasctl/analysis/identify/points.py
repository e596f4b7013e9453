"""Weights that were measured at some SNRs, with how exactly they can be expected to agree with a formula."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from debiasctl.analysis.identify.candidates import Floats

ROUNDING = 3e-5  # relative: a formula of some steps in float32
_STEEPEST = 2.0  # powers of SNR: no known weight is steeper over a wide range
_FLAT = 1e-6  # relative: weights are equal
_STRAY = 2  # points of the highest SNRs that may be off the plateau there


@dataclass(frozen=True)
class Points:
    """Weights [n] at SNRs [n], none negative; `rounding` and `snr_tolerance` are the relative errors of the two.

    `places` [n] are the timesteps (or rows) that they belong to.
    """

    snr: Floats
    weight: Floats
    places: NDArray[np.int64]
    rounding: Floats | float = ROUNDING
    snr_tolerance: Floats | float = 0.0

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Where the weight is not 0."""
        return self.weight > 0

    @cached_property
    def log_weight(self) -> Floats:
        """The log of the weight, -inf where it is 0."""
        with np.errstate(divide="ignore"):
            found: Floats = np.log(self.weight)
        return found

    @cached_property
    def tolerance(self) -> Floats:
        """The relative error that rounding explains: the weight's own, and the SNR's times the slope of the weight."""
        slope = np.zeros_like(self.snr)
        order = np.argsort(self.snr)
        order = order[self.positive[order]]
        levels = np.log(np.maximum(self.snr[order], 1e-20))
        if len(order) > 2 and bool((np.diff(levels) > 0).all()):
            slope[order] = np.abs(np.gradient(self.log_weight[order], levels))
        return self.rounding + np.minimum(slope, _STEEPEST) * self.snr_tolerance

    @cached_property
    def plateau(self) -> NDArray[np.bool_]:
        """The points of the highest SNRs whose weights are all equal, if there are three; none if all weights are.

        A few at the very top may differ, and belong to it.
        """
        order = np.argsort(-self.snr)
        found = np.zeros(len(order), dtype=bool)
        for first in range(_STRAY + 1):
            level = self.weight[order[first]]
            same = np.abs(self.weight[order[first:]] - level) <= _FLAT * level
            count = int(np.argmin(same)) if not same.all() else 0
            if count >= 3 and level > 0:
                found[order[: first + count]] = True
                break
        return found

    def above_cap(self) -> "Points | None":
        """The points but for those of the lowest SNRs, if their weights are all equal: a weight that is capped there.

        None if fewer than three are, or fewer than a tenth of the points remain.
        """
        order = np.argsort(self.snr)
        level = self.weight[order[0]]
        same = np.abs(self.weight[order] - level) <= _FLAT * level
        count = int(np.argmin(same))
        if count < 3 or not level > 0 or len(order) - count < max(20, len(order) // 10):
            return None
        kept = np.sort(order[count:])
        return Points(
            self.snr[kept], self.weight[kept], self.places[kept],
            np.broadcast_to(self.rounding, self.snr.shape)[kept],
            np.broadcast_to(self.snr_tolerance, self.snr.shape)[kept],
        )  # fmt: skip

    def moved_to(self, snr: Floats) -> "Points":
        """The same weights at other SNRs, those of another schedule."""
        return Points(snr, self.weight, self.places, self.rounding, self.snr_tolerance)
