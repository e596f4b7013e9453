"""The one loss of all parameterizations and weightings."""

from torch import Tensor


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """||F - target||² averaged over channels and pixels: [N, C, H, W] to [N]."""
    return (prediction - target).square().flatten(1).mean(dim=1)


def weighted_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Scalar mean over the batch of weight * ||F - target||² (arXiv 2310.08442, Eq. 10 for w = 1/√SNR on eps).

    `prediction` and `target` are [N, C, H, W]; `weight` [N] is the effective weight on F at each sample's t.
    """
    return (weight * squared_error(prediction, target)).mean()
