"""What an autoencoder alone costs: how far decoded latents of held-out images are from real images."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from debiasctl.api import ArraySplit, LoadedDataset, spread_indices
from debiasctl.data.pixels import to_model_space, to_uint8
from debiasctl.evaluation.ground import Ground
from debiasctl.evaluation.record import MetricFigure
from debiasctl.models.latent_space import LatentSpace

_BATCH = 64


@dataclass(frozen=True)
class Reconstruction:
    """Held-out images that were encoded and decoded: their root mean square error, and their distance's figure."""

    num: int
    error: float
    metric: str
    figure: MetricFigure | None

    def note(self) -> str:
        """The sentence for an evaluation's notes."""
        text = (
            f"the autoencoder by itself: {self.num} held-out images that it encodes and decodes again are off by "
            f"{self.error:.3g} (root mean square over pixels, in units of [-1, 1])"
        )
        if self.figure is None:
            return text
        beside = "" if self.figure.floor is None else f" (unchanged: {self.figure.floor:.4g})"
        return f"{text}, and their {self.metric} is {self.figure.value:.4g}{beside}: about what perfect latents have"


def reconstruct(space: LatentSpace, own: LoadedDataset, ground: Ground, *, num: int) -> Reconstruction | None:
    """Encode and decode up to `num` held-out images, and measure them as samples are; None in further processes.

    Every process of a group calls this.
    """
    indices = spread_indices(len(own.heldout), num)
    images = own.heldout.images(indices)
    decoded = torch.cat(
        [to_uint8(space.round_trip(to_model_space(part))).cpu() for part in torch.split(images, _BATCH)]
    )
    measurement = ground.measurement
    names = measurement.names
    metric = next((name for name in (names.frechet, names.kernel) if name in measurement.metrics), names.frechet)
    wanted = [metric] if metric in measurement.metrics and len(indices) > 1 else []
    figure = None
    if wanted:
        seen = replace(measurement, metrics=wanted).see(ArraySplit(decoded, own.heldout.labels(indices)))
        if seen is None:
            return None
        figure = replace(measurement, metrics=wanted).figures(seen).metrics.get(metric)
    return Reconstruction(len(indices), _rms(decoded, images), metric, figure)


def _rms(one: Tensor, other: Tensor) -> float:
    return float((to_model_space(one) - to_model_space(other)).double().square().mean().sqrt())
