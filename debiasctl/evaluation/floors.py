"""The floors of figures: the same metrics of real held-out images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from debiasctl.api import MetricNames
from debiasctl.evaluation import copies
from debiasctl.evaluation.figures import Real, figures
from debiasctl.evaluation.metrics.catalogue import NEAREST
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.outcome import Outcome


@dataclass(frozen=True)
class Floor:
    """The outcome of a metric for `num` real held-out images, and the value for as many of the images."""

    outcome: Outcome
    num: int
    matched: float


def floors(
    observed: Observed, outcomes: Mapping[str, Outcome], real: Real, names: MetricNames
) -> tuple[dict[str, Floor], int]:
    """The floor of each metric, and the number of held-out images measured for most of them.

    The distances to training images are those of one half of the held-out images beside the other half.
    """
    if real.heldout is None or len(real.heldout) < 2:
        return {}, 0
    fresh = real.heldout.some(len(observed))
    nearest = [name for name in NEAREST if name in outcomes]
    found = figures(fresh, real, [name for name in outcomes if name not in nearest], names)
    if nearest and real.fresh is not None:
        found |= {name: outcome for name, outcome in copies.floors(real.fresh).items() if name in nearest}
    matched = {len(observed): outcomes}
    for num, of_num in _by_num(found, len(fresh), nearest).items():
        if num < len(observed):
            matched[num] = figures(observed.take(observed.division.subset(num)), real, of_num, names)
    by_name = {}
    for name, outcome in found.items():
        num = min(outcome.num if name in nearest else len(fresh), len(observed))
        by_name[name] = Floor(outcome, outcome.num if name in nearest else len(fresh), matched[num][name].value)
    return by_name, len(fresh)


def _by_num(found: Mapping[str, Outcome], num: int, nearest: Sequence[str]) -> dict[int, list[str]]:
    """The metrics by the number of images that their floor is of."""
    grouped: dict[int, list[str]] = {}
    for name, outcome in found.items():
        grouped.setdefault(outcome.num if name in nearest else num, []).append(name)
    return grouped
