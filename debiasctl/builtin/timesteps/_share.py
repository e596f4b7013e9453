"""Distributions of the time or of the share of noise, both in [0, 1], as exact probabilities of a table's bins."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.api import PluginOptions, TimestepContext, TimestepDistribution
from debiasctl.builtin.timesteps._tables import normalised
from debiasctl.diffusion import log_of_table

_NOTHING = 1e-200  # a probability of the whole table that is lower cannot be divided by


@dataclass(frozen=True)
class Edges:
    """The edges of T bins, float64 [T + 1] from 0 to at most 1: x, and with their own precision 1 - x and logit(x)."""

    x: Tensor
    rest: Tensor
    logit: Tensor


class ShareOptions(PluginOptions):
    """The option of distributions over [0, 1]: the variable that is distributed so."""

    variable: Literal["time", "s"] = Field(
        "time", description="time: t/T, before any shift of the schedule; s: the share of noise sigma/(alpha + sigma)"
    )


class OverShare(TimestepDistribution):
    """A distribution of time = t/T, or of the share of noise s = sigma/(alpha + sigma), given by its two tails.

    t stands for all times from t/T to (t + 1)/T, and with variable=s for all shares of noise above those of t - 1 up to
    its own; t = 0 for all from 0 on. The density is cut off above the last timestep's s. On the schedule `flow` without
    shift s is the time, and the two are the same. It is part of the objective.
    """

    options: ShareOptions

    @abstractmethod
    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the probabilities of lying below and above each edge, float64 [T + 1]."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return the probability of each bin, exactly, float64 [T] with sum 1."""
        if self.options.variable == "time":
            return _between(*self.tails(_time_edges(context.snr)))
        below, above = self.tails(_share_edges(context.snr))
        if not float(below[-1]) > _NOTHING:  # nearly all lies above the last s, and nearly all of the rest next to it
            return torch.cat([torch.zeros_like(below[1:-1]), torch.ones_like(below[:1])])
        return normalised(_between(below, above))


def _time_edges(snr: Tensor) -> Edges:
    edges = torch.arange(len(snr) + 1, dtype=torch.float64, device=snr.device) / len(snr)
    return Edges(edges, 1 - edges, torch.logit(edges))


def _share_edges(snr: Tensor) -> Edges:
    log_ratio = -log_of_table(snr) / 2  # ln(sigma/alpha) = logit(s), infinite where the SNR is 0
    logit = torch.cat([log_ratio.new_full((1,), -torch.inf), log_ratio])
    return Edges(torch.sigmoid(logit), torch.sigmoid(-logit), logit)


def _between(below: Tensor, above: Tensor) -> Tensor:
    """The probabilities between edges, from the smaller tails: a difference of numbers near 1 is mostly rounding."""
    return torch.where(below[:-1] > 0.5, above[:-1] - above[1:], below[1:] - below[:-1])
