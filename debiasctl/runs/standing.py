"""What is said of a run's checkpoint where it is used: in training, failed, or never trained."""

from typing import TYPE_CHECKING

from debiasctl.errors import RunError
from debiasctl.runs.store import Run

if TYPE_CHECKING:
    from debiasctl.specs.sections import RunSpec

_LETTERS = 100  # of a reason that is told in full


def standing_of(run: Run, spec: "RunSpec", step: int) -> list[str]:
    """Why a checkpoint is not the end of a training that went well; empty where it is."""
    found = []
    if run.is_training():
        found.append(f"run '{run.name}' is being trained; this is its step {step}")
    else:
        try:
            status = run.status()
        except RunError as error:
            found.append(f"how far run '{run.name}' is cannot be said: {error}")
            status = None
        if status is not None and status.state == "failed":
            found.append(
                f"run '{run.name}' failed at step {status.step}: {_short(status.message)} "
                f"(see debiasctl runs show {run.typed}). Checkpoint {step} is used"
            )
    if step == 0 and spec.imported is None:
        whose = "no training" if spec.training.init_from is None else "no training of its own"
        found.append(f"checkpoint 0 of run '{run.name}' has had {whose}: it is the network before the first step")
    return found


def _short(message: str | None) -> str:
    """The first sentence of a failure's message, without its figures if it is long."""
    sentence = (message or "no reason was stored").partition(". ")[0].rstrip(".")
    return sentence if len(sentence) <= _LETTERS else sentence.partition(" (")[0]
