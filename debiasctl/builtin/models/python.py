"""A model from elsewhere as a function of one's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import ExternalModel, ImageShape, ModelError, ModelSource, NestedSchedule, UsageError
from debiasctl.builtin.backbones.python import Contract, Python, PythonNetwork
from debiasctl.diffusion import Parameterization, process_of

_PROBED = 2  # images at each noise level that is tried
_SCHEDULES = {"vp": "linear", "edm": "edm", "flow": "flow"}


class PythonModel(ModelSource):
    """A function of your own, of (x_t, noise level, labels), run in the process of each command that uses the model.

    `factory` names a function without arguments, in a module of the working directory or of an installed package. It
    returns the callable: a function, or a torch.nn.Module, whose tensors become the checkpoint. The callable is given
    x_t, float32 [N, C, H, W], the noise level, float32 [N], and the labels, int64 [N], or None without classes; it
    returns a float32 tensor of x_t's shape on x_t's device. Images are in [-1, 1].
    """

    class Options(Contract):
        """What the callable takes and returns, and the process that it is for."""

        image_size: int = Field(ge=1, le=4096, description="height and width of x_t")
        channels: int = Field(3, ge=1, le=4096, description="channels of x_t")
        num_classes: int = Field(0, ge=0, le=100_000, description="number of classes; 0: labels are None")
        null_class: bool = Field(
            False, description="whether the label num_classes stands for no class, which guidance needs"
        )
        schedule: NestedSchedule | None = Field(
            None, description="noise schedule; unset: linear for vp, edm for edm, flow for flow"
        )
        learned_variance: bool = Field(
            False, description="vp: whether it returns 2 C channels, the second half of which is a learned variance"
        )

        @model_validator(mode="before")
        @classmethod
        def _with_a_schedule(cls, data: Any) -> Any:
            if isinstance(data, Mapping) and data.get("schedule") is None and data.get("input") in _SCHEDULES:
                return {**data, "schedule": _SCHEDULES[data["input"]]}
            return data

        @model_validator(mode="after")
        def _agrees(self) -> Self:
            if self.null_class and not self.num_classes:
                raise ValueError("null_class=true has no effect without classes: give num_classes too")
            if self.learned_variance and self.input != "vp":
                raise ValueError("learned_variance=true belongs to input=vp, where steps have a variance. Leave it out")
            return self

    options: Options

    def read(self) -> ExternalModel:
        """Import the module, call the factory, and try what it returns on noise.

        Raises:
            UsageError: if there is no such module, or the schedule does not suit what is predicted.
            ModelError: if the code fails, or what it returns is not as declared.
        """
        options, schedule = self.options, self.options.schedule
        assert schedule is not None, "filled in by the options"
        contract = {name: value for name in Contract.model_fields if (value := getattr(options, name)) is not None}
        shape = ImageShape(
            options.image_size, options.channels, options.channels * (2 if options.learned_variance else 1)
        )
        process = process_of(schedule.create())
        parameterization = Parameterization(options.prediction, process, learned_variance=options.learned_variance)
        backbone = Python(Python.resolve_options(Python.Options(**contract), shape))
        with torch.random.fork_rng():
            network = backbone.build(shape, options.num_classes + options.null_class).eval()
        weights = {name: _stored(network, name, tensor) for name, tensor in network.state_dict().items()}
        _try(network, parameterization, num_classes=options.num_classes)
        return ExternalModel(
            backbone="python",
            backbone_options=backbone.options.model_dump(mode="json"),
            weights=weights,
            image_size=options.image_size,
            channels=options.channels,
            prediction=options.prediction,
            schedule=schedule.name,
            schedule_options=schedule.options,
            num_classes=options.num_classes,
            null_class=options.null_class,
            learned_variance=options.learned_variance,
            sigma_data=backbone.options.sigma_data,
            notes=_notes(network, weights),
        )

    @classmethod
    def write(cls, model: ExternalModel, path: Path) -> tuple[str, ...]:
        """Refuse to write a file.

        Raises:
            UsageError: always, since there is no file format.
        """
        raise UsageError(
            "python names code of yours, and no format of files. A module's tensors are in the run's checkpoints, as "
            "safetensors: debiasctl runs path RUN"
        )


@torch.no_grad()
def _try(network: PythonNetwork, parameterization: Parameterization, *, num_classes: int) -> None:
    """Run the network once at the first, the middle and the last timestep.

    Raises:
        ModelError: if it fails, or returns something else than it should.
    """
    process, generator = parameterization.process, torch.Generator().manual_seed(0)
    image = (_PROBED, network.shape.in_channels, network.shape.image_size, network.shape.image_size)
    labels = torch.arange(_PROBED) % num_classes if num_classes else None
    for t in (0, process.num_timesteps // 2, process.num_timesteps - 1):
        levels = process.levels(torch.full((_PROBED,), t, dtype=torch.float64))
        x0, eps = (torch.randn(image, generator=generator) for _ in range(2))
        x_t = process.add_noise(parameterization.sigma_data * x0, eps, levels)
        parameterization.run(network, x_t, levels, labels)


def _stored(network: PythonNetwork, name: str, tensor: Any) -> Tensor:
    """A tensor of the module's state as a checkpoint holds it, in memory of its own.

    Raises:
        ModelError: if a checkpoint cannot hold it.
    """
    if not isinstance(tensor, Tensor) or tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
        raise ModelError(f"{network.code}: the module's state has '{name}', which is no dense tensor of real numbers")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ModelError(f"{network.code}: the module's '{name}' holds NaN or infinity")
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _notes(network: PythonNetwork, weights: Mapping[str, Tensor]) -> tuple[str, ...]:
    code, what = network.code, type(network.network).__name__
    held = (
        f"its checkpoint holds the {len(weights)} tensors of the module {what}"
        if isinstance(network.network, torch.nn.Module)
        else f"its checkpoint is empty: what {code.name} gives is a {what}, not a torch.nn.Module, and holds its own "
        "weights"
    )
    return (f"whatever uses it runs code of yours: {code} (SHA-256 {code.sha256})", held)
