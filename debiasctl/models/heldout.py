"""Held-out, unweighted errors per log-SNR bin, measured in the same way for every weighting."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.loss import squared_error
from debiasctl.diffusion.objective import Draw, Objective
from debiasctl.diffusion.parameterization import SPACES, target
from debiasctl.diffusion.process import per_image
from debiasctl.runs.records import BinErrors, Edge

LOG_SNR_EDGES = (-8.0, -6.0, -4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0)
_SEED = 0  # for t and noise here: the same for every run, so that runs of different seeds are comparable
_BATCH = 256


def bin_edges() -> list[tuple[Edge, Edge]]:
    """The edges of the log-SNR bins, from noise to image; the outer bins are open (None)."""
    edges = [None, *LOG_SNR_EDGES, None]
    return list(pairwise(edges))


@torch.no_grad()
def heldout_errors(network: nn.Module, objective: Objective, heldout: HeldoutSet) -> list[BinErrors]:
    """Measure the mean squared errors of SPACES in each log-SNR bin of the schedule, with their deviations.

    Each image is measured at one t per bin and with one noise, the same for every run.
    """
    edges = bin_edges()
    bin_of_t = torch.bucketize(objective.process.log_snr, torch.tensor(LOG_SNR_EDGES, dtype=torch.float64), right=True)
    results = []
    for number, bounds in enumerate(edges):
        timesteps = (bin_of_t == number).nonzero().flatten()
        if len(timesteps):
            errors = _bin_errors(network, objective, heldout, timesteps=timesteps, number=number)
            means, stds = errors.mean(dim=1).tolist(), errors.std(dim=1, correction=0).tolist()
            names = [*SPACES, *(f"{unit}_std" for unit in SPACES)]
            figures = dict(zip(names, (*means, *stds), strict=True))
            results.append(BinErrors(log_snr=bounds, num=len(heldout.x0), **figures))
    return results


def _bin_errors(
    network: nn.Module, objective: Objective, heldout: HeldoutSet, *, timesteps: Tensor, number: int
) -> Tensor:
    """Measure each image's mean squared errors of SPACES at one of `timesteps`, float64 [4, N]."""
    device = heldout.x0.device
    positions = torch.arange(len(heldout.x0))
    draw = counter_random.uniform(_SEED, Stream.HELDOUT, step=2 * number, positions=positions)
    t = timesteps[(draw * len(timesteps)).long()]
    errors = []
    for start in range(0, len(positions), _BATCH):
        part = positions[start : start + _BATCH]
        x0, levels = heldout.x0[part.to(device)], objective.process.levels(t[part])
        eps = counter_random.normal(
            _SEED, Stream.HELDOUT, step=2 * number + 1, positions=part.to(device), shape=x0.shape[1:]
        )
        x_t = objective.process.add_noise(x0, eps, levels)
        labels = None if heldout.labels is None else heldout.labels[part.to(device)]
        output = objective.parameterization.run(network, x_t, levels, labels)
        estimate = objective.parameterization.estimate(output, x_t, levels)
        alpha, sigma = per_image(levels.alpha, levels.sigma, like=x0)
        truth = {unit: target(unit, x0=x0, eps=eps, alpha=alpha, sigma=sigma) for unit in SPACES}
        pairs = [(getattr(estimate, unit), truth[unit]) for unit in SPACES]
        errors.append(torch.stack([squared_error(one.double(), other.double()) for one, other in pairs]))
    return torch.cat(errors, dim=1)


def loss_by_log_snr(draw: Draw, losses: Tensor) -> Tensor:
    """Each log-SNR bin's contribution to the mean of the corrected losses [N], without waiting for the device."""
    edges = torch.tensor(LOG_SNR_EDGES, dtype=torch.float64)
    bins = torch.bucketize(draw.levels.snr.log(), edges, right=True)
    members = torch.nn.functional.one_hot(bins, len(edges) + 1).to(losses.device, non_blocking=True)
    corrected = losses.double() * draw.correction.to(losses.device, non_blocking=True)
    return (members * corrected[:, None]).mean(dim=0)  # index_add_ has no fixed order of addition
