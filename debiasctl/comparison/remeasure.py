"""The command that measures a run as another was measured."""

import shlex
from collections.abc import Mapping, Sequence

from debiasctl.comparison.evaluations import Evaluation, is_unbounded
from debiasctl.evaluation.record import EvaluationRecord, HeldoutConditions
from debiasctl.runs.store import Run


def measuring_command(run: Run, metric: str, evaluations: Sequence[Evaluation]) -> str:
    """The command that measures `run` by a metric with the options of the first of these evaluations that has it."""
    record = next(one.record for one in evaluations if metric in one.record.metrics)
    measured = record.measured
    common = {"num": measured.num, "seed": measured.seed, "weights": measured.weights}
    if isinstance(measured, HeldoutConditions):
        method, _, variance = measured.sampler.partition(":variance=")
        how = {"terms": measured.steps, "variance": variance} if variance else {"steps": measured.steps}
        return _typed("likelihood", run, {"method": method, **how, "draws": measured.draws, **common})
    assert isinstance(record, EvaluationRecord), "of given images alone there is none in a run"
    sampler = measured.sampler
    if sampler is not None and is_unbounded(run):
        sampler = sampler.replace("clip_x0=true", "clip_x0=false")
    chosen = {
        "steps": measured.steps,
        "sampler": sampler,
        "guide": measured.guide,
        "features": record.features_given or measured.features,
        "metrics": metric,
        **common,
        "reference": record.reference_given,
        "precision": None if measured.precision == "fp32" else measured.precision,
    }
    return _typed("evaluate", run, chosen)


def _typed(command: str, run: Run, options: Mapping[str, object]) -> str:
    """A command line with these options."""
    words = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items() if value is not None]
    return f"debiasctl {command} {run.typed} {' '.join(words)}"
