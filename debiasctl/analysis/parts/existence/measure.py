"""The measurement at one noise level: what a denoiser estimates, what the ideal one does, and the images themselves."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.ideal import Ideal, TooFewNeighboursError
from debiasctl.analysis.parts.existence.bands import Bands
from debiasctl.analysis.parts.existence.levels import Place
from debiasctl.analysis.parts.existence.statistics import SquaredMean, in_bands
from debiasctl.analysis.subject import Subject
from debiasctl.api import Denoiser, spread_indices
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.pixels import to_model_space
from debiasctl.sampling.drawing import automatic_batch_size

ENOUGH = 10.0  # training images that the ideal must weigh, harmonic mean, for it to say something about new images
SHOWN = 6  # images in the grid of one-step estimates
_BATCH = 64
_CHOICE = 0  # the seed of the choice of images
_STEPS = 64  # the most noises of an image


@dataclass(frozen=True)
class Images:
    """The held-out images that errors are measured on, [N, C, H, W] in [-1, 1], and where they stand in their split.

    `labels` are their classes, if they have any; `given` those that the network is told.
    """

    x0: Tensor
    positions: Tensor
    labels: Tensor | None
    given: Tensor | None

    @classmethod
    def of(cls, subject: Subject, num: int) -> "Images":
        """Up to `num` held-out images, drawn at random, the same for every run and any seed.

        Every n-th of them could all be of one class, in a data set whose classes alternate.
        """
        split = subject.data.heldout
        positions = counter_random.order(_CHOICE, epoch=0, size=len(split))[:num].sort().values
        labels = split.labels(positions)
        x0 = to_model_space(split.images(positions).to(subject.device)).to(torch.float32)
        given = labels.to(subject.device) if labels is not None and subject.is_conditional else None
        return cls(x0, positions, labels, given)

    def shown(self) -> Tensor:
        """Where the images of pictures stand among these: evenly spread, as data sets may be sorted by class."""
        return spread_indices(len(self.x0), SHOWN)

    def some(self, num: int) -> "Images":
        """Evenly spread `num` of the images."""
        kept = spread_indices(len(self.x0), num)
        parts = [None if one is None else one[kept.to(one.device)] for one in (self.labels, self.given)]
        return Images(self.x0[kept.to(self.x0.device)], self.positions[kept], *parts)


@dataclass(frozen=True)
class Seen:
    """One noise added to all images: x_t, the estimate of x0, and the ideal one's with its variance and neighbours."""

    x_t: Tensor
    estimate: Tensor
    ideal: Tensor
    variance: Tensor
    neighbours: Tensor
    holds: bool  # whether a part of the training images, where that is the ideal's, has enough neighbours


