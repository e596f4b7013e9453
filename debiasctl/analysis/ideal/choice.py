"""Which ideal denoiser a run's errors are compared with."""

import torch

from debiasctl.analysis.ideal.closed_form import ClosedForm
from debiasctl.analysis.ideal.image_set import image_sets
from debiasctl.analysis.ideal.posterior import Ideal
from debiasctl.analysis.ideal.some_images import SomeImages
from debiasctl.analysis.ideal.training_images import TrainingImages
from debiasctl.analysis.subject import Subject
from debiasctl.api import LoadedDataset, Split


def ideal_of(subject: Subject, *, seed: int) -> Ideal:
    """The best denoiser for a run's network: with its classes if it has them, and mirrored if training mirrored.

    `seed` chooses the images of a part, where the set is too large.
    """
    return ideal_for(
        subject.data,
        mirrored=subject.spec.data.horizontal_flip,
        conditional=subject.is_conditional,
        device=subject.device,
        seed=seed,
    )


def ideal_for(data: LoadedDataset, *, mirrored: bool, conditional: bool, device: torch.device, seed: int) -> Ideal:
    """The closed form where the data set's law is known, else that of all training images, or of a part of many."""
    if data.density is not None:
        return ClosedForm(data.density, mirrored=mirrored, rounded=data.info.value_type == "uint8", device=device)
    return of_images(data.train, mirrored=mirrored, conditional=conditional, device=device, seed=seed)[0]


def of_images(
    split: Split, *, mirrored: bool, conditional: bool, device: torch.device, seed: int, parts: int = 1
) -> list[TrainingImages] | list[SomeImages]:
    """The denoiser of all images of a split; of too many, of `parts` random parts that have no image in common."""
    known = image_sets(split, mirrored=mirrored, conditional=conditional, device=device, seed=seed, parts=parts)
    if known[0].is_whole:
        return [TrainingImages(one) for one in known]
    return [SomeImages(one, split) for one in known]
