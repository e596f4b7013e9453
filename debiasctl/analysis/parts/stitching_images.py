"""Images of stitched networks, seen as evaluation sees them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.denoisers import Stitched
from debiasctl.analysis.parts.impact_levels import levels_of
from debiasctl.analysis.parts.impact_means import strata
from debiasctl.analysis.parts.stitching_figures import Measured
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit, Denoiser
from debiasctl.data.pixels import as_measured
from debiasctl.errors import UsageError
from debiasctl.evaluation.choices import Choices
from debiasctl.evaluation.extraction import FEATURES, PIXELS, extract
from debiasctl.evaluation.figures import Real, figures, real_images
from debiasctl.evaluation.ground import make_ground
from debiasctl.evaluation.measure import Measurement
from debiasctl.evaluation.metrics.catalogue import pixel_names
from debiasctl.evaluation.observed import Observed
from debiasctl.evaluation.reference.sources import Source
from debiasctl.evaluation.uncertainty.intervals import refusal

_PARTS = (FEATURES, PIXELS)
UNIT = 128  # images drawn at once, kept if the analysis is interrupted
_NO_STD = "std_shift"


@dataclass(frozen=True)
class Ways:
    """The networks of both ways of stitching at each cut, the number of first steps that the upper one makes."""

    this: Denoiser
    other: Denoiser
    thresholds: Mapping[int, float]

    @property
    def networks(self) -> dict[str, Denoiser]:
        """By the name of a unit of work. At the ends one network makes all steps, so that these are drawn once."""
        cuts = sorted(self.thresholds)
        found: dict[str, Denoiser] = {"this": self.this, "other": self.other}
        for cut in cuts[1:-1]:
            found[f"this-{cut}"] = Stitched(self.this, self.other, threshold=self.thresholds[cut])
            found[f"other-{cut}"] = Stitched(self.other, self.this, threshold=self.thresholds[cut])
        return found

    def named(self, first: str, cut: int) -> str:
        """The name of the images of which the network `first` ("this" or "other") makes the first `cut` steps."""
        cuts = sorted(self.thresholds)
        if cut == cuts[-1]:
            return first
        if cut == cuts[0]:
            return "other" if first == "this" else "this"
        return f"{first}-{cut}"


def thresholds_of(subject: Subject, cuts: Sequence[int]) -> dict[int, float]:
    """The timestep at which the lower network takes over, for each number of first steps that the upper one makes.

    It is that at which the first step of the lower network begins; below all where it makes none.

    Raises:
        UsageError: if a step's timestep does not tell it from the steps before it.
    """
    request = subject.request
    name = request.sampler.name
    sampler = request.sampler.create("samplers")
    if getattr(sampler.options, "s_churn", 0):
        raise UsageError(
            f"sampler '{name}' with s_churn adds noise before a step, which may then begin where an earlier one did: "
            "networks cannot be exchanged between two steps. Leave s_churn out of `sampler`"
        )
    levels = levels_of(sampler, subject.process, request.num_steps, name=name)
    ts = [level.t for level in levels]
    if any(before <= after for before, after in pairwise(ts)):
        raise UsageError(
            f"sampler '{name}' takes two steps from one timestep, between which networks cannot be exchanged. Choose "
            "another `sampler`, or fewer `steps`"
        )
    return {cut: ts[cut] if cut < len(ts) else -float("inf") for cut in cuts}


def draw_unit(subject: Subject, network: Denoiser, positions: range, measurement: Measurement) -> Arrays:
    """The features and pixel statistics of the images that a network makes of the noises at `positions`."""
    drawer = subject.drawer(denoiser=network)
    images = torch.cat([drawn.images for drawn in drawer([positions])])
    found = extract(ArraySplit(images), measurement.features, _PARTS, check_shape=lambda shape: None)
    assert found is not None, "a single process gets the rows"
    return {part: rows.to(torch.float64).numpy() for part, rows in found[1].items()}


def units(subject: Subject, ways: Ways, num: int, measurement: Measurement) -> dict[str, Callable[[], Arrays]]:
    """The units of work: each network's images, some at a time."""
    return {
        f"{name}.{start}": partial(draw_unit, subject, network, range(start, min(start + UNIT, num)), measurement)
        for name, network in ways.networks.items()
        for start in range(0, num, UNIT)
    }


def measurement_of(subject: Subject, num: int) -> tuple[Measurement, list[str]]:
    """How evaluation measures the run's samples, with the metrics of stitching: a feature distance and the pixels'.

    The distance is the Fréchet distance, or the kernel distance where `num` images are too few for the interval of
    that one. The notes say which features were chosen, and why.
    """
    own = as_measured(subject.images)
    source = Source(subject.spec.data.dataset.name, "train", own)
    ground = make_ground(source, own.info, Choices(), device=subject.device, own=own, on_progress=None)
    measurement = ground.measurement
    names = measurement.names
    too_few = refusal(num, measurement.features.dimension) is not None
    distance = names.kernel if too_few else names.frechet
    pixels = [name for name in pixel_names(own.info.channels) if not name.startswith(_NO_STD) and name != "colour_fd"]
    return replace(measurement, metrics=[distance, *pixels], shared=False), ground.notes


def measure_all(
    subject: Subject, rows: Mapping[str, Arrays], measurement: Measurement, num: int
) -> dict[str, dict[str, Measured]]:
    """Every metric of the images of each network, by the networks' names."""
    images = measurement.real()
    real: Real = real_images(images, images.rows(_PARTS), measurement.metrics, measurement.names)
    labels = strata(subject.labels(torch.arange(num)))
    found = {}
    for name, arrays in rows.items():
        tensors = {part: torch.from_numpy(array) for part, array in arrays.items()}
        observed = Observed.of(subject.image_shape, tensors, labels)
        outcomes = figures(observed, real, measurement.metrics, measurement.names)
        found[name] = {metric: Measured.of(outcome) for metric, outcome in outcomes.items()}
    return found
