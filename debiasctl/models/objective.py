"""Build the training objective from a spec, and load what it had learnt at a checkpoint."""

import logging
from typing import Any

import torch

from debiasctl.api import Weighting
from debiasctl.compute.counter_random import derived_seed
from debiasctl.diffusion.loss import Huber
from debiasctl.diffusion.objective import Objective
from debiasctl.errors import CheckpointError
from debiasctl.models.build import build_parameterization
from debiasctl.models.tensor_files import misfit, read_state
from debiasctl.runs.manifest import STATE_FILE, damage_of, verify
from debiasctl.runs.store import Run
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


def load_learned(run: Run, objective: Objective, *, step: int) -> None:
    """Load what a learned weighting had learnt at a checkpoint; nothing happens if the weighting is not learned.

    Raises:
        CheckpointError: if the checkpoint is damaged, or holds no such state or one that does not fit.
    """
    if objective.learned is None:
        return
    path, module = run.checkpoint_path(step), objective.learned.module
    verify(path, run, only=STATE_FILE)
    try:
        stored: dict[str, Any] = (read_state(path / STATE_FILE).get("weighting") or {}).get("module") or {}
    except (OSError, ValueError) as error:
        raise CheckpointError(damage_of(path, run, f"{STATE_FILE}: {error}")) from error
    problem = misfit(stored, module.state_dict()) if stored else "it holds no state of it"
    if problem is not None:
        raise CheckpointError(
            f"checkpoint {step} of run '{run.name}' does not fit its learned weighting: {problem}. Choose another "
            "`checkpoint`"
        )
    module.load_state_dict(stored)
