"""The loss shared by all parameterizations and weightings."""

from torch import Tensor

from debiasctl.errors import DebiasctlError


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """||F - target||² averaged over channels and pixels, from [N, C, H, W] to [N]."""
    return (prediction - target).square().flatten(1).mean(dim=1)


def weighted_losses(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Each sample's weight * ||F - target||², [N]; their mean is the loss (arXiv 2310.08442: w = 1/√SNR on eps).

    `prediction` and `target` are [N, C, H, W]; `weight` [N] is the effective weight on F at each sample's t.
    """
    return weight * squared_error(prediction, target)


def uncertain_losses(losses: Tensor, log_variance: Tensor) -> Tensor:
    """Each sample's loss e^-u + u, [N], for weighted losses [N] and a learned u [N] (arXiv 2312.02696, Eq. 21).

    It is minimal where u is the log of the expected loss at that noise level, regardless of the weight.

    Raises:
        DebiasctlError: if u has another shape, which would broadcast every loss against every u.
    """
    if log_variance.shape != losses.shape:
        raise DebiasctlError(
            f"the learned weighting gave u of shape {tuple(log_variance.shape)} for losses of shape "
            f"{tuple(losses.shape)}. Its module maps [N] to [N]"
        )
    return losses * (-log_variance).exp() + log_variance
