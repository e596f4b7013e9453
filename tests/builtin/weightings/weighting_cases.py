"""Every weighting and every schedule that the tests of weightings go through."""

from functools import cache
from typing import Any, get_args

import torch

from debiasctl import registry
from debiasctl.api import Prediction, Space, Weighting, WeightingContext
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.weighting import bounded_snr

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SPACES: tuple[Space, ...] = get_args(Space)


def without_options(kind: str) -> list[str]:
    """The built-in plugins of a kind that need no options."""
    return [
        record.name
        for record in registry.records(kind)
        if record.distribution == "debiasctl"
        and not any(field.is_required() for field in registry.load(kind, record.name).Options.model_fields.values())
    ]


class ThirdParty(Weighting):
    """What someone writes who knows nothing of prediction types: SNR^1/4 on v."""

    space = "v"

    def __call__(self, snr: torch.Tensor) -> torch.Tensor:
        return snr**0.25


NAMES = without_options("weightings")
REFS = [
    *NAMES,
    "p2:k=2,gamma=0.5",
    "debiased-clamped:form=v",
    "onetrainer-v:scheme=p2,gamma=0.5",
    "interpolate:p=0",
    "interpolate:p=1",
    "interpolate:p=0.2,p_end=1,until=0.5",
    "sigmoid:measure=t,bias=-1",
    "product:factors=[debiased,min-snr]",
    "product:factors=[sigmoid,edm,'p2:gamma=0.5'],space=v",
    "table:axis=snr,space=x0,points=[[0,0],[1,0.5],[1e20,2]]",
    "table:axis=t,space=v,points=[[999,1],[0,0.1],[400,3]]",
    "uncertainty:base=sigmoid",
    "uncertainty:base='product:factors=[constant-v,\"interpolate:p=0.2,p_end=1\"],space=x0'",
    "third-party",
]
SCHEDULES = [*without_options("schedules"), "linear:zero_terminal_snr=true", "cosine:zero_terminal_snr=true"]


def make(ref: str) -> Any:
    """A weighting as the registry gives it."""
    return ThirdParty(ThirdParty.Options()) if ref == "third-party" else registry.create("weightings", ref)


@cache
def process(schedule: str) -> DiffusionProcess:
    """A schedule's process, with 1000 timesteps where its reference says nothing else."""
    return process_of(registry.create("schedules", schedule))


def settled(ref: str, schedule: str = "linear", progress: float = 0.25) -> Any:
    """A weighting as training asks it."""
    return make(ref).at(WeightingContext(bounded_snr(process(schedule).snr), progress))
