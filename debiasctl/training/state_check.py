"""Checking that the state in a checkpoint has the structure of a training, before any of it is restored."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from debiasctl.models.tensor_files import misfit
from debiasctl.training.optimizers import inner_optimizer
from debiasctl.training.training import Training

_PARTS = ("progress", "optimizer", "extensions", "weighting", "timesteps")
_FIXED = ("betas", "eps", "weight_decay", "amsgrad", "maximize")  # settings of an optimizer that no step changes


def check_rest(training: Training, rest: Mapping[str, Any], *, step: int) -> None:
    """Check everything beside the weights; what plugins stored is left to them.

    Raises:
        ValueError: if a part is missing, of another type or shape, or of another step.
    """
    missing = [name for name in _PARTS if name not in rest]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    if rest.get("step") != step:
        raise ValueError(f"its state is of step {rest.get('step')!r:.40}")
    progress = rest["progress"]
    if not isinstance(progress, Mapping) or not all(_is_number(value) for value in progress.values()):
        raise ValueError("its progress is not a mapping of numbers")
    _check_optimizer(rest["optimizer"], training.optimizer, "optimizer")
    extensions = rest["extensions"]
    if not isinstance(extensions, list) or len(extensions) != len(training.extensions):
        raise ValueError(f"its extensions are not a list of {len(training.extensions)}")
    _check_mapping(rest["weighting"], needed=training.learned is not None, name="weighting")
    if training.learned is not None:
        _check_learned(rest["weighting"], training.accelerator.unwrap_model(training.learned.module))
        _check_optimizer(rest["weighting"].get("optimizer"), training.learned.optimizer, "weighting's optimizer")
    _check_mapping(rest["timesteps"], needed=training.objective.observes, name="timesteps")
    _check_mapping(rest.get("scaler"), needed=training.accelerator.scaler is not None, name="scaler")


def _check_mapping(value: Any, *, needed: bool, name: str) -> None:
    if needed and not isinstance(value, Mapping):
        raise ValueError(f"its {name} is {type(value).__name__}, not a mapping")


def _check_learned(state: Mapping[str, Any], module: nn.Module) -> None:
    found = state.get("module")
    problem = misfit(found, module.state_dict()) if isinstance(found, Mapping) else "it is no mapping"
    if problem:
        raise ValueError(f"its weighting: {problem}")


def _check_optimizer(state: Any, optimizer: torch.optim.Optimizer, name: str) -> None:
    groups = state.get("param_groups") if isinstance(state, Mapping) else None
    own = inner_optimizer(optimizer).param_groups
    if not isinstance(groups, list) or len(groups) != len(own) or not all(isinstance(one, Mapping) for one in groups):
        raise ValueError(f"its {name} has no list of {len(own)} groups of parameters")
    count = 0
    for group, ours in zip(groups, own, strict=True):
        numbers = list(range(count, count + len(ours["params"])))
        count += len(numbers)
        if group.get("params") != numbers:
            raise ValueError(f"its {name} is of other parameters")
        wrong = [key for key in _FIXED if key in ours and not _same(group.get(key), ours[key])]
        if wrong:
            raise ValueError(f"its {name} has another {', '.join(wrong)}")
    parameters = [parameter for group in own for parameter in group["params"]]
    values = state.get("state")
    if not isinstance(values, Mapping) or not all(number in range(count) for number in values):
        raise ValueError(f"its {name} has a state of other parameters")
    for number, inner in values.items():
        problem = _moments_problem(inner, parameters[number])
        if problem:
            raise ValueError(f"its {name}, parameter {number}: {problem}")


def _moments_problem(inner: Any, parameter: Tensor) -> str | None:
    """What is wrong with an optimizer's values for one parameter, which have its shape or are single numbers."""
    if not isinstance(inner, Mapping):
        return f"{type(inner).__name__} is no mapping"
    for key, value in inner.items():
        if isinstance(value, Tensor):
            if value.shape not in ((), parameter.shape) or (key != "step" and value.shape != parameter.shape):
                return f"{key!r:.40} is {list(value.shape)}, and the parameter {list(parameter.shape)}"
            if bool(value.isnan().any()):
                return f"{key!r:.40} holds NaN"
        elif not _is_number(value):
            return f"{key!r:.40} is {type(value).__name__}"
    return None


def _same(found: Any, own: Any) -> bool:
    return (
        list(found) == list(own) if isinstance(found, list | tuple) and isinstance(own, list | tuple) else found == own
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) and math.isfinite(value)
