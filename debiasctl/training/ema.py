"""The exponential moving average of a network's weights."""

import copy

import torch
from torch import Tensor, nn

from debiasctl.specs import EMASection


class EMA:
    """A copy of the network whose parameters are average_k = d_k average_{k-1} + (1 - d_k) weights_k.

    d_k is `decay`, or with warm-up at most (1 + k)/(10 + k) at step k = 1, 2, …
    """

    def __init__(self, network: nn.Module, spec: EMASection) -> None:
        self.spec = spec
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    def decay(self, step: int) -> float:
        """d_k after the optimizer's k-th step, k = `step` counted from 1."""
        return min(self.spec.decay, (1 + step) / (10 + step)) if self.spec.warmup else self.spec.decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the weights after the optimizer's `step`-th step; buffers are copied."""
        averages: list[Tensor] = list(self.network.parameters())
        weights: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - self.decay(step))
        for average, current in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(current)
