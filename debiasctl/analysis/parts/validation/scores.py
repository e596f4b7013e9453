"""Sums of held-out errors over noise levels: in each unit, with the weights of schemes, and of single levels."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from debiasctl.analysis.parts.validation.points import Bounds, Point
from debiasctl.api import Space, WeightingContext
from debiasctl.diffusion.parameterization import SPACES
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.diffusion.weighting import bounded_snr, weight_in
from debiasctl.errors import UsageError
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import parse_ref

Array = NDArray[np.float64]
NAMED = ("debiased", "min-snr", "p2", "edm", "truncated-snr")


def bins_in(points: Sequence[Point]) -> list[Bounds]:
    """The bins that all points have, from noise to image.

    Raises:
        UsageError: if they share none.
    """
    found = [bounds for bounds in points[0].errors if all(bounds in point.errors for point in points)]
    if not found:
        raise UsageError("the runs' held-out errors are in different bins of log SNR, and cannot be ranked together")
    return found


def scores(points: Sequence[Point], bins: Sequence[Bounds], process: DiffusionProcess, refs: Sequence[str]) -> dict[
    str, Array
]:  # fmt: skip
    """The sums [n] by name: the mean error of each unit over uniform t, and those of v with the weights of schemes.

    A scheme's weight in a bin is its mean there, as the errors are means over the bin. Sums differ from one another by
    more than a factor in their weights alone, so that their normalisation does not matter.
    """
    members = _members(process, bins)
    share = np.array([len(one) for one in members]) / process.num_timesteps
    found: dict[str, Array] = {}
    for unit in SPACES:
        table = _table(points, bins, unit)
        if table is not None:
            found[unit] = table @ share
    of_v = _table(points, bins, "v")
    assert of_v is not None, "every record has errors of v"
    for ref in refs:
        weights = np.array([float(_weights(ref, process)[one].mean()) for one in members])
        found[ref] = of_v @ (share * weights)
    return found


def of_bins(points: Sequence[Point], bins: Sequence[Bounds]) -> Array:
    """The error of v of each bin alone, [n, B]."""
    table = _table(points, bins, "v")
    assert table is not None, "every record has errors of v"
    return table


def resolved(refs: Sequence[str]) -> list[str]:
    """Weightings' references with every option, each once.

    Raises:
        UsageError: if one is unknown, or learned.
    """
    found = []
    for text in refs:
        choice = complete("weightings", parse_ref(text))
        if choice.create("weightings").is_learned:
            raise UsageError(
                f"`counterfactual`: weighting '{choice.name}' is learned in training, and has no weights of its own to "
                "add held-out errors with. Leave it out"
            )
        found.append(str(choice.ref))
    return list(dict.fromkeys(found))


def _weights(ref: str, process: DiffusionProcess) -> torch.Tensor:
    snr = bounded_snr(process.snr)
    weighting = complete("weightings", parse_ref(ref)).create("weightings")
    return weight_in(weighting.at(WeightingContext(snr, 1.0)), "v", snr=snr)


def _members(process: DiffusionProcess, bins: Sequence[Bounds]) -> list[torch.Tensor]:
    """The timesteps of each bin."""
    found = []
    for low, high in bins:
        above = torch.ones(process.num_timesteps, dtype=torch.bool) if low is None else process.log_snr >= low
        found.append((above if high is None else above & (process.log_snr < high)).nonzero().flatten())
    return found


def _table(points: Sequence[Point], bins: Sequence[Bounds], unit: Space) -> Array | None:
    """The errors of a unit [n, B]; None if a point lacks them."""
    rows = [[point.errors[bounds].get(unit) for bounds in bins] for point in points]
    if any(value is None for row in rows for value in row):
        return None
    return np.array(rows, dtype=np.float64)
