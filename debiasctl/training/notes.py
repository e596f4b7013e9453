"""What is worth knowing of a training before its first step."""

from debiasctl.diffusion.objective import Objective
from debiasctl.models.initial_share import planned_note
from debiasctl.specs.sections import RunSpec

_ALIKE = 0.01  # mean weights that differ from 1 by less change no balance


def plan_notes(spec: RunSpec, objective: Objective) -> list[str]:
    """Notes on a training's plan: the average of its weights, a loss other than squared, the variational bound."""
    found = (
        planned_note(spec.ema, spec.training.steps, batch_size=spec.training.batch_size),
        _metric_note(spec),
        _balance_note(spec, objective),
    )
    return [note for note in found if note is not None]


def _metric_note(spec: RunSpec) -> str | None:
    loss = spec.loss
    if loss.metric == "mse":
        return None
    unit = {"edm": "F", "flow": "u"}.get(spec.model.prediction, spec.model.prediction)
    return (
        f"the loss is not the squared error (`loss.metric={loss.metric}`), so that this is another objective than the "
        f"one that the weighting was published for. The weight multiplies the loss of {unit} and is not converted: "
        "with another `model.prediction` the weighting is yet another objective. Held-out errors remain squared errors"
    )


def _balance_note(spec: RunSpec, objective: Objective) -> str | None:
    """The published codes add the bound to the error with its raw weight, whatever the weight's mean."""
    if not spec.model.learned_variance or spec.loss.normalize == "none" or not spec.loss.variance_weight:
        return None
    mean = objective.mean_weight()
    if abs(mean - 1) < _ALIKE:
        return None
    return (
        "the network also learns how much noise its sampling steps add (`model.learned_variance`), by a second part of "
        f"the loss. As the weighting is scaled to mean 1, that part counts {mean:.3g} times as much as in the "
        "published code. This matters where you compare with published figures; "
        "`loss.normalize=none` restores the published balance, as does "
        f"`loss.variance_weight={spec.loss.variance_weight / mean:.3g}`"
    )
