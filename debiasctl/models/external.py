"""Models from elsewhere: making a run of a network that was trained by other software."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from debiasctl import paths
from debiasctl.api import (
    Autoencoder,
    DataLocation,
    DatasetInfo,
    ExternalModel,
    LatentShape,
    ModelSource,
    state_dict_differences,
)
from debiasctl.compute.memory import total_memory
from debiasctl.data.content import content_section
from debiasctl.data.load import load_dataset
from debiasctl.errors import ModelError, PluginError, UsageError
from debiasctl.files import write_json
from debiasctl.models.build import build_parameterization, network_for
from debiasctl.models.checkpoint_files import EMA, RAW, CheckpointState, write_checkpoint
from debiasctl.models.latent_space import space_without_images, write_autoencoder
from debiasctl.models.network_size import WEIGHT_BYTES, sketched
from debiasctl.models.outside_code import trust
from debiasctl.registry.choices import complete
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.runs.parts import SPEC
from debiasctl.runs.provenance import provenance
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, claim_folder, validate_run_name
from debiasctl.specs.latents import trained_info
from debiasctl.specs.plugins import complete_plugins
from debiasctl.specs.recorded import ContentSection, ImportedSection
from debiasctl.specs.resolve import validate_spec
from debiasctl.specs.sections import NO_IMAGES, RunSpec, embedded_classes, image_shape

UNKNOWN = "unknown"  # what a listing shows of a weighting that nobody has stated
_UNSTATED = "constant"  # what the spec holds in its place
_MOST_TIMES = 64  # that an image's side is longer than that of its latent
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)  # of weights; the network converts them
_DROPOUT = 0.1  # of a network with a null class, as published; what it was is unknown


def add_model(
    name: str,
    source: PluginRef,
    location: DataLocation,
    *,
    dataset: str | Mapping[str, Any] | None = None,
    weighting: str | None = None,
    autoencoder: str | None = None,
) -> Run:
    """Make a run of the network that `source` reads, whole or not at all.

    `dataset` names the images that it was trained on, and `weighting` the loss weighting, where they are known. A
    network that makes latents needs the `autoencoder` that decodes them.

    Raises:
        RunNameError: if the name is not allowed or is taken.
        UsageError: if an option is missing, or the data set's images or classes are not those that the network takes.
        ModelError: if the file is not what its format says, or its tensors do not fit the network.
        DataError: if the data set cannot be read.
    """
    validate_run_name(name)
    with claim_folder(paths.runs_dir() / name, taken="Choose another NAME") as folder:
        choice = complete("models", source)
        plugin: ModelSource = choice.create("models")
        model = plugin.read()
        spec = _spec(model, location, dataset=dataset, weighting=weighting, autoencoder=autoencoder)
        trust(spec)
        if autoencoder is not None:
            assert spec.content is not None, "made with the spec"
            space = space_without_images(spec, spec.content, device=torch.device("cpu"))
            spec = spec.model_copy(update={"content": spec.content.model_copy(update={"latents": space.section})})
            write_autoencoder(folder, space.autoencoder)
        _check_weights(spec, model)
        imported = ImportedSection(
            name=name,
            source=choice,
            sha256=_sha256(model.weights),
            steps=model.steps,
            weighting_known=weighting is not None,
            notes=model.notes,
        )
        spec = spec.model_copy(update={"imported": imported, "provenance": provenance()})
        write_json(folder / SPEC, spec.model_dump(mode="json"))
        run = Run(folder)
        shown = UNKNOWN if weighting is None else spec.loss.weighting.name
        status = new_status(num_steps=0, dataset=spec.data.dataset.name, weighting=shown, seed=spec.training.seed)
        run.write_status(replace(status, state="imported"))
        write_checkpoint(run, CheckpointState(0, {RAW: model.weights, EMA: model.weights}, {"step": 0}))
    return Run(paths.runs_dir() / name)


def _spec(
    model: ExternalModel,
    location: DataLocation,
    *,
    dataset: str | Mapping[str, Any] | None,
    weighting: str | None,
    autoencoder: str | None,
) -> RunSpec:
    if autoencoder is None and model.channels not in (1, 3):
        raise UsageError(
            f"the model takes images of {model.channels} channels, and images have 1 (grey) or 3 (colour): it draws "
            "latents. Name the autoencoder that decodes them: `autoencoder=diffusers-vae:path=FOLDER`"
        )
    channels, size = model.channels, model.image_size
    if autoencoder is not None:
        channels, size = _images_behind(autoencoder, model)
    shapes = {"image_size": size, "channels": channels, "num_classes": model.num_classes}
    spec = validate_spec(
        {
            "data": {"dataset": dataset or {"name": NO_IMAGES, "options": shapes}, "autoencoder": autoencoder},
            "model": {
                "backbone": {"name": model.backbone, "options": dict(model.backbone_options)},
                "prediction": model.prediction,
                "sigma_data": model.sigma_data,
                "learned_variance": model.learned_variance,
                "conditional": model.num_classes > 0,
                "label_dropout": _DROPOUT if model.null_class else 0.0,
            },
            "diffusion": {"schedule": {"name": model.schedule, "options": dict(model.schedule_options)}},
            "loss": {"weighting": weighting or _UNSTATED},
            "training": {"steps": max(1, model.steps or 1)},
            "compute": {"precision": "fp32", "compile": False},
        }
    )
    info, content = _content(spec, location, named=dataset is not None)
    _check_data(model, info, trained_info(spec, info), str(spec.data.dataset.name))
    spec = complete_plugins(spec, info).model_copy(update={"content": content})
    build_parameterization(spec)
    if spec.loss.weighting.create("weightings").is_learned:
        raise UsageError(
            f"`weighting={weighting}` is learned beside the network, and a file of the network does not hold it. Leave "
            "`weighting` out"
        )
    return spec


def _content(spec: RunSpec, location: DataLocation, *, named: bool) -> tuple[DatasetInfo, ContentSection]:
    if named:
        data = load_dataset(spec.data.dataset.ref, location)
        return data.info, content_section(data)
    info: DatasetInfo = spec.data.dataset.create("datasets").info(location)
    return info, ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=(),
        num_train=0,
        num_heldout=0,
        content_hash=hashlib.sha256(str(spec.data.dataset.ref).encode()).hexdigest(),
    )


def _images_behind(reference: str, model: ExternalModel) -> tuple[int, int]:
    """The channels and the size of the images of which the autoencoder makes the network's latents.

    Raises:
        UsageError: if there are none; ModelError: if the autoencoder cannot be read.
    """
    autoencoder: Autoencoder = complete("autoencoders", parse_ref(reference)).create("autoencoders")
    wanted, problem = LatentShape(model.channels, model.image_size), ""
    for channels in (3, 1):
        for factor in range(1, _MOST_TIMES + 1):
            try:
                if autoencoder.latent_shape(factor * model.image_size, channels) == wanted:
                    return channels, factor * model.image_size
            except UsageError as error:
                problem = problem or f": {error}"
    latents = f"{model.channels}x{model.image_size}x{model.image_size}"
    raise UsageError(f"`autoencoder={reference}` makes no latents {latents}, which the model draws{problem}")


def _check_data(model: ExternalModel, info: DatasetInfo, trained: DatasetInfo, name: str) -> None:
    """Check that the network takes a data set's images, or their latents, and its classes.

    Raises:
        UsageError: if it does not.
    """
    shape, own = (trained.channels, trained.image_size), (model.channels, model.image_size)
    if shape != own:
        taken, has = (f"{channels}x{size}x{size}" for channels, size in (own, shape))
        what, theirs = ("images of", "those") if trained == info else ("latents", "those of the images")
        raise UsageError(
            f"the model takes {what} {taken}, and {theirs} of data set '{name}' are {has}. Give the data set that it "
            "was trained on, resized where it has the option image_size, or leave `dataset` out"
        )
    if model.num_classes and len(info.classes) != model.num_classes:
        raise UsageError(
            f"the model knows {model.num_classes} classes, and data set '{name}' has {len(info.classes)}. Give the "
            "data set that it was trained on, or leave `dataset` out"
        )


def _check_weights(spec: RunSpec, model: ExternalModel) -> None:
    """Check the tensors against the network that the spec describes.

    Raises:
        ModelError: if one is missing, unexpected, of another shape or of numbers of another kind, or is not finite.
    """
    expected = _expected(spec, model)
    differences = state_dict_differences(model.weights, expected)
    if differences:
        raise ModelError(
            f"the weights do not fit the network '{model.backbone}' that they are said to be of: {differences}"
        )
    for name, tensor in model.weights.items():
        own = expected[name].dtype
        if not own.is_floating_point and tensor.dtype == own:
            continue
        if not own.is_floating_point or tensor.dtype not in _FLOATS:
            raise ModelError(
                f"'{name}' is {_dtype(tensor.dtype)}, and the network computes with {_dtype(own)}. Save it as "
                f"{', '.join(map(_dtype, _FLOATS)) if own.is_floating_point else _dtype(own)}"
            )
        if not bool(tensor.to(own).isfinite().all()):
            raise ModelError(
                f"'{name}' holds NaN, infinity or a number beyond {_dtype(own)}: the training that made the model had "
                "failed"
            )


def _expected(spec: RunSpec, model: ExternalModel) -> dict[str, Tensor]:
    """The tensors of the network, without their numbers where the backbone can be built so."""
    memory = total_memory(torch.device("cpu"))
    backbone = spec.model.backbone.create("backbones")
    shape = image_shape(spec.model, image_size=model.image_size, channels=model.channels)
    if backbone.code_sha256() is None:
        with suppress(PluginError), sketched(memory, memory=memory, per_parameter=WEIGHT_BYTES):
            network = backbone.build(shape, embedded_classes(spec.model, model.num_classes))
            return dict(network.state_dict())
    assert spec.content is not None, "made with the spec"
    return dict(network_for(spec, spec.content).state_dict())


def _dtype(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _sha256(weights: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
