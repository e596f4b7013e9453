"""How near images are to their nearest training images, against how near held-out images are."""

import math

import torch
from torch import Tensor

from debiasctl.evaluation.outcome import Outcome, of_means, of_share
from debiasctl.evaluation.uncertainty.intervals import LEVEL
from debiasctl.evaluation.uncertainty.jackknife import Division

MIN_HELDOUT = 100  # images needed for the quantile
QUANTILE = 0.01  # of held-out images' distances: images below it count as memorised


def copies(distances: Tensor, fresh: Tensor, division: Division) -> dict[str, Outcome]:
    """Compute the two metrics of `distances` [N] to the nearest training image, beside `fresh` [M] held-out ones.

    Both depend on which images are held out. What these add to the error is `Outcome.effect` or `Outcome.reach`.
    """
    scale = float(fresh.mean()) or 1.0  # if all held-out images are copies, the distances are not scaled
    gap = (float(distances.mean()) - float(fresh.mean())) / scale
    gap_effect = abs(1 + gap) * float(fresh.std()) / (math.sqrt(len(fresh)) * scale)
    return {
        "nearest_train_gap": of_means(
            distances, division, lambda mean: (float(mean) - float(fresh.mean())) / scale, effect=gap_effect
        ),
        "memorised_share": of_share(
            _nearer(distances, fresh.quantile(QUANTILE)), reach=_reach(distances, fresh), expected=expected(fresh)
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


def _reach(distances: Tensor, fresh: Tensor) -> tuple[float, float]:
    """The shares of images below either confidence limit of the threshold, which is known from the held-out images.

    How many of M held-out images lie below the distance that the threshold estimates is binomial, so that it lies
    between two of their ordered distances with the confidence of intervals, whatever their law (Thompson, 1936).
    """
    from scipy.special import bdtr, bdtrik

    num, share, tail = len(fresh), expected(fresh), (1 - LEVEL) / 2
    places = [0.0 if bdtr(0, num, share) > tail else bdtrik(tail, num, share) + 1, bdtrik(1 - tail, num, share) + 1]
    from_zero = torch.cat([fresh.new_zeros(1), fresh])  # the place 0 is the distance 0
    low, high = (float(_nearer(distances, from_zero.quantile(place / num)).mean()) for place in places)
    return low, high


def _nearer(distances: Tensor, threshold: Tensor) -> Tensor:
    return (distances < threshold).to(torch.float64)
