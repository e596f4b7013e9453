"""Calling the modules that plugins build: inside the boundary, and with the first result of each checked."""

from typing import Any

import torch
from torch import Tensor, nn

from debiasctl.boundary import ContractError, origin_of, plugin_call

_CHECKED = "_debiasctl_checked"


def run_network(
    network: nn.Module, x: Tensor, noise_level: Tensor, labels: Tensor | None, *, out_channels: int
) -> Tensor:
    """Compute F(x, noise_level, labels), [N, out_channels, H, W].

    Raises:
        PluginError: if a plugin's network fails, or the first result of it is of another shape or kind.
    """
    origin = origin_of(network)
    with plugin_call(origin, "forward"):
        output: Tensor = network(x, noise_level, labels)
        if origin is not None:
            _check(output, (x.shape[0], out_channels, *x.shape[2:]), network, x)
    return output


def run_learned(module: nn.Module, log_snr: Tensor) -> Tensor:
    """Compute u(log-SNR), [N], with the module that a learned weighting built.

    Raises:
        PluginError: if it fails, or the first result of it is of another shape or kind.
    """
    origin = origin_of(module)
    with plugin_call(origin, "learned module"):
        u: Tensor = module(log_snr)
        if origin is not None:
            _check(u, tuple(log_snr.shape), module, log_snr)
    return u


def _check(output: Any, shape: tuple[int, ...], module: nn.Module, given: Tensor) -> None:
    """Check a module's output; its values only once, because that waits for the device."""
    if not isinstance(output, Tensor):
        raise ContractError(f"returned {_kind(output)} in place of a tensor {list(shape)}")
    double = output.dtype == torch.float64
    if tuple(output.shape) != shape or not output.is_floating_point() or double != (given.dtype == torch.float64):
        found, asked = (str(one.dtype).removeprefix("torch.") for one in (output, given))
        raise ContractError(f"returned {found} {list(output.shape)} in place of {asked} {list(shape)}")
    if output.device != given.device:
        raise ContractError(f"returned a tensor on {output.device}, and was given one on {given.device}")
    if getattr(module, _CHECKED, False) or output.is_meta:
        return
    object.__setattr__(module, _CHECKED, True)
    # weights that training spoilt, or images that are not finite, are no fault of the module
    if not _finite(output) and _finite(given) and all(map(_finite, module.parameters())):
        raise ContractError("returned NaN or infinity for finite input and weights")


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.detach().isfinite().all())


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
