"""The state that a plugin has in a checkpoint, refused before it is written if it could not be read back."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from debiasctl.boundary import ContractError, Origin, plugin_call

_PLAIN = (type(None), bool, int, float, complex, str, bytes)
_ASKED = "A state holds tensors, numbers, strings, None, and dictionaries, lists and tuples of them"


def plain_state(state: Mapping[str, Any], origin: Origin | None) -> dict[str, Any]:
    """The state with all mappings as dictionaries, and lists and tuples as plain ones.

    Raises:
        PluginError: if it holds anything else, which `torch.load(weights_only=True)` would refuse on resuming.
    """
    with plugin_call(origin, "state_dict"):
        plain: dict[str, Any] = _plain(state, "")
    return plain


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return {_key(key, where): _plain(inner, f"{where}[{key!r:.40}]") for key, inner in value.items()}
    if isinstance(value, list | tuple):
        inners = [_plain(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
        return tuple(inners) if isinstance(value, tuple) else inners
    if type(value) in (Tensor, nn.Parameter):
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            raise ContractError(f"holds a tensor at {where} that cannot be stored: {value.layout}, {value.device}")
        return value
    if type(value) not in _PLAIN:  # a NumPy number is a float, but not one that can be read back
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        raise ContractError(f"holds a {kind} at {where}, which no checkpoint can be resumed with. {_ASKED}")
    return value


def _key(key: Any, where: str) -> Any:
    if type(key) not in _PLAIN:
        raise ContractError(f"holds a key at {where or 'its top'} that is a {type(key).__name__}. {_ASKED}")
    return key
