"""Analysing runs: `debiasctl.analyze`."""

import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from debiasctl import registry
from debiasctl.analysis.parts import catalogue
from debiasctl.analysis.parts.part import Choices
from debiasctl.comparison.analyses.conduct import Subjects, measure
from debiasctl.comparison.analyses.plan import arms_in, chosen_parts, jobs_of, members_of
from debiasctl.comparison.analyses.printed import analyzed
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.python.machine import computing, location
from debiasctl.python.records import Analyses
from debiasctl.python.runs import Run, check_whole
from debiasctl.python.values import check_kind, check_names
from debiasctl.runs.pins import pin_trained
from debiasctl.runs.selection import matching_runs
from debiasctl.runs.standing import standing_of
from debiasctl.sampling import default_steps, make_request
from debiasctl.wording import kind_of


def analyze(
    *runs: str | Run,
    only: Sequence[str] | None = None,
    validation: bool = False,
    metric: str | None = None,
    counterfactual: Sequence[str] = (),
    reference: str | None = None,
    num: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    trajectories: Sequence[int] | None = None,
    sampler: str = "ddim",
    checkpoint: int | None = None,
    weights: str = "ema",
    device: str = "auto",
) -> Analyses:
    """Measure where the bias of trained models comes from, and return what `debiasctl analyze --json` prints.

    `runs` are runs, names or patterns such as `"digits-*"`. `only` names parts: existence, impact, reasons, colour,
    validation. What was measured is kept in the runs, where the command finds it too, and an interrupted call resumes
    when it is repeated. What a reader must know of a checkpoint is a Python warning. The others are as the command has
    them.

    Raises:
        UsageError: if there is nothing to analyse, or a name is unknown; CheckpointError: if a checkpoint is damaged.
        EvaluationError: if a stored analysis is damaged.
    """
    _check_types(
        runs, only=only, counterfactual=counterfactual, trajectories=trajectories, metric=metric, reference=reference,
        sampler=sampler, weights=weights,
    )  # fmt: skip
    check_kind(validation, bool, name="validation", wanted="True or False")
    check_whole(num=num, seed=seed, steps=steps, checkpoint=checkpoint)
    if num is not None and num < 2:
        raise UsageError(f"`num={num}`: measure on at least 2 images")
    weightings = tuple(dict.fromkeys(_names(counterfactual) or ()))
    for one in weightings:  # before anything is measured
        registry.resolve("weightings", one)
    parts = chosen_parts(catalogue.PARTS, _names(only), validation=validation)
    found = matching_runs([str(run.path) if isinstance(run, Run) else run for run in runs])
    specs = {run: run.spec() for run in found}
    arms = arms_in(found, list(specs.values()), reference=reference)
    usual = default_steps(list(specs.values()))
    steps = usual if steps is None else steps
    choices = Choices(num, seed, None if trajectories is None else tuple(trajectories), weightings, metric)
    asked = None if checkpoint is None else str(checkpoint)
    with ExitStack() as pins, computing(device, kind=EvaluationError, doing="in the analysis") as place:
        requests = {}
        for run, spec in specs.items():
            step = pin_trained(run, asked, pins)
            for text in standing_of(run, spec, step):
                warnings.warn(text, stacklevel=2)
            requests[run] = make_request(
                run, spec, num=num or 2, num_steps=steps, sampler=sampler, seed=seed, checkpoint=str(step),
                weights=weights,
            )  # fmt: skip
        jobs, skipped = jobs_of(parts, members_of(arms, specs))
        analysis = measure(
            parts, jobs, arms, Subjects(requests, location(), place), choices, asked=only is not None,
            options=_words(
                num=num, seed=seed or None, steps=None if steps == usual else steps,
                trajectories=trajectories and ",".join(map(str, trajectories)),
                counterfactual=",".join(weightings) or None, metric=metric, checkpoint=checkpoint,
                sampler=None if sampler == "ddim" else sampler, weights=None if weights == "ema" else weights,
            ),
            skipped=skipped,
        )  # fmt: skip
        return Analyses(analyzed(analysis))


def _check_types(runs: Sequence[Any], *, only: Any, counterfactual: Any, trajectories: Any, **names: Any) -> None:
    """Refuse arguments of another type than is documented, and no runs."""
    wrong = [one for one in runs if not isinstance(one, str | Run)]
    if wrong:
        raise UsageError(f"{kind_of(wrong[0])} names no run. Give names, patterns or runs: analyze('a', 'b')")
    if not runs:
        raise UsageError("name one run or more, for example analyze('a') or analyze('digits-*')")
    check_names(only, name="only")
    check_names(counterfactual, name="counterfactual")
    if only is not None and not _names(only):
        known = dict.fromkeys(part.asked_as or part.name for part in catalogue.PARTS.values())
        raise UsageError(f"`only` names no part. Choose from {', '.join(known)}")
    for name, text in names.items():
        if text is not None:
            check_kind(text, str, name=name, wanted="a name")
    if trajectories is None:
        return
    check_kind(trajectories, Sequence, name="trajectories", wanted="a list of numbers of steps: [2, 10, 50]")
    for one in trajectories:
        check_kind(one, int, name="trajectories", wanted="whole numbers of steps: [2, 10, 50]")
        if isinstance(one, bool) or one < 1:
            raise UsageError(f"`trajectories`: {one} is no number of steps. Give whole numbers from 1")


def _names(names: Sequence[str] | None) -> list[str] | None:
    """A list of names; a single one may be given as it is."""
    return [names] if isinstance(names, str) else None if names is None else list(names)


def _words(**values: object) -> list[str]:
    """The options of the command that measures the same, which records keep."""
    given = {name: value for name, value in values.items() if value is not None}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]
