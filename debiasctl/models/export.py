"""Writing a run's weights in the format of other software."""

import os
from pathlib import Path

from torch import Tensor

from debiasctl import registry
from debiasctl.api import ExternalModel, ModelSource
from debiasctl.models.build import network_for
from debiasctl.models.checkpoint_files import read_weights
from debiasctl.models.weights import load_named_weights, parse_weights
from debiasctl.runs.archive import check_export_place
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec

FORMATS = {"dit": "dit", "python": "python"}  # of backbones, for runs that did not come in a format
FORMAT = "guided-diffusion"  # of all others


def export_checkpoint(
    run: Run, path: Path, *, step: int, weights: str = "ema", format: str | None = None, force: bool = False
) -> tuple[Path, tuple[str, ...]]:
    """Write the weights of a checkpoint to `path`; returns its absolute path, and notes on how they are loaded there.

    Without a `format`, it is the one that the model came in, or that of its backbone, dit or guided-diffusion. The
    tensors keep their bytes.

    Raises:
        UsageError: if there is no such format, it cannot hold the network, or `path` exists (without `force`) or is
            inside the run.
        CheckpointError: if the checkpoint is damaged.
    """
    spec = run.spec()
    own = FORMATS.get(spec.model.backbone.name, FORMAT)
    chosen = format or (own if spec.imported is None else spec.imported.source.name)
    written = registry.load("models", chosen)
    assert issubclass(written, ModelSource), "checked by the registry"
    path = Path(os.path.abspath(path))
    check_export_place(run, path, force=force)
    return path, tuple(written.write(model_of(run, spec, step=step, weights=weights), path))


def model_of(run: Run, spec: RunSpec, *, step: int, weights: str) -> ExternalModel:
    """A run's network as formats of other software take it, with the tensors of a checkpoint.

    Raises:
        UsageError: if `weights` names none; CheckpointError: if the checkpoint is damaged.
    """
    content, model = run.content(spec), spec.model
    channels, size, _ = content.trained_shape
    return ExternalModel(
        backbone=model.backbone.name,
        backbone_options=dict(model.backbone.options),
        weights=_weights(run, spec, step=step, weights=weights),
        image_size=size,
        channels=channels,
        prediction=model.prediction,
        schedule=spec.diffusion.schedule.name,
        schedule_options=dict(spec.diffusion.schedule.options),
        num_classes=len(content.classes) if model.conditional else 0,
        null_class=bool(model.conditional) and model.label_dropout > 0,
        learned_variance=model.learned_variance,
        sigma_data=model.sigma_data,
    )


def _weights(run: Run, spec: RunSpec, *, step: int, weights: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint as its file holds them; averages of other lengths are made."""
    kind, length = parse_weights(weights)
    if length is None:
        return read_weights(run, step=step, weights=kind)[0]
    network = network_for(spec, run.content(spec))
    load_named_weights(run, network, step=step, weights=weights)
    return dict(network.state_dict())
