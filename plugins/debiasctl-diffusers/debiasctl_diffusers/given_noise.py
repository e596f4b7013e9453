"""Noise that is given to code which draws its own."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from debiasctl.api import UsageError

_NORMAL = (torch.randn, torch.randn_like)
_OTHER = (torch.rand, torch.rand_like, torch.normal, torch.randint, torch.randperm, torch.bernoulli)


class GivenNoise(TorchFunctionMode):
    """Within the block, the n-th standard normal draw is `noise(n)`, n from 1, counted over all blocks of the object.

    Raises:
        UsageError: if other random numbers are drawn, or noise of another shape than is given.
    """

    def __init__(self, noise: Callable[[int], Tensor]) -> None:
        super().__init__()
        self._noise, self.drawn = noise, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer draws of random numbers, and leave all other functions as they are."""
        if func in _OTHER:
            raise UsageError(
                f"sampler 'diffusers': its scheduler draws by {func.__name__}, which cannot be given to it"
            )
        if func not in _NORMAL:
            return func(*args, **(kwargs or {}))
        asked = func(*args, **{**(kwargs or {}), "device": "meta", "generator": None})
        self.drawn += 1
        noise = self._noise(self.drawn)
        if asked.shape != noise.shape:
            raise UsageError(
                f"sampler 'diffusers': its scheduler draws noise {list(asked.shape)} for images {list(noise.shape)}"
            )
        return noise.to(asked.dtype)
