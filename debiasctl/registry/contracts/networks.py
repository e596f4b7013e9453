"""The networks that backbones and learned weightings build, and what samplers draw with them."""

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from debiasctl.api import (
    Learned,
    Level,
)
from debiasctl.boundary import ContractError, Origin, mark, origin_of
from debiasctl.registry.contracts.expected import Call, a_tensor, expect, is_number, short

if TYPE_CHECKING:
    from torch import Tensor


def _module(value: Any, origin: Origin | None, asked: str, *, trained: bool = True) -> Any:
    """A module that can be stored and, if asked, trained, marked as the plugin's."""
    import torch
    from torch.nn.parameter import is_lazy

    module = expect(value, torch.nn.Module, asked)
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ContractError("returned a module with lazy parameters, whose shapes are not known")
    if trained and not any(parameter.requires_grad for parameter in module.parameters()):
        raise ContractError("returned a module without parameters to train")
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_complex():
            raise ContractError(f"returned a module whose state '{name}' cannot be stored: {short(tensor)}")
    if origin is not None:
        mark(module, origin)
    return module


def build(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    """A module that can be stored and, unless it runs other code, trained."""
    module = call(*args, **kwargs)
    return _module(module, origin_of(plugin), "a torch.nn.Module", trained=plugin.code_sha256() is None)


def resolve_options(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    """The plugin's own Options."""
    return expect(call(*args, **kwargs), plugin.Options, "its Options")


def set_memory_format(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> bool:
    """True or False."""
    return bool(expect(call(*args, **kwargs), bool, "True or False"))


def learned(call: Call, plugin: Any) -> Learned:
    """A Learned, whose module can be trained and stored."""
    learned: Learned = expect(call(), Learned, "a Learned (a weighting that is not learned leaves this method out)")
    _module(learned.module, origin_of(plugin), "a torch.nn.Module in Learned")
    rate = learned.learning_rate
    if not is_number(rate) or rate <= 0:
        raise ContractError(f"returned learning_rate={rate!r:.40}, which must be a number above 0")
    return learned


def sample(call: Call, plugin: Any, denoiser: Any, x: "Tensor", **kwargs: Any) -> "Tensor":
    """Images of the noise's shape."""
    shape = tuple(x.shape)
    return a_tensor(call(denoiser, x, **kwargs), f"images of the noise's shape, float {list(shape)}", shape=shape,
                    dtype="float")  # fmt: skip


def grid(call: Call, plugin: Any, process: Any, num_steps: int) -> Sequence[Level] | None:
    """`num_steps` + 1 levels from the noisiest to the cleanest, or None."""
    levels = call(process, num_steps)
    if levels is None:
        return None
    expect(levels, Sequence, "a sequence of Levels, or None")
    for level in levels:
        expect(level, Level, "a Level")
    if len(levels) != num_steps + 1:
        raise ContractError(f"returned {len(levels)} levels for {num_steps} steps, which visit {num_steps + 1}")
    falling = all(one.t > after.t for one, after in pairwise(levels))
    on_circle = all(abs(one.alpha**2 + one.sigma**2 - 1) < 1e-4 for one in levels)
    if not falling or not on_circle or levels[0].t > process.num_timesteps:
        raise ContractError("returned levels that are not noise levels from the noisiest to the cleanest")
    return list(levels)
