"""Filling in the options and origins of the plugins that a spec names."""

from dataclasses import replace
from typing import Any

from debiasctl import registry
from debiasctl.api import Backbone, DatasetInfo, ImageShape, Schedule
from debiasctl.errors import Hint, SpecError, UsageError
from debiasctl.registry.choices import PluginChoice, complete
from debiasctl.specs.latents import are_bounded, complete_sampler, trained_info
from debiasctl.specs.sections import ModelSection, MonitorSection, RunSpec, image_shape


def complete_plugins(spec: RunSpec, info: DatasetInfo) -> RunSpec:
    """Fill in every plugin's options and origin, and whether the network is conditional on classes.

    Raises:
        SpecError: if the spec asks for classes and the data set has none; plugins raise their own UsageErrors.
    """
    conditional = spec.model.conditional
    if conditional and not info.classes:
        raise SpecError("model.conditional=true needs a data set with classes, and this one has none. Leave it out")
    conditional = bool(info.classes) if conditional is None else conditional
    autoencoder = spec.data.autoencoder and complete("autoencoders", spec.data.autoencoder.ref)
    data = spec.data.model_copy(
        update={"dataset": complete("datasets", spec.data.dataset.ref), "autoencoder": autoencoder}
    )
    info = trained_info(spec.model_copy(update={"data": data}), info)
    shape = image_shape(spec.model, image_size=info.image_size, channels=info.channels)
    resizable = "image_size" in registry.load("datasets", spec.data.dataset.name).Options.model_fields
    resizable = resizable and autoencoder is None
    return spec.model_copy(
        update={
            "data": data,
            "model": spec.model.model_copy(
                update={
                    "backbone": _complete_backbone(spec.model, shape, resizable=resizable),
                    "conditional": conditional,
                }
            ),
            "diffusion": spec.diffusion.model_copy(
                update={"schedule": _complete_schedule(spec.diffusion.schedule, image_size=info.image_size)}
            ),
            "loss": spec.loss.model_copy(
                update={
                    "weighting": complete("weightings", spec.loss.weighting.ref),
                    "timesteps": complete("timesteps", spec.loss.timesteps.ref),
                }
            ),
            "monitor": None if spec.monitor is None else complete_monitor(spec.monitor, bounded=are_bounded(spec)),
            "extensions": tuple(complete("extensions", choice.ref) for choice in spec.extensions),
        }
    )


def complete_monitor(monitor: MonitorSection, *, bounded: bool = True) -> MonitorSection:
    """Fill in the options and origins of the sampler and, if given, the features; see `complete_sampler`."""
    features = monitor.features and complete("features", monitor.features.ref)
    sampler = complete_sampler(monitor.sampler.ref, bounded=bounded)
    return monitor.model_copy(update={"sampler": sampler, "features": features})


def _complete_schedule(choice: PluginChoice, *, image_size: int) -> PluginChoice:
    """Fill in the schedule's options, with those that depend on the size of the images."""
    resolved = registry.resolve("schedules", choice.ref)
    assert issubclass(resolved.plugin, Schedule), "checked by the registry"
    options = resolved.plugin.resolve_options(resolved.options, image_size)
    return complete("schedules", choice.ref).model_copy(
        update={"options": replace(resolved, options=options).stored_options()}
    )


def _complete_backbone(model: ModelSection, shape: ImageShape, *, resizable: bool) -> PluginChoice:
    """Fill in the network's options; where the images could be resized, a refusal names the nearest size that fits."""
    choice = model.backbone
    resolved = registry.resolve("backbones", choice.ref)
    assert issubclass(resolved.plugin, Backbone), "checked by the registry"
    try:
        options = resolved.plugin.resolve_options(resolved.options, shape)
    except UsageError as error:
        size = _fitting_size(resolved.plugin, resolved.options, shape) if resizable else None
        if size is None:
            raise
        problem = f"{error}. Or resize the images: `data.dataset.image_size={size}`"
        refused = UsageError(problem)
        refused.hint = Hint(problem, ({"image_size": size},))
        raise refused from error
    found = complete("backbones", choice.ref).model_copy(
        update={"options": replace(resolved, options=options).stored_options()}
    )
    found.create("backbones").check_prediction(model.prediction, sigma_data=model.sigma_data)
    return found


def _fitting_size(backbone: type[Backbone], options: Any, shape: ImageShape) -> int | None:
    """An image size that the network takes: a rounder one close by, else the nearest, from half of it to twice it."""
    size = shape.image_size
    close = max(1, size // 10)

    def rank(other: int) -> tuple[int, int, int]:
        """Sizes within a tenth come first, those that halve most often (up to 3 times) foremost; a tie goes down."""
        distance = abs(other - size)
        halvings = min(3, (other & -other).bit_length() - 1)
        return (-halvings, distance, other) if distance <= close else (1, distance, other)

    for other in sorted(range(max(4, size // 2), 2 * size + 1), key=rank):
        try:
            backbone.resolve_options(options, replace(shape, image_size=other))
        except UsageError:
            continue
        return other
    return None
