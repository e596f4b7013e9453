"""The least error that a network can reach at a noise level, from the training images (arXiv 2506.13763)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, Split, spread_indices
from debiasctl.data.pixels import to_model_space
from debiasctl.errors import UsageError

MOST_VALUES = 200_000_000  # of the images that are held: 60,000 of 32 pixels' edge in colour
_DOUBLE = 10_000_000  # up to so many values, in float64
_ROWS = 4096  # images at a time
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
    """Images to be denoised, [Q, D]. `own` are those of the set that each was made from, [Q, C, D], C = 0 for others.

    `sources` are their indices in the training split, -1 for images of another.
    """

    x0: Tensor
    labels: Tensor | None
    own: Tensor
    sources: Tensor


@dataclass(frozen=True)
class _Set:
    """The images that are held, [N, D], and their indices in the split; `num` counts the whole set, mirrored or not.

    `groups` are rows of `images`: all of them, or two halves of a random part of the set.
    """

    images: Tensor
    labels: Tensor | None
    sources: Tensor
    groups: tuple[Tensor, ...]
    num: int


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
    query's own class. Of a set that is too large, two random subsets do: the own image counts 1 in each and every other
    one (N - 1)/(n - 1), and the product of the two residuals is taken, so that the noise of the two adds nothing on
    average. What is left is the bias of a ratio, of the order 1/n.

    Raises:
        UsageError: if already the noisiest level is remembered.
    """
    known = _training_set(data.train, mirrored=mirrored, conditional=conditional, device=device)
    generator = torch.Generator().manual_seed(_SEED)
    chosen = torch.randperm(len(data.train), generator=generator)[:num]
    seen = _queries(data.train, chosen, known, copies=2 if mirrored else 1)
    unseen = _queries(data.heldout, spread_indices(len(data.heldout), num), known, copies=0)
    found: list[OptimalError] = []
    for number, level in enumerate(log_snr):
        on_progress(number, len(log_snr))
        per_v = 1 + math.exp(level)
        train = _errors(known, seen, level, generator) * per_v
        heldout = _errors(known, unseen, level, generator) * per_v
        found.append(OptimalError(level, *_mean(train), *_mean(heldout)))
        if found[-1].is_remembered or found[-1].train <= 0:
            break
    on_progress(len(log_snr), len(log_snr))
    if found[0].is_remembered:
        raise UsageError(
            f"the least error cannot be estimated from {known.num} training images: even at log SNR {log_snr[0]:.3g} "
            "the best denoiser of them does well by remembering them. Choose another rule, or more images"
        )
    return found


def _mean(errors: Tensor) -> tuple[float, float]:
    return float(errors.mean()), float(errors.std() / math.sqrt(len(errors))) if len(errors) > 1 else math.inf


