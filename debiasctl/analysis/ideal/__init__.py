"""Ideal denoisers, E[x0 | x_t]: of a known law, of all training images, or estimated from some of them."""

from debiasctl.analysis.ideal.choice import ideal_for, ideal_of
from debiasctl.analysis.ideal.closed_form import ClosedForm
from debiasctl.analysis.ideal.posterior import Ideal, Posterior
from debiasctl.analysis.ideal.some_images import SomeImages, TooFewNeighboursError
from debiasctl.analysis.ideal.training_images import TrainingImages

__all__ = [
    "ClosedForm",
    "Ideal",
    "Posterior",
    "SomeImages",
    "TooFewNeighboursError",
    "TrainingImages",
    "ideal_for",
    "ideal_of",
]
