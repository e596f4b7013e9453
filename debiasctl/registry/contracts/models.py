"""What model sources return."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

from debiasctl.api import ExternalModel, Prediction
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, as_json, expect, is_number, short, whole_number

_WHOLE = (("image_size", 1), ("channels", 1), ("num_classes", 0))


def read(call: Call, plugin: Any) -> ExternalModel:
    """An ExternalModel whose facts are possible and whose weights are tensors."""
    model: ExternalModel = expect(call(), ExternalModel, "an ExternalModel")
    numbers: dict[str, Any] = {name: whole_number(name, getattr(model, name), lowest) for name, lowest in _WHOLE}
    if model.steps is not None:
        numbers["steps"] = whole_number("steps", model.steps, 0)
    for name in ("backbone", "schedule"):
        if not isinstance(getattr(model, name), str):
            raise ContractError(f"states {name}={getattr(model, name)!r:.80}, which must be a plugin's name")
        options = getattr(model, f"{name}_options")
        if not isinstance(options, Mapping):
            raise ContractError(f"states {name}_options as {short(options)}, which must be a mapping")
        as_json(dict(options), f"states {name}_options")
    if model.prediction not in get_args(Prediction):
        raise ContractError(
            f"states prediction={model.prediction!r:.80}, which must be {', '.join(get_args(Prediction))}"
        )
    for name in ("null_class", "learned_variance"):
        if not isinstance(getattr(model, name), bool):
            raise ContractError(f"states {name}={getattr(model, name)!r:.80}, which must be True or False")
    if model.null_class and not model.num_classes:
        raise ContractError("states null_class=True without classes")
    sigma_data = model.sigma_data
    if not is_number(sigma_data) or sigma_data <= 0:
        raise ContractError(f"states sigma_data={sigma_data!r:.80}, which must be above 0")
    _check_weights(model.weights)
    if not isinstance(model.notes, list | tuple) or not all(isinstance(one, str) for one in model.notes):
        raise ContractError(f"states notes={model.notes!r:.80}, which must be a tuple of texts")
    return replace(model, **numbers, notes=tuple(model.notes))


def write(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Notes."""
    notes = expect(call(*args, **kwargs), (tuple, list), "a tuple of notes")
    if not all(isinstance(note, str) for note in notes):
        raise ContractError(f"returned notes={notes!r:.80}, which must be texts")
    return tuple(notes)


def _check_weights(weights: Any) -> None:
    import torch

    if not isinstance(weights, Mapping):
        raise ContractError(f"returned weights as {short(weights)}, which must be a mapping of names to tensors")
    for name, tensor in weights.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ContractError(f"returned weights with {name!r:.80}: {short(tensor)}, which must be names and tensors")