def _training_set(split: Split, *, mirrored: bool, conditional: bool, device: torch.device) -> _Set:
    copies, values = (2 if mirrored else 1), split.images(torch.arange(1))[0].numel()
    most = max(2, MOST_VALUES // (values * copies))
    is_whole = len(split) <= most
    generator = torch.Generator().manual_seed(_SEED + 1)
    indices = torch.arange(len(split)) if is_whole else torch.randperm(len(split), generator=generator)[:most]
    dtype = torch.float64 if len(indices) * copies * values <= _DOUBLE else torch.float32
    held = torch.empty(len(indices) * copies, values, dtype=dtype, device=device)
    labels = []
    for start in range(0, len(indices), _ROWS):
        part = indices[start : start + _ROWS]
        images = to_model_space(split.images(part).to(device)).to(dtype)
        held[start * copies : (start + len(part)) * copies] = _copies(images, copies).flatten(0, 1)
        if conditional:
            own = split.labels(part)
            assert own is not None, "a conditional run's images have classes"
            labels.append(own.to(device).repeat_interleave(copies))
    sources = indices.to(device).repeat_interleave(copies)
    rows = torch.arange(len(sources), device=device)
    half = len(rows) // (2 * copies) * copies
    groups = (rows,) if is_whole else (rows[:half], rows[half:])
    return _Set(held, torch.cat(labels) if conditional else None, sources, groups, len(split) * copies)


def _copies(images: Tensor, copies: int) -> Tensor:
    """Images [N, C, H, W] as [N, copies, D]: none, themselves, or themselves and their mirror images."""
    return torch.stack([images, images.flip(-1)], dim=1)[:, :copies].flatten(2)


def _queries(split: Split, indices: Tensor, known: _Set, *, copies: int) -> _Queries:
    """Images of a split to be denoised; `copies` says how many each has in the set, 0 for those of another split.

    Raises:
        UsageError: if none of them is of a class that the set has images of.
    """
    labels = None if known.labels is None else split.labels(indices)
    if labels is not None and known.labels is not None:  # a class without images has no denoiser
        kept = torch.isin(labels, known.labels.cpu())
        indices, labels = indices[kept], labels[kept].to(known.images.device)
    if not len(indices):
        raise UsageError("no held-out image is of a class that the training images have. Choose another rule")
    images = to_model_space(split.images(indices).to(known.images.device)).to(known.images.dtype)
    sources = indices.to(images.device) if copies else torch.full((len(images),), -1, device=images.device)
    return _Queries(images.flatten(1), labels, _copies(images, copies), sources)


def _errors(known: _Set, queries: _Queries, log_snr: float, generator: torch.Generator) -> Tensor:
    """Each query's error of x0, float64 [Q], by one residual or the product of two."""
    alpha, sigma = math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr)))
    noise = torch.randn(queries.x0.shape, generator=generator, dtype=torch.float64)
    x_t = alpha * queries.x0 + sigma * noise.to(queries.x0)
    scale = alpha / sigma**2
    residuals = [queries.x0 - _denoised(known, group, queries, x_t, scale, alpha) for group in known.groups]
    return (residuals[0].double() * residuals[-1].double()).mean(dim=1).cpu()


def _denoised(known: _Set, group: Tensor, queries: _Queries, x_t: Tensor, scale: float, alpha: float) -> Tensor:
    """E[x0 | x_t] over the set, [Q, D], from a group of it.

    A query's own images count 1 each. The others of the group are a sample of the rest of the set, and each counts for
    as many as there are of them.
    """
    own = queries.own
    logits = scale * (own @ x_t[:, :, None])[..., 0] - scale * alpha / 2 * own.square().sum(dim=2)  # [Q, C]
    top = logits.amax(dim=1) if own.shape[1] else torch.full_like(x_t[:, 0], -torch.inf)
    weights = (logits - top[:, None]).exp()
    total, weighted = weights.sum(dim=1, keepdim=True), (weights[..., None] * own).sum(dim=1)
    others = len(group) - (known.sources[group] == queries.sources[:, None]).sum(dim=1)
    share = ((known.num - own.shape[1]) / others.clamp(min=1)).to(x_t).log()
    for rows in _parts(group):
        images = known.images[rows]
        logits = scale * (x_t @ images.T) - scale * alpha / 2 * images.square().sum(dim=1) + share[:, None]
        hidden = known.sources[rows] == queries.sources[:, None]
        if queries.labels is not None and known.labels is not None:
            hidden |= known.labels[rows] != queries.labels[:, None]
        logits = logits.masked_fill(hidden, -torch.inf)
        higher = torch.maximum(top, logits.amax(dim=1))
        rescale = (top - higher).exp().nan_to_num(0.0)[:, None]  # -inf - -inf before the first image that counts
        weights = (logits - higher[:, None]).exp().nan_to_num(0.0)
        total = total * rescale + weights.sum(dim=1, keepdim=True)
        weighted, top = weighted * rescale + weights @ images, higher
    return weighted / total


def _parts(group: Tensor) -> Iterator[Tensor]:
    for start in range(0, len(group), _ROWS):
        yield group[start : start + _ROWS]
