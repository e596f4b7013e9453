"""The least error that a network can reach at a noise level, from the training images (arXiv 2506.13763)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.analysis.ideal.choice import of_images
from debiasctl.analysis.ideal.image_set import ALL
from debiasctl.analysis.ideal.some_images import SomeImages
from debiasctl.analysis.ideal.training_images import TrainingImages
from debiasctl.api import Level, LoadedDataset, Split
from debiasctl.data.pixels import to_model_space
from debiasctl.data.spread import spread_over
from debiasctl.errors import UsageError

_SEED = 0
REMEMBERED = 1.5  # the error on held-out images, as a multiple of that on training images, of a set that is remembered


@dataclass(frozen=True)
class OptimalError:
    """At one log-SNR: the best denoiser's mean squared error of v on its training images, and on held-out images.

    The best denoiser of a finite set of images is E[x0 | x_t] over the set. Its error on those images is the least that
    any network reaches on them, and on average no more than the least on all images that there could be; its error on
    held-out images is no less than that.
    """

    log_snr: float
    train: float
    train_se: float
    heldout: float
    heldout_se: float

    @property
    def is_remembered(self) -> bool:
        """Whether the best denoiser does well by remembering its images: it then says little on other images."""
        return self.heldout > REMEMBERED * self.train


@dataclass(frozen=True)
class _Queries:
    """Images to be denoised, [Q, C, H, W], their classes, and the training images that they are, -1 for others."""

    x0: Tensor
    labels: Tensor | None
    own: Tensor


def optimal_errors(
    data: LoadedDataset,
    log_snr: Sequence[float],
    *,
    num: int,
    mirrored: bool,
    conditional: bool,
    device: torch.device,
    on_progress: Callable[[float, int], None] = lambda done, total: None,
) -> list[OptimalError]:
    """Estimate the least error at ascending log-SNRs, up to the first remembered one, from `num` images of each split.

    The whole training set enters, each image beside its mirror image if `mirrored`; with `conditional`, images of the
    query's own class. Of a set that is too large, two random parts do (`SomeImages`), and the product of the two
    residuals is taken, so that the noise of the two adds nothing on average. What is left is the bias of a ratio, of
    the order 1/n.

    Raises:
        UsageError: if already the noisiest level is remembered.
    """
    ideals = of_images(data.train, mirrored=mirrored, conditional=conditional, device=device, seed=_SEED + 1, parts=2)
    generator = torch.Generator().manual_seed(_SEED)
    chosen = torch.randperm(len(data.train), generator=generator)[:num]
    held = None if ideals[0].known.labels is None else [one.known.labels for one in ideals]
    seen = _queries(data.train, chosen, held, own=chosen)
    unseen = _queries(data.heldout, spread_over(data.heldout, num), held, own=None)
    found: list[OptimalError] = []
    for number, level in enumerate(log_snr):
        on_progress(number, len(log_snr))
        per_v = 1 + math.exp(level)
        train = _errors(ideals, seen, level, generator) * per_v
        heldout = _errors(ideals, unseen, level, generator) * per_v
        found.append(OptimalError(level, *_mean(train), *_mean(heldout)))
        if found[-1].is_remembered or found[-1].train <= 0:
            break
    on_progress(len(log_snr), len(log_snr))
    if found[0].is_remembered:
        raise UsageError(
            f"the least error cannot be estimated from {ideals[0].known.counts[ALL]} training images: even at log "
            f"SNR {log_snr[0]:.3g} the best denoiser of them does well by remembering them. Choose another rule, or "
            "more images"
        )
    return found


def _mean(errors: Tensor) -> tuple[float, float]:
    return float(errors.mean()), float(errors.std() / math.sqrt(len(errors))) if len(errors) > 1 else math.inf


def _queries(split: Split, indices: Tensor, held: Sequence[Tensor | None] | None, *, own: Tensor | None) -> _Queries:
    """Images of a split to be denoised, given their classes if the classes that ideals hold are.

    Raises:
        UsageError: if none of them is of a class that the set has images of.
    """
    labels = None if held is None else split.labels(indices)
    for one in held or ():
        assert one is not None
        assert labels is not None, "a conditional run's images have classes"
        kept = torch.isin(labels, one.cpu())  # a class without images has no denoiser
        indices, labels = indices[kept], labels[kept]
    if not len(indices):
        raise UsageError("no held-out image is of a class that the training images have. Choose another rule")
    images = to_model_space(split.images(indices)).to(torch.float64)
    return _Queries(images, labels, torch.full((len(images),), -1) if own is None else indices)


def _errors(
    ideals: Sequence[TrainingImages | SomeImages], queries: _Queries, log_snr: float, generator: torch.Generator
) -> Tensor:
    """Each query's error of x0, float64 [Q], by one residual or the product of two."""
    level = Level(math.nan, math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr))))
    noise = torch.randn(queries.x0.shape, generator=generator, dtype=torch.float64)
    x_t = level.alpha * queries.x0 + level.sigma * noise
    residuals = [queries.x0 - one.estimate(x_t, level, queries.labels, own=queries.own).mean for one in ideals]
    return (residuals[0] * residuals[-1]).flatten(1).mean(dim=1)
