"""Which ideal denoiser a run's errors are compared with."""

import math
from dataclasses import replace

import torch
from torch import Tensor

from debiasctl.analysis.ideal.closed_form import ClosedForm
from debiasctl.analysis.ideal.image_set import image_sets
from debiasctl.analysis.ideal.posterior import Ideal
from debiasctl.analysis.ideal.some_images import SomeImages
from debiasctl.analysis.ideal.training_images import TrainingImages
from debiasctl.analysis.subject import Subject
from debiasctl.api import Level, LoadedDataset, Split
from debiasctl.data.latents import with_mirrored
from debiasctl.data.pixels import to_model_space
from debiasctl.data.spread import spread_over
from debiasctl.errors import UsageError

_CHECKED = 512  # images
_NOISE = 0.05  # sigma, far above what rounding to uint8 does
_FAR = 6.0  # standard errors


def ideal_of(subject: Subject, *, seed: int) -> Ideal:
    """The best denoiser for a run's network: with its classes if it has them, and mirrored if training mirrored.

    `seed` chooses the images of a part, where the set is too large.
    """
    data, mirrored = subject.data, subject.spec.data.horizontal_flip
    if subject.space is not None:  # a mirrored latent is not that of the mirrored image
        data, mirrored = replace(data, train=with_mirrored(data.train)), False
    return ideal_for(
        data,
        mirrored=mirrored,
        conditional=subject.is_conditional,
        device=subject.device,
        seed=seed,
    )


def ideal_for(data: LoadedDataset, *, mirrored: bool, conditional: bool, device: torch.device, seed: int) -> Ideal:
    """The closed form where the data set's law is known, else that of all training images, or of a part of many.

    Raises:
        UsageError: if the images are not of the law that the data set states.
    """
    if data.density is not None:
        is_rounded = data.info.value_type == "uint8"
        _check_law(ClosedForm(data.density, rounded=is_rounded, device=device), data)
        return ClosedForm(data.density, mirrored=mirrored, rounded=is_rounded, device=device)
    return of_images(data.train, mirrored=mirrored, conditional=conditional, device=device, seed=seed)[0]


def of_images(
    split: Split,
    *,
    mirrored: bool,
    conditional: bool,
    device: torch.device,
    seed: int,
    parts: int = 1,
    most_values: int | None = None,
) -> list[TrainingImages] | list[SomeImages]:
    """The denoiser of all images of a split; of too many, of `parts` random parts that have no image in common.

    Too many are more than `most_values` values, 320 million without it.
    """
    known = image_sets(
        split, mirrored=mirrored, conditional=conditional, device=device, seed=seed, parts=parts,
        most_values=most_values,
    )  # fmt: skip
    if known[0].is_whole:
        return [TrainingImages(one) for one in known]
    return [SomeImages(one, split) for one in known]


def _check_law(ideal: ClosedForm, data: LoadedDataset) -> None:
    """Check that images, with some noise, are as likely under the law as draws from it are."""
    level = Level(math.nan, math.sqrt(1 - _NOISE**2), _NOISE)
    indices = spread_over(data.heldout, _CHECKED)
    x0 = to_model_space(data.heldout.images(indices)).to(torch.float64)
    noise = torch.Generator().manual_seed(0)
    found, expected = (
        ideal.log_likelihood(level.alpha * images + level.sigma * _normal(images, noise), level)
        for images in (x0, ideal.draw(len(x0), noise).cpu())
    )
    away = float(found.mean() - expected.mean())
    error = math.sqrt(float(found.var() + expected.var()) / len(x0))
    if not abs(away) <= _FAR * error:
        raise UsageError(
            f"the data set states a density, and its images are not drawn from it: their log-likelihood is "
            f"{away:+.3g} nats beside that of draws, whose difference would be 0 with a standard error of {error:.2g}. "
            "Correct the density, or leave it out, so that the training images themselves are taken"
        )


def _normal(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(images.shape, generator=generator, dtype=torch.float64)
