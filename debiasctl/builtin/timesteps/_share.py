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

_NOTHING = 1e-200  # a probability of all noise levels that is lower cannot be divided by


@dataclass(frozen=True)
class Edges:
    """The edges of T bins, float64 [T + 1] between 0 and 1: x, and with their own precision 1 - x and logit(x)."""

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

    t stands for all times from t/T to (t + 1)/T, and with variable=s for all shares of noise above that of t - 1 up to
    its own (on a continuous schedule, for those that are drawn for it). Beyond the schedule's noise levels the density
    is cut off. On the schedule `flow` without shift s is the time, and the two are the same. It is part of the
    objective.
    """

    options: ShareOptions

    @abstractmethod
    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the probabilities of lying below and above each edge, float64 [T + 1]."""

    def probabilities(self, context: TimestepContext) -> Tensor:
        """Return the probability of each bin, exactly, float64 [T] with sum 1."""
        if self.options.variable == "time":
            return _between(*self.tails(_time_edges(context.snr)))
        below, above = self.tails(_share_edges(context))
        probability = _between(below, above)
        if float(probability.sum()) > _NOTHING:
            return normalised(probability)
        beyond = len(probability) - 1 if float(above[-1]) > float(below[0]) else 0  # all lies beyond this end
        return torch.zeros_like(probability).index_fill(0, torch.tensor(beyond, device=probability.device), 1.0)


def _time_edges(snr: Tensor) -> Edges:
    edges = torch.arange(len(snr) + 1, dtype=torch.float64, device=snr.device) / len(snr)
    return Edges(edges, 1 - edges, torch.logit(edges))


def _share_edges(context: TimestepContext) -> Edges:
    log_snr = context.edges
    if log_snr is None:
        levels = log_of_table(context.snr)
        log_snr = torch.cat([levels.new_full((1,), torch.inf), levels])
    logit = -log_snr / 2  # ln(sigma/alpha) = logit(s)
    return Edges(torch.sigmoid(logit), torch.sigmoid(-logit), logit)


def _between(below: Tensor, above: Tensor) -> Tensor:
    """The probabilities between edges, from the smaller tails: a difference of numbers near 1 is mostly rounding."""
    return torch.where(below[:-1] > 0.5, above[:-1] - above[1:], below[1:] - below[:-1])
