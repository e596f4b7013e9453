"""Files that hold the tensors of a network by the names of other software."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import AfterValidator
from safetensors.torch import save
from torch import Tensor

from debiasctl.api import ExternalModel, ImageShape, ModelError, UsageError, atomic_file, state_dict_differences
from debiasctl.api.files import expanded

ENDINGS = (".pt", ".pth", ".safetensors")
# made absolute, so that a run names the same file wherever it is read
AbsolutePath = Annotated[Path, AfterValidator(lambda path: expanded(path).absolute())]


def shape_of(model: ExternalModel) -> ImageShape:
    """The shape of what the network takes and gives."""
    return ImageShape(model.image_size, model.channels, (1 + model.learned_variance) * model.channels)


def check_ending(path: Path) -> None:
    """Check that the name of a file says how it is written.

    Raises:
        UsageError: if it does not.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"'{path.name}' does not end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}. Name it so")


def check_weights(model: ExternalModel, expected: Mapping[str, Tensor]) -> None:
    """Check that the weights are the tensors of the network that the options describe.

    Raises:
        ModelError: if they are not; the message says how they differ.
    """
    differences = state_dict_differences(model.weights, expected)
    if differences:
        raise ModelError(f"the weights are not those of the network that the run describes: {differences}")


def write_state(state: dict[str, Tensor], path: Path) -> None:
    """Write tensors by name as safetensors, if the path ends so, or else as torch saves them."""
    with atomic_file(path) as stream:
        if path.suffix.lower() == ".safetensors":
            stream.write(save(state))
        else:
            torch.save(state, stream)
