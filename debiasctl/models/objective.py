"""Build the training objective from a spec."""

import logging

import torch

from debiasctl.api import Weighting
from debiasctl.compute.counter_random import derived_seed
from debiasctl.diffusion.loss import Huber
from debiasctl.diffusion.objective import Objective
from debiasctl.models.build import build_parameterization
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)


def build_objective(spec: RunSpec, *, warn: bool = True) -> Objective:
    """Build the objective of a spec; warn if it almost ignores where sampling starts, or almost all but one timestep.

    Raises:
        UsageError: if `build_parameterization` raises it, or a Huber loss meets a learned weighting.
        DebiasctlError: if the weighting gives invalid weights, or the distribution of t invalid probabilities.
    """
    weighting: Weighting = spec.loss.weighting.create("weightings")
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(spec.training.seed, "weighting"))
        learned = weighting.learned()
    loss = spec.loss
    huber = Huber(loss.huber_c, loss.huber_schedule, loss.metric == "smooth-l1") if loss.metric != "mse" else None
    objective = Objective(
        build_parameterization(spec),
        weighting,
        spec.loss.timesteps.create("timesteps"),
        normalize=spec.loss.normalize,
        variance_weight=spec.loss.variance_weight,
        learned=learned,
        huber=huber,
    )
    for warning in (objective.warning(), objective.concentration()) if warn else ():
        if warning:
            _LOG.warning("%s", warning)
    return objective
