"""Moving averages of a network's weights."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from debiasctl.models.power_profiles import gamma_of, length_name, power_decay
from debiasctl.specs.sections import EMASection


class EMA:
    """Copies of the network whose parameters are average_k = d_k average_{k-1} + (1 - d_k) weights_k.

    `network` is the primary average; with kind "power" it has the first length, and `averages` holds the others by
    their lengths' names. Half-lives are counted in images, `batch_size` per step.
    """

    def __init__(self, network: nn.Module, spec: EMASection, *, batch_size: int | None = None) -> None:
        if spec.kind == "half-life" and batch_size is None:
            raise ValueError("a half-life in images needs the batch size")
        self.spec, self.batch_size = spec, batch_size
        self.network = _frozen_copy(network)
        lengths = spec.lengths if spec.kind == "power" else ()
        self.averages: dict[str, nn.Module] = {length_name(length): _frozen_copy(network) for length in lengths[1:]}
        self._gammas = [gamma_of(length) for length in lengths]

    def decays(self, step: int) -> list[float]:
        """Return d_k of each average, the primary one first, at the optimizer's k-th step; k = `step` counts from 1."""
        spec = self.spec
        if spec.kind == "power":
            return [power_decay(gamma, step) for gamma in self._gammas]
        if spec.kind == "half-life":
            assert self.batch_size is not None, "refused at construction"
            # EDM (arXiv 2206.00364), App. F.2
            ramp = math.inf if spec.rampup_ratio is None else spec.rampup_ratio * step * self.batch_size
            return [0.5 ** (self.batch_size / min(spec.half_life_images, ramp))]
        return [min(spec.decay, (1 + step) / (10 + step)) if spec.warmup else spec.decay]

    @torch.no_grad()
    def restart(self, network: nn.Module) -> None:
        """Set all averages to the network as it is."""
        weights: list[Tensor] = [*network.parameters(), *network.buffers()]
        for average in (self.network, *self.averages.values()):
            averaged: list[Tensor] = [*average.parameters(), *average.buffers()]
            for own, current in zip(averaged, weights, strict=True):  # no foreach, which sharded tensors do not have
                own.copy_(current)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the averages after the optimizer's `step`-th step, counted from 1; buffers are copied."""
        weights: list[Tensor] = list(network.parameters())
        for average, decay in zip((self.network, *self.averages.values()), self.decays(step), strict=True):
            averaged: list[Tensor] = list(average.parameters())
            torch._foreach_lerp_(averaged, weights, 1 - decay)
            for buffer, current in zip(average.buffers(), network.buffers(), strict=True):
                buffer.copy_(current)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of `averages`, by length and name; if they are sharded, all processes call this and gather."""
        return {name: whole_state(average) for name, average in self.averages.items()}

    def load_state_dict(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Restore `averages` from a `state_dict`.

        Raises:
            ValueError: if the state has other lengths; RuntimeError: if the tensors do not fit.
        """
        if state.keys() != self.averages.keys():
            raise ValueError(f"the averages are of lengths {sorted(state)}, not {sorted(self.averages)}")
        for name, average in self.averages.items():
            own = average.state_dict()
            average.load_state_dict({key: _like(own.get(key), tensor) for key, tensor in state[name].items()})


def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters and persistent buffers; sharded ones are gathered, for which all processes call this."""
    return {
        name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        for name, tensor in module.state_dict().items()
    }


def _like(own: Tensor | None, whole: Tensor) -> Tensor:
    """Shard a whole tensor the way `own` is sharded, if it is."""
    if not isinstance(own, DTensor):
        return whole
    return distribute_tensor(whole.to(own.device), own.device_mesh, own.placements)


def _frozen_copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)
