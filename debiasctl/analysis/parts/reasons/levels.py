"""The noise levels of a run's training in bins of log-SNR, drawn as its objective has them."""

from dataclasses import dataclass

import torch
from torch import Tensor

from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.process import NoiseLevels
from debiasctl.models.heldout import LOG_SNR_EDGES, bin_edges
from debiasctl.runs.records import Edge


@dataclass(frozen=True)
class LevelBin:
    """The timesteps of an objective in a bin of log-SNR: int64 [n], with their probabilities within the bin [n].

    `share` is the bin's own probability, under the distribution of t of which the objective is the expectation: draws
    by another one are corrected to it.
    """

    log_snr: tuple[Edge, Edge]
    timesteps: Tensor
    probability: Tensor
    share: float
    centre: float

    @property
    def name(self) -> str:
        """Its log-SNR in words."""
        return bin_name(self.log_snr)

    def draw(self, objective: Objective, u: Tensor, *, progress: float) -> tuple[NoiseLevels, Tensor]:
        """The noise levels that are the quantiles u (float64 [N]), and their timesteps, int64 [N]."""
        cumulative = self.probability.cumsum(0)
        place = torch.searchsorted(cumulative, u, right=True).clamp(max=int(self.probability.nonzero().max()))
        t, process = self.timesteps[place], objective.process
        if not process.continuous:
            return process.levels(t), t
        within = (u - (cumulative - self.probability)[place]) / self.probability[place]
        return process.levels(process.drawn(t, within.clamp(0, 1))), t

    def weight(self, objective: Objective, levels: NoiseLevels, t: Tensor, *, progress: float) -> Tensor:
        """The objective's weight on the network's output at drawn levels, float64 [N], as training has it."""
        if not objective.process.continuous:
            return objective.tables(progress).weight[t]
        return objective.weight_at(levels.snr, progress)


def bins_of(objective: Objective, *, progress: float) -> list[LevelBin]:
    """The bins of the objective that have a probability, from noise to image."""
    base, log_snr = objective.tables(progress).base, objective.snr.log()
    numbers = torch.bucketize(log_snr, torch.tensor(LOG_SNR_EDGES, dtype=torch.float64), right=True)
    found = []
    for number, edges in enumerate(bin_edges()):
        timesteps = (numbers == number).nonzero().flatten()
        share = float(base[timesteps].sum())
        if share > 0:
            finite = log_snr[timesteps][torch.isfinite(log_snr[timesteps])]
            centre = float(finite.mean()) if len(finite) else float(edges[1] or 0.0)
            found.append(LevelBin(edges, timesteps, base[timesteps] / share, share, centre))
    return found


def bin_name(edges: tuple[Edge, Edge]) -> str:
    """A bin's log-SNR in words: `below -8`, `-8 to -6`, `above 8`."""
    low, high = edges
    return f"below {high:g}" if low is None else f"above {low:g}" if high is None else f"{low:g} to {high:g}"
