"""Build a network and its parameterization from a spec."""

from contextlib import suppress

import torch
from torch import nn

from debiasctl.compute.counter_random import derived_seed
from debiasctl.compute.memory import total_memory
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import process_of
from debiasctl.errors import PluginError
from debiasctl.models.network_size import WEIGHT_BYTES, counted, sketched
from debiasctl.models.outside_code import trusted_backbone
from debiasctl.specs.recorded import ContentSection
from debiasctl.specs.sections import RunSpec, embedded_classes, image_shape


def build_parameterization(spec: RunSpec) -> Parameterization:
    """Build the process and the prediction type, which are all that sampling needs of an objective.

    Raises:
        UsageError: if the two cannot be combined (eps-prediction at zero terminal SNR).
    """
    return Parameterization(
        spec.model.prediction,
        process_of(spec.diffusion.schedule.create("schedules")),
        sigma_data=spec.model.sigma_data,
        learned_variance=spec.model.learned_variance,
    )


def network_for(spec: RunSpec, content: ContentSection) -> nn.Module:
    """Build the backbone for the data, or their latents, that a run's spec states.

    Raises:
        UsageError: if `build_network` raises it.
    """
    channels, size, _ = content.trained_shape
    return build_network(spec, image_size=size, channels=channels, num_classes=len(content.classes))


def network_without_memory(spec: RunSpec, content: ContentSection) -> nn.Module:
    """The network of `network_for` on torch's meta device.

    Raises:
        UsageError: if `build_network` raises it.
    """
    if trusted_backbone(spec).code_sha256() is not None:  # a user's code runs with the usual default device
        return network_for(spec, content).to("meta")
    with torch.device("meta"):
        return network_for(spec, content)


def build_network(spec: RunSpec, *, image_size: int, channels: int, num_classes: int) -> nn.Module:
    """Build the backbone, with weights drawn from the run's seed.

    Raises:
        UsageError: if the backbone cannot be built for images of this size or with this prediction type, or is of
            absurd size.
        ModelError: if `trusted_backbone` raises it.
    """
    shape = image_shape(spec.model, image_size=image_size, channels=channels)
    backbone = trusted_backbone(spec)
    classes = embedded_classes(spec.model, num_classes)
    backbone.check_prediction(spec.model.prediction, sigma_data=spec.model.sigma_data)
    memory = total_memory(torch.device("cpu"))
    with torch.random.fork_rng():
        # a stored spec may state any size; one that is to be trained was checked as a plan
        if backbone.code_sha256() is None:  # what else it runs is run once
            with suppress(PluginError), sketched(memory, memory=memory, per_parameter=WEIGHT_BYTES):
                backbone.build(shape, classes)
        torch.manual_seed(derived_seed(spec.training.seed, "weights"))
        with counted(memory, memory=memory, per_parameter=WEIGHT_BYTES):  # a plugin's may need real numbers
            network: nn.Module = backbone.build(shape, classes)
    return network
