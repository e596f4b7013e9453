"""The weights of several schemes over one schedule in every space, for tables, plots and the documentation."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Prediction, Weighting, WeightingContext
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import SPACES, Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.weighting import bounded_snr, weight_in
from debiasctl.errors import UsageError


@dataclass(frozen=True)
class WeightCurves:
    """Weights over a schedule: `snr`, `weights[REF][unit]` and `density`, each float64 [T]; the density has mean 1.

    `density` belongs to the distribution of t under which the expected loss is taken; it is 1 for uniform t.
    """

    snr: Tensor
    weights: dict[str, dict[Prediction, Tensor]]
    density: Tensor

    @property
    def units(self) -> list[Prediction]:
        """The units of the weights: eps, x0, v, flow, and edm if the prediction is edm."""
        return list(next(iter(self.weights.values())))


def schedule_process(reference: str) -> DiffusionProcess:
    """The process of the schedule that a reference names.

    Raises:
        UsageError: if there is no such schedule, or its options are not valid.
    """
    return process_of(registry.create("schedules", reference))


def weight_curves(
    references: Sequence[str],
    *,
    schedule: str,
    prediction: Prediction,
    normalize: Literal["mean", "none"],
    timesteps: str = "uniform",
    sigma_data: float = 0.5,
) -> WeightCurves:
    """Compute the weights at the start of training on the errors of eps, x0, v and flow (and of F, for edm-prediction).

    They describe one loss in several units: w_x0 = w_eps SNR = w_v (SNR + 1) = w_flow (1 + √SNR)². With
    normalize="mean" the weight on the error of `prediction` has mean 1 under `timesteps`, and the other units follow.

    Raises:
        UsageError: if a reference is unknown or given twice, or the prediction is not possible on the schedule.
    """
    doubled = {text for text in references if list(references).count(text) > 1}
    if doubled:
        raise UsageError(f"weighting '{min(doubled)}' is given twice. Give each once")
    process = schedule_process(schedule)
    units: list[Prediction] = [*SPACES]
    if prediction == "edm":
        units.append("edm")
    snr = bounded_snr(process.snr)
    distribution = registry.create("timesteps", timesteps)
    weights: dict[str, dict[Prediction, Tensor]] = {}
    density = torch.ones_like(snr)
    for reference in references:
        weighting: Weighting = registry.create("weightings", reference)
        scale = 1.0
        if normalize == "mean" or timesteps != "uniform":
            parameterization = Parameterization(prediction, process, sigma_data=sigma_data)
            objective = Objective(parameterization, weighting, distribution)
            base = objective.tables().base
            density = base / base.mean()
            if normalize == "mean":
                scale = 1 / objective.mean_weight()
        settled = weighting.at(WeightingContext(snr))
        found = {unit: weight_in(settled, unit, snr=snr, sigma_data=sigma_data) for unit in units}
        weights[reference] = {unit: scale * weight for unit, weight in found.items()}
    return WeightCurves(process.snr, weights, density)
