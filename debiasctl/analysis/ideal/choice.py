"""Which ideal denoiser a run's errors are compared with."""

import torch

from debiasctl.analysis.ideal.closed_form import ClosedForm
from debiasctl.analysis.ideal.posterior import Ideal
from debiasctl.analysis.ideal.training_images import ImageSet, TrainingImages
from debiasctl.analysis.subject import Subject
from debiasctl.api import LoadedDataset


def ideal_of(subject: Subject, *, seed: int) -> Ideal:
    """The best denoiser for a run's network: with its classes if it has them, and mirrored if training mirrored."""
    return ideal_for(
        subject.data,
        mirrored=subject.spec.data.horizontal_flip,
        conditional=subject.is_conditional,
        device=subject.device,
        seed=seed,
    )


def ideal_for(data: LoadedDataset, *, mirrored: bool, conditional: bool, device: torch.device, seed: int) -> Ideal:
    """The closed form where the data set's law is known, and else that of all training images."""
    if data.density is not None:
        return ClosedForm(data.density, mirrored=mirrored, rounded=data.info.value_type == "uint8", device=device)
    known = ImageSet.of(data.train, mirrored=mirrored, conditional=conditional, device=device)
    return TrainingImages(known)
