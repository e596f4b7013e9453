"""How near images are to their nearest training images, against how near held-out images are."""

import math

import torch
from torch import Tensor

from debiasctl.evaluation.outcome import Outcome, of_means, of_share
from debiasctl.evaluation.uncertainty.jackknife import Division

MIN_HELDOUT = 100  # images needed for the quantile
QUANTILE = 0.01  # of held-out images' distances: images below it count as memorised
_WINDOW = 3 * QUANTILE  # so that enough images lie in it


def copies(distances: Tensor, fresh: Tensor, division: Division) -> dict[str, Outcome]:
    """Compute the two metrics of `distances` [N] to the nearest training image, beside `fresh` [M] held-out ones.

    Both depend on which images are held out. What these add to the error is `Outcome.effect`.
    """
    scale = float(fresh.mean()) or 1.0  # if all held-out images are copies, the distances are not scaled
    gap = (float(distances.mean()) - float(fresh.mean())) / scale
    gap_effect = abs(1 + gap) * float(fresh.std()) / (math.sqrt(len(fresh)) * scale)
    return {
        "nearest_train_gap": of_means(
            distances, division, lambda mean: (float(mean) - float(fresh.mean())) / scale, effect=gap_effect
        ),
        "memorised_share": of_share(
            _nearer(distances, fresh, QUANTILE), effect=_threshold_effect(distances, fresh), expected=expected(fresh)
        ),
    }


def floors(fresh: Tensor) -> dict[str, Outcome]:
    """The metrics of one half of the held-out images beside the other half; none if they are too few.

    Beside all of them, the same images would be on both sides, and the figures 0 and 0.01 whatever the images are.
    """
    half, other = fresh[0::2], fresh[1::2]
    return copies(half, other, Division.of(len(half))) if len(other) >= MIN_HELDOUT else {}


def expected(fresh: Tensor) -> float:
    """The share of fresh images that lie below the quantile of as many held-out ones, on average.

    The quantile lies at the place 1 + 0.01 (M - 1) among M ordered distances, and the place k has a share of
    k / (M + 1) below it.
    """
    return (QUANTILE * len(fresh) + 1 - QUANTILE) / (len(fresh) + 1)


def _threshold_effect(distances: Tensor, fresh: Tensor) -> float:
    """The standard deviation of the share due to the held-out images, through the threshold that they make.

    The share of fresh images below the threshold has the variance p (1 - p) / (M + 2). That of these images changes
    with it as much as their distances are among the least held-out ones, up to three times the quantile.
    """
    share = expected(fresh)
    deviation = math.sqrt(share * (1 - share) / (len(fresh) + 2))
    low, high = (float(_nearer(distances, fresh, end).mean()) for end in (0.0, _WINDOW))
    return (high - low) / _WINDOW * deviation


def _nearer(distances: Tensor, fresh: Tensor, quantile: float) -> Tensor:
    return (distances < fresh.quantile(quantile)).to(torch.float64)
