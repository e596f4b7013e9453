"""Models from elsewhere: trained networks that become runs."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from debiasctl.api.errors import UsageError
from debiasctl.api.options import Prediction
from debiasctl.api.plugin import Plugin

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


@dataclass(frozen=True)
class ExternalModel:
    """A trained network and all that is needed to draw images with it.

    `backbone` and `schedule` name installed plugins, with options; `weights` are the tensors of the network that the
    backbone builds, by its own names. `num_classes` is 0 for a network without labels; with
    `null_class` it embeds one class more, which stands for no class. `steps` is the number of optimizer steps that it
    was trained for, where that is known. `notes` are printed: what was inferred, and from what.
    """

    backbone: str
    backbone_options: Mapping[str, Any]
    weights: "Mapping[str, Tensor]"
    image_size: int
    channels: int
    prediction: Prediction
    schedule: str
    schedule_options: Mapping[str, Any] = field(default_factory=dict)
    num_classes: int = 0
    null_class: bool = False
    learned_variance: bool = False
    sigma_data: float = 0.5
    steps: int | None = None
    notes: tuple[str, ...] = field(default=(), kw_only=True)


class ModelSource(Plugin):
    """A place or a format that trained networks come from."""

    @abstractmethod
    def read(self) -> ExternalModel:
        """Read the network, without running any code that a file of weights may hold.

        Raises:
            UsageError: if options are missing that the file does not determine; the message names them.
            ModelError: if the file is not what its format says, with the names that are missing, unexpected or of
                another shape.
        """

    @classmethod
    def write(cls, model: ExternalModel, path: "Path") -> tuple[str, ...]:
        """Write a network in this format, so that its own programs read it; returns notes on how they do.

        Raises:
            UsageError: if the format cannot hold it; by default no format can be written.
        """
        raise UsageError(f"models cannot be written in the format of {cls.__name__}")
