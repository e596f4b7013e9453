"""Copying a training's state to host memory, and restoring it."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from debiasctl.boundary import origin_of
from debiasctl.models.checkpoint_files import EMA, RAW, CheckpointState
from debiasctl.models.tensor_files import misfit
from debiasctl.training.optimizers import inner_optimizer
from debiasctl.training.plain_state import plain_state
from debiasctl.training.training import Training

_FURTHER = "ema-"  # the prefix of further averages, followed by their lengths
_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)


class HostMemory:
    """Copies tensors to host memory that is reused for the next copy, so that it holds one extra copy of the state.

    Copies from a GPU go to pinned memory and are all queued before a single wait.
    """

    def __init__(self) -> None:
        self._held: dict[tuple[Any, ...], Tensor] = {}

    def copy(self, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same containers with all tensors in host memory; they are valid until the next copy."""
        held: dict[tuple[Any, ...], Tensor] = {}
        devices: set[torch.device] = set()
        copied: dict[str, Any] = self._copy(state, (), held, devices)
        for device in devices:
            torch.cuda.synchronize(device)
        self._held = held
        return copied

    def _copy(self, value: Any, path: tuple[Any, ...], held: dict[tuple[Any, ...], Tensor], devices: set[Any]) -> Any:
        if isinstance(value, Tensor):
            value = value.detach()
            target = self._held.get(path)
            if target is None or not _same_layout(target, value):
                # the strides are kept: a fused optimizer assumes that its state has its parameters' layout
                target = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            if value.is_cuda:
                devices.add(value.device)
            held[path] = target.copy_(value, non_blocking=value.is_cuda)
            return target
        if isinstance(value, Mapping):
            return {key: self._copy(inner, (*path, key), held, devices) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            inners = [self._copy(inner, (*path, number), held, devices) for number, inner in enumerate(value)]
            return inners if isinstance(value, list) else tuple(inners)
        return copy.deepcopy(value)  # a plugin may keep modifying its own


def capture(
    training: Training, *, step: int, progress: Mapping[str, float], memory: HostMemory | None = None
) -> CheckpointState | None:
    """Copy the state after `step` steps; `progress` holds the loop's own running sums.

    Every process has to call this, because sharded weights (FSDP) are gathered by all of them; the main process gets
    the state, the others None. With `memory`, the state is valid until the memory's next copy.
    """
    weights = {RAW: _module_state(training.network), EMA: _module_state(training.ema.network)}
    weights |= {f"{_FURTHER}{length}": tensors for length, tensors in training.ema.state_dict().items()}
    rest = {
        "step": step,
        "progress": progress,
        "optimizer": _optimizer_state(training.network, training.optimizer),
        "extensions": [plain_state(extension.state_dict(), origin_of(extension)) for extension in training.extensions],
        "weighting": _learned_state(training),
        "timesteps": _distribution_state(training),
        "scaler": None if training.accelerator.scaler is None else training.accelerator.scaler.state_dict(),
    }
    if not training.accelerator.is_main_process:
        return None
    copied = (memory or HostMemory()).copy({"weights": weights, "rest": rest})
    return CheckpointState(step, copied["weights"], copied["rest"])


def restore(training: Training, state: CheckpointState) -> dict[str, float]:
    """Restore a training from `state` in every process, and return the loop's running sums.

    The state's tensors may become the training's own.

    Raises:
        RuntimeError, ValueError, KeyError: if the state does not fit the training.
    """
    for name in (RAW, EMA):
        problem = misfit(state.weights[name], training.network.state_dict())
        if problem:
            raise ValueError(f"{name}: {problem}")
    _load_module(training.network, state.weights[RAW])
    _load_module(training.ema.network, state.weights[EMA])
    names = [name for name in state.weights if name.startswith(_FURTHER)]
    training.ema.load_state_dict({name.removeprefix(_FURTHER): state.weights[name] for name in names})
    rest = state.rest
    _load_optimizer(training.network, training.optimizer, rest["optimizer"])
    for extension, saved in zip(training.extensions, rest["extensions"], strict=True):
        extension.load_state_dict(saved)
    if training.learned is not None:
        module = training.accelerator.unwrap_model(training.learned.module)
        _load_module(module, rest["weighting"]["module"])
        _load_optimizer(module, training.learned.optimizer, rest["weighting"]["optimizer"])
    if training.objective.observes:
        training.objective.distribution.load_state_dict(rest["timesteps"])
    if training.accelerator.scaler is not None:
        training.accelerator.scaler.load_state_dict(rest["scaler"])
    return dict(rest["progress"])


def _learned_state(training: Training) -> dict[str, Any] | None:
    """The state of a learned weighting's module and optimizer."""
    if training.learned is None:
        return None
    module = training.accelerator.unwrap_model(training.learned.module)
    return {
        "module": _module_state(module),
        "optimizer": _optimizer_state(module, training.learned.optimizer),
    }


def _distribution_state(training: Training) -> dict[str, Any] | None:
    """The state of a distribution of t that adapts to losses."""
    if not training.objective.observes:
        return None
    distribution = training.objective.distribution
    return dict(plain_state(distribution.state_dict(), origin_of(distribution)))


# ---------------------------------------------------------------- one module or optimizer, sharded or not


def _is_sharded(module: nn.Module) -> bool:
    return any(isinstance(parameter, DTensor) for parameter in module.parameters())


def _module_state(module: nn.Module) -> dict[str, Any]:
    """All tensors of a module; a sharded module's are gathered in the main process's host memory."""
    return get_model_state_dict(module, options=_FULL) if _is_sharded(module) else dict(module.state_dict())


def _load_module(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    if _is_sharded(module):
        set_model_state_dict(module, dict(state), options=_FULL)
    else:
        module.load_state_dict(state)


def _optimizer_state(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state as `state_dict()` gives it in one process, with numbered parameters, even if sharded."""
    # without state, get_optimizer_state_dict would take a step to create some, and count a step that never happened
    if not _is_sharded(module) or not optimizer.state:
        return optimizer.state_dict()
    named: dict[str, Any] = dict(get_optimizer_state_dict(module, inner_optimizer(optimizer), options=_FULL))
    numbers = {name: number for number, name in enumerate(_parameter_names(module, optimizer))}
    return {  # empty except in the main process
        "state": {numbers[name]: state for name, state in named.get("state", {}).items()},
        "param_groups": [
            {**group, "params": [numbers[name] for name in group["params"]]} for group in named.get("param_groups", [])
        ],
    }


def _load_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    groups = zip(optimizer.param_groups, state["param_groups"], strict=True)
    state = {**state, "param_groups": [{**saved, **_implementation(own)} for own, saved in groups]}
    if _is_sharded(module) and state["state"]:
        names = _parameter_names(module, optimizer)
        named: dict[str, Any] = {
            "state": {names[number]: inner for number, inner in state["state"].items()},
            "param_groups": [
                {**group, "params": [names[number] for number in group["params"]]} for group in state["param_groups"]
            ],
        }
        set_optimizer_state_dict(module, inner_optimizer(optimizer), named, options=_FULL)
        return
    optimizer.load_state_dict(dict(state))
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape and not _same_layout(value, parameter):
                # fused optimizers read memory in order, and would use one weight's state for another
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _implementation(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of how an optimizer computes, which this machine chooses and which do not change the result."""
    return {name: group[name] for name in ("fused", "foreach", "capturable") if name in group}


def _parameter_names(module: nn.Module, optimizer: torch.optim.Optimizer) -> list[str]:
    """The parameters' names in the order in which the optimizer numbers them."""
    names = {parameter: name for name, parameter in module.named_parameters()}
    return [names[parameter] for group in optimizer.param_groups for parameter in group["params"]]


def _same_layout(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and first.dtype == second.dtype and first.stride() == second.stride()
