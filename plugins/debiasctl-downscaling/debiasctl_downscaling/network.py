"""A run's network, checked for what conditional sampling needs of it."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

import debiasctl
from debiasctl.api import Denoiser, Sampler, UsageError
from debiasctl.diffusion import SamplerOptions
from debiasctl_downscaling.operators import Operator


@dataclass(frozen=True)
class Network:
    """A run's denoiser, and the shape (C, H, W) of its images."""

    denoiser: Denoiser
    shape: tuple[int, int, int]
    device: torch.device


def network_of(name: str, *, device: torch.device, weights: str = "ema", checkpoint: int | None = None) -> Network:
    """Load a run's network.

    Raises:
        UsageError: if there is no such run, or it makes latents, or needs a class.
    """
    run = debiasctl.run(name)
    spec = run.spec
    if spec.data.autoencoder is not None:
        raise UsageError(
            f"run '{run.name}' makes latents, on which no downsampling of images is linear. Use a run on images"
        )
    if spec.content is None:
        raise UsageError(f"run '{run.name}' has not begun training, so that the size of its images is not known")
    denoiser = run.denoiser(weights=weights, checkpoint=checkpoint, device=str(device))
    if spec.model.conditional and denoiser.null_label is None:
        raise UsageError(
            f"run '{run.name}' needs a class for each image, and a low-resolution image has none. Use a run trained "
            "with `model.conditional=false`, or with label dropout"
        )
    size = spec.content.image_size
    return Network(denoiser, (spec.content.channels, size, size), device)


def sampler_of(reference: str) -> tuple[Sampler, bool]:
    """A sampler that does not clip, and whether the network's estimates are to be clipped in its place.

    Clipping after the projection would break C x = y, so it is done before, where the sampler would do it.

    Raises:
        UsageError: if there is no such sampler, or it has guidance, or thresholding, which breaks C x = y.
    """
    made = debiasctl.sampler(reference)
    options = made.options
    if not isinstance(options, SamplerOptions):
        return made, False
    if options.guidance != 1:
        raise UsageError(f"sampler {reference}: leave guidance out. The low-resolution images are the condition here")
    if options.threshold is not None:
        raise UsageError(f"sampler {reference}: leave threshold out. It would change what low-resolution images say")
    return type(made)(options.model_copy(update={"clip_x0": False})), options.clip_x0


def bicubic(low: Tensor, operator: Operator, shape: tuple[int, int, int]) -> Tensor:
    """Low-resolution images [N, C, h, w], enlarged to [N, C, H, W] by bicubic interpolation.

    Raises:
        UsageError: if the operator's low-resolution images are none.
    """
    if len(operator.low_shape(shape)) != 3:
        raise UsageError(f"operator {operator.name} makes no images, so that there is nothing to enlarge")
    return functional.interpolate(low.float(), size=shape[1:], mode="bicubic", align_corners=False)


def device_of(name: str) -> torch.device:
    """The device that `auto`, `cpu`, `cuda` or `cuda:N` names.

    Raises:
        UsageError: if there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"`device={name}`: there is no such device here. Give auto, cpu, cuda or cuda:N") from error
    return device
