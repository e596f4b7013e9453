"""Drawing images from a run: image i is a function of (seed, i) alone."""

from debiasctl.sampling.drawing import draw
from debiasctl.sampling.networks import Networks
from debiasctl.sampling.request import SampleRequest, class_index, default_steps, labels_of, make_request
from debiasctl.sampling.samples import Samples, sample

__all__ = [
    "Networks",
    "SampleRequest",
    "Samples",
    "class_index",
    "default_steps",
    "draw",
    "labels_of",
    "make_request",
    "sample",
]