class Measurement:
    """What is measured of a network on `images`, with `noises` independent noises for each image and level."""

    def __init__(self, subject: Subject, ideal: Ideal, images: Images, *, noises: int, seed: int) -> None:
        self.subject, self.ideal, self.images, self.noises, self._seed = subject, ideal, images, noises, seed
        self.bands = Bands(*subject.shape)
        self._batch = min(_BATCH, automatic_batch_size(subject.shape, subject.device))

    @torch.no_grad()
    def level(self, place: Place) -> Arrays:
        """All figures of one level, as arrays that `figures` reads.

        By image [N], over its noises: the squared error of x0 (`error`), that of the ideal (`own`), the squared
        distance from the ideal (`gap`), the ideal's variance and the reciprocal of its neighbours. The mean of the
        estimate's error by channel, against the ideal (`from_ideal`) and against the image (`from_image`), and of the
        ideal's, [N, C]; the square of the ideal's by band (`residual`), [B].
        """
        seen = [self._seen(place, number) for number in range(self.noises)]
        x0 = self.images.x0.cpu().double()
        inverse = torch.stack([1 / one.neighbours.cpu().double() for one in seen]).mean(dim=0)
        is_usable = self.ideal.exact or (all(one.holds for one in seen) and float(inverse.mean()) <= 1 / ENOUGH)
        found = {
            "error": self._squares(seen, lambda one: one.estimate - x0),
            "own": self._squares(seen, lambda one: one.ideal - x0),
            "gap": self._squares(seen, lambda one: one.estimate - one.ideal),
            "variance": torch.stack([one.variance for one in seen]).mean(dim=0),
            "inverse_neighbours": inverse,
            "usable": torch.tensor([float(is_usable)]),
        }
        away = {
            "from_image": torch.stack([one.estimate - x0 for one in seen]).mean(dim=0),
            "from_ideal": torch.stack([one.estimate - one.ideal for one in seen]).mean(dim=0),
            "ideal_from_image": torch.stack([one.ideal - x0 for one in seen]).mean(dim=0),
        }
        found |= {name: error.mean(dim=(2, 3)) for name, error in away.items()}
        residual = in_bands(
            self.bands.columns(away["ideal_from_image"]).square(), self.bands.of_column, num_bands=len(self.bands)
        )
        found["residual"] = residual.mean(dim=0)
        arrays = {name: one.numpy().astype(np.float64) for name, one in found.items()}
        for name in ("image", "ideal"):
            columns = self.bands.columns(away[f"from_{name}"])
            squared = SquaredMean.of(columns, self.bands.of_column, num_bands=len(self.bands))
            parts = {"pseudo": squared.pseudo, "interactions": squared.interactions, "plain": squared.plain}
            arrays |= {f"{part}_{name}": one for part, one in parts.items()}
        if place.level.alpha > 0:
            arrays |= self._amplitudes(seen, x0)
        for name in ("x_t", "estimate", "ideal"):
            arrays[f"shown_{name}"] = getattr(seen[0], name)[self.images.shown()].numpy()
        return arrays

    @torch.no_grad()
    def excess_of(self, denoiser: Denoiser, place: Place, best: "Best") -> Tensor:
        """The squared error of x0 of another denoiser less that of the ideal, by image, float64 [N]."""
        x_t = self._noised(place, 0)
        estimate = self._estimate(denoiser, x_t, place)
        if self.ideal.exact:
            return (estimate - best.ideal).square().mean(dim=(1, 2, 3))
        return (estimate - self.images.x0.cpu().double()).square().mean(dim=(1, 2, 3)) - best.error

    @torch.no_grad()
    def best(self, place: Place) -> "Best":
        """What the ideal estimates at a level from the first noise."""
        one = self._seen(place, 0, estimated=False)
        error = (one.ideal - self.images.x0.cpu().double()).square().mean(dim=(1, 2, 3))
        return Best(one.ideal, error)

    def _squares(self, seen: list[Seen], error: Callable[[Seen], Tensor]) -> Tensor:
        return torch.stack([error(one).square().mean(dim=(1, 2, 3)) for one in seen]).mean(dim=0)

    def _amplitudes(self, seen: list[Seen], x0: Tensor) -> Arrays:
        """By image and band, [N, B - 1]: products whose means' ratio is the error of a band's amplitude.

        It is <x0_hat - m, m>/<m, m> with the m of a known law, all without their means over images. The ideal of a
        finite set has too much of the set's own details for that: <x0_hat - x0, x_t>/<x0, x_t> has the same expectation
        for x0_hat = (1 + a) m, and needs no ideal.
        """
        error, against = x0.new_zeros(len(x0), len(self.bands)), x0.new_zeros(len(x0), len(self.bands))
        for one in seen:
            whole, along = (one.ideal, one.ideal) if self.ideal.exact else (x0, one.x_t)
            parts = (one.estimate - whole, whole, along)
            columns = [self.bands.columns(part - part.mean(dim=0)) for part in parts]
            for total, part in ((error, columns[0]), (against, columns[1])):
                total += in_bands(part * columns[2], self.bands.of_column, num_bands=len(self.bands)) / len(seen)
        return {"amplitude_error": error[:, 1:].numpy(), "amplitude": against[:, 1:].numpy()}

    def _noised(self, place: Place, number: int) -> Tensor:
        x0, level = self.images.x0, place.level
        noise = counter_random.normal(
            self._seed, Stream.EXISTENCE, step=place.key * _STEPS + number,
            positions=self.images.positions.to(x0.device), shape=x0.shape[1:],
        )  # fmt: skip
        return level.alpha * x0 + level.sigma * noise

    def _seen(self, place: Place, number: int, *, estimated: bool = True) -> Seen:
        x_t = self._noised(place, number)
        holds = True
        try:
            posterior = self.ideal(x_t, place.level, self.images.given)
        except TooFewNeighboursError as refused:
            posterior, holds = refused.estimate, False
        estimate = self._estimate(self.subject.denoiser, x_t, place) if estimated else x_t
        return Seen(
            x_t.cpu().double(), estimate.cpu().double(), posterior.mean.cpu().double(),
            posterior.variance.cpu().double(), posterior.neighbours.cpu().double(), holds,
        )  # fmt: skip

    def _estimate(self, denoiser: Denoiser, x_t: Tensor, place: Place) -> Tensor:
        """The denoiser's estimates of x0, float64 on the CPU, batch by batch."""
        found = []
        for start in range(0, len(x_t), self._batch):
            part = slice(start, start + self._batch)
            labels = None if self.images.given is None else self.images.given[part]
            found.append(denoiser(x_t[part], place.level.t, labels).x0.cpu().double())
        return torch.cat(found)


@dataclass(frozen=True)
class Best:
    """The ideal's estimates at a level, [N, C, H, W], and their squared errors [N]."""

    ideal: Tensor
    error: Tensor
