"""What an autoencoder alone costs: how far decoded latents of held-out images are from real images."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, Split, spread_indices
from debiasctl.data.pixels import to_model_space, to_uint8
from debiasctl.data.spread import spread_over
from debiasctl.evaluation.ground import Ground
from debiasctl.evaluation.record import MetricFigure
from debiasctl.models.latent_space import LatentSpace

_BATCH = 64
_MOST = 5000  # images whose distance is measured
_COMPARED = 256  # images that are compared with themselves


@dataclass(frozen=True)
class Reconstruction:
    """Held-out images that were encoded and decoded: their root mean square error, and their distance's figure."""

    num: int
    error: float
    metric: str | None
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


@dataclass(frozen=True)
class _Decoded:
    """Images of a split at `chosen`, encoded and decoded when they are read."""

    space: LatentSpace
    split: Split
    chosen: Tensor

    def __len__(self) -> int:
        return len(self.chosen)

    def images(self, indices: Tensor) -> Tensor:
        """The decoded images, uint8 [N, C, H, W]."""
        parts = torch.split(self.split.images(self.chosen[indices]), _BATCH)
        return torch.cat([to_uint8(self.space.round_trip(to_model_space(part))).cpu() for part in parts])

    def labels(self, indices: Tensor) -> Tensor | None:
        """The labels, int64 [N], or None."""
        return self.split.labels(self.chosen[indices])


def reconstruct(space: LatentSpace, own: LoadedDataset, ground: Ground, *, num: int) -> Reconstruction | None:
    """Encode and decode up to `num` held-out images, and measure them as samples are; None in further processes.

    Every process of a group calls this.
    """
    decoded = _Decoded(space, own.heldout, spread_over(own.heldout, min(num, _MOST)))
    names, measurement = ground.measurement.names, ground.measurement
    metric = next((name for name in (names.frechet, names.kernel) if name in measurement.metrics), None)
    figure = None
    if metric is not None and len(decoded) > 1:
        alone = replace(measurement, metrics=[metric])
        seen = alone.see(decoded)
        if seen is None:
            return None
        figure = alone.figures(seen).metrics.get(metric)
    few = spread_indices(len(decoded), _COMPARED)
    difference = to_model_space(decoded.images(few)) - to_model_space(own.heldout.images(decoded.chosen[few]))
    return Reconstruction(len(decoded), float(difference.double().square().mean().sqrt()), metric, figure)
