"""Real digits at EDM2's noise levels, and the magnitude of what each layer makes of them."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from debiasctl_edm2.backbone import EDM2
from debiasctl_edm2.blocks import Block
from debiasctl_edm2.magnitude import FourierFeatures, UnitWeight
from sklearn.datasets import load_digits
from torch import Tensor, nn

from debiasctl.api import ImageShape

SIGMA_DATA = 0.5
SHAPE = ImageShape(8, 1, 1)


def build(**options) -> nn.Module:
    """A network for digits from a seed."""
    torch.manual_seed(0)
    return EDM2(EDM2.Options(**{"preset": "nano", **options})).build(SHAPE, 10)


def inputs(count: int = 512, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """What edm-prediction gives the network: c_in x_t, ln(sigma)/4 and labels, sigma drawn as EDM2 does."""
    generator = torch.Generator().manual_seed(seed)
    digits = load_digits()
    chosen = torch.randperm(len(digits.images), generator=generator)[:count]
    x0 = torch.from_numpy(digits.images).float()[chosen, None] / 8 - 1
    sigma = (torch.randn(count, generator=generator) - 0.4).exp()
    x_t = x0 + sigma[:, None, None, None] * torch.randn(x0.shape, generator=generator)
    c_in = 1 / (sigma**2 + SIGMA_DATA**2).sqrt()
    return c_in[:, None, None, None] * x_t, sigma.log() / 4, torch.from_numpy(digits.target)[chosen]


def magnitude(x: Tensor) -> float:
    """The root mean square."""
    return x.double().square().mean().sqrt().item()


@contextmanager
def recorded(network: nn.Module) -> Iterator[dict[str, float]]:
    """The magnitude of the output of every layer and block, but for those that a gain multiplies."""
    found: dict[str, float] = {}
    hooks = []
    for name, module in network.named_modules():
        gained = name == "last" or name.endswith("residual.embedding")
        if isinstance(module, UnitWeight | FourierFeatures | Block) and not gained:
            hooks.append(module.register_forward_hook(
                lambda _, __, out, name=name: found.update({name: magnitude(out)})
            ))  # fmt: skip
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def activations(network: nn.Module, seed: int = 0) -> dict[str, float]:
    """The magnitudes of a forward pass on digits."""
    with recorded(network.eval()) as found:
        network(*inputs(seed=seed))
    return found


def weights(network: nn.Module) -> dict[str, tuple[float, float]]:
    """The least and greatest magnitude of each layer's stored weight vectors."""
    found = {}
    for name, module in network.named_modules():
        if isinstance(module, UnitWeight):
            size = module.weight.detach().flatten(1).double().norm(dim=1) / math.sqrt(module.weight[0].numel())
            found[name] = (size.min().item(), size.max().item())
    return found
