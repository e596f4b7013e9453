"""How far a network's estimate of the noise is a copy of its input, and what predictors that learn nothing score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.reasons.levels import LevelBin
from debiasctl.analysis.parts.reasons.products import Array, Estimate, jackknifed
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.diffusion.process import DiffusionProcess

MOST_VALUES = 3072  # of an image whose full covariance is used
GROUPS = 20
_BATCH = 128


@dataclass(frozen=True)
class Linear:
    """The linear predictor of the noise: sigma (alpha² C + sigma² I)^-1 (x_t - alpha m), with the data's m and C.

    m [D] is the mean and C the covariance of training images, shrunk (Ledoit & Wolf), by its eigenvectors `basis`
    [D, D] and eigenvalues `variances` [D]. Of large images C has the pixels' own variances alone, and `basis` is None.
    """

    mean: Tensor
    variances: Tensor
    basis: Tensor | None

    @classmethod
    def of(cls, images: Tensor) -> "Linear":
        """Fit it to images [N, C, H, W]."""
        rows = images.flatten(1).to(torch.float64).cpu()
        mean = rows.mean(dim=0)
        if rows.shape[1] > MOST_VALUES:
            return cls(mean, rows.var(dim=0, correction=0), None)
        from sklearn.covariance import ledoit_wolf

        covariance, _ = ledoit_wolf((rows - mean).numpy(), assume_centered=True)
        variances, basis = torch.linalg.eigh(torch.from_numpy(covariance))
        return cls(mean, variances.clamp(min=0), basis)

    def __call__(self, x_t: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Estimate eps [N, C, H, W] in float64 for x_t; alpha and sigma are float64 [N, 1]."""
        moved = x_t.flatten(1).to(torch.float64).cpu() - alpha * self.mean
        if self.basis is not None:
            moved = moved @ self.basis
        found = moved * sigma / (alpha**2 * self.variances + sigma**2)
        if self.basis is not None:
            found = found @ self.basis.T
        return found.view_as(x_t)


def copying_sums(denoiser: NetworkDenoiser, heldout: HeldoutSet, one: LevelBin, linear: Linear, *, seed: int) -> Arrays:
    """Sums over each held-out image's values [N, 8] at a noise level of its own in the bin, each timestep alike.

    They are of x_t, eps_hat, x_t², x_t eps_hat and eps_hat², and the squared errors of the network's eps_hat, of x_t
    and of the linear predictor, divided by the number of values.
    """
    process, parameterization = denoiser.process, denoiser.parameterization
    found = []
    for start in range(0, len(heldout.x0), _BATCH):
        x0 = heldout.x0[start : start + _BATCH]
        positions = torch.arange(start, start + len(x0))
        step = 2 * int(one.timesteps[0])
        u = counter_random.uniform(seed, Stream.COPYING, step=step, positions=positions)
        levels = process.levels(one.timesteps[(u * len(one.timesteps)).long()])
        eps = counter_random.normal(
            seed, Stream.COPYING, step=step + 1, positions=positions.to(x0.device), shape=x0.shape[1:]
        )
        x_t = process.add_noise(x0, eps, levels)
        labels = None if heldout.labels is None else heldout.labels[start : start + _BATCH]
        with torch.no_grad():
            output = parameterization.run(denoiser.network, x_t, levels, labels)
        eps_hat = parameterization.estimate(output, x_t, levels).eps.double().cpu()
        guess = linear(x_t, levels.alpha[:, None], levels.sigma[:, None])
        x, truth = x_t.double().cpu(), eps.double().cpu()
        columns = (
            x, eps_hat, x.square(), x * eps_hat, eps_hat.square(), (eps_hat - truth).square(), (x - truth).square(),
            (guess - truth).square(),
        )  # fmt: skip
        found.append(torch.stack([column.flatten(1).mean(dim=1) for column in columns], dim=1))
    return {"sums": torch.cat(found).numpy()}


@dataclass(frozen=True)
class Copying:
    """The slope and R² of the regression of eps_hat on x_t over all values, and mean squared errors of eps, [B] each.

    `gain` is the part of the linear predictor's error that the network does not have: 0 where it is no better.
    """

    slope: Estimate
    r2: Estimate
    error: Estimate
    error_of_copy: Estimate
    error_of_linear: Estimate
    gain: Estimate


def copying(sums: Sequence[Array], *, seed: int) -> Copying:
    """The figures of all bins from each image's sums [N, 8]; intervals are over held-out images."""
    groups = min(GROUPS, len(sums[0]))
    numbers = counter_random.order(seed, epoch=0, size=len(sums[0])).argsort().numpy() % groups

    def mean(left_out: int | None) -> Array:  # [8, B]
        return np.stack([(one if left_out is None else one[numbers != left_out]).mean(axis=0) for one in sums], axis=1)

    def figures(left_out: int | None) -> Array:
        x, e, xx, xe, ee, error, copy, linear = mean(left_out)
        covariance, variance, of_eps = xe - x * e, xx - x * x, ee - e * e
        slope = covariance / variance
        r2 = np.divide(covariance**2, variance * of_eps, out=np.zeros_like(slope), where=of_eps > 0)
        return np.stack([slope, r2, error, copy, linear, 1 - error / linear])

    if groups < 2:
        value = figures(None)
        nothing = np.full_like(value, np.nan)
        found = Estimate(value, nothing, nothing, nothing)
    else:
        found = jackknifed(figures, groups=groups)
    slope, r2, error, copy, linear, gain = (
        Estimate(found.value[row], found.se[row], found.low[row], found.high[row]) for row in range(6)
    )
    return Copying(slope, r2.limited(0, 1), error, copy, linear, gain)


def amplification(process: DiffusionProcess, one: LevelBin) -> tuple[float, int]:
    """By how much errors of eps are larger in x0: the root of the mean 1/SNR of a bin's timesteps; and those of SNR 0.

    The latter are left out: where nothing of the image is left, no estimate of it follows from that of the noise.
    """
    snr = process.snr[one.timesteps]
    finite = snr[snr > 0]
    return (float((1 / finite).mean().sqrt()) if len(finite) else float("nan")), len(snr) - len(finite)
