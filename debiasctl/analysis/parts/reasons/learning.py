"""When a run learnt each noise level: its held-out errors over training, as they were recorded."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.objective import Objective
from debiasctl.models.build import network_for
from debiasctl.models.heldout import heldout_errors
from debiasctl.runs.records import Edge, HeldoutRecord
from debiasctl.runs.store import Run, read_metrics
from debiasctl.specs.sections import RunSpec

FRACTION = 0.9
Bounds = tuple[Edge, Edge]


@dataclass(frozen=True)
class Learning:
    """The held-out error of v of each bin after `images` training images, ascending; the first may be 0."""

    images: list[int]
    errors: dict[Bounds, list[float]]


@dataclass(frozen=True)
class Reached:
    """When a bin's error had fallen by FRACTION of all that it fell: between two measurements, and interpolated."""

    images: float
    after: int
    by: int


def records_of(run: Run) -> list[HeldoutRecord]:
    """The run's held-out errors in the order of its steps, none but those with bins.

    Raises:
        RunError: if its metrics cannot be read, or are damaged.
    """
    found = {one.step: one for one in read_metrics(run) if isinstance(one, HeldoutRecord) and one.bins}
    return [found[step] for step in sorted(found)]


def initial_errors(spec: RunSpec, objective: Objective, heldout: HeldoutSet) -> list[tuple[Bounds, float]]:
    """The errors of v of the untrained network, whose weights follow from the run's seed."""
    content = spec.content
    assert content is not None, "a run's spec states its data's content"
    network = network_for(spec, content).to(heldout.x0.device)
    return [(one.log_snr, one.v) for one in heldout_errors(network.eval(), objective, heldout)]


def learning(
    records: Sequence[HeldoutRecord], initial: Sequence[tuple[Bounds, float]] | None, *, batch_size: int, until: int
) -> Learning:
    """The curves of the bins that all records up to step `until` have, from the untrained network if it is known."""
    used = [one for one in records if one.step <= until]
    tables = [{one.log_snr: one.v for one in record.bins} for record in used]
    images = [record.step * batch_size for record in used]
    if initial is not None:
        tables, images = [dict(initial), *tables], [0, *images]
    shared = [bounds for bounds in tables[0] if all(bounds in table for table in tables)] if tables else []
    return Learning(images, {bounds: [table[bounds] for table in tables] for bounds in shared})


def reached(images: Sequence[int], errors: Sequence[float]) -> Reached | None:
    """When an error had fallen by FRACTION of its fall from the first to the last; None where it did not fall."""
    first, last = errors[0], errors[-1]
    if len(errors) < 2 or not last < first:
        return None
    level = first - FRACTION * (first - last)
    place = next(number for number, error in enumerate(errors) if error <= level)
    above, below = errors[place - 1], errors[place]
    part = (above - level) / (above - below)
    before, by = images[place - 1], images[place]
    return Reached(before + part * (by - before), before, by)


def heldout_of(spec: RunSpec, heldout: HeldoutSet) -> HeldoutSet:
    """The held-out images in the precision of the run's own measurements."""
    dtype = torch.float64 if spec.compute.precision == "fp64" else torch.float32
    return HeldoutSet(heldout.x0.to(dtype), heldout.labels)
