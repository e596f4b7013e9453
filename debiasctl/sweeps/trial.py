"""A trial of several arms over seeds: a small network, and so few steps that all runs together take half an hour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from debiasctl.api import DataLocation, DatasetInfo
from debiasctl.compute.device import choose_device
from debiasctl.compute.threads import compute_with
from debiasctl.errors import UsageError
from debiasctl.sampling import default_steps
from debiasctl.specs.files import flatten, merge
from debiasctl.specs.latents import trained_info
from debiasctl.specs.resolve import resolve_spec
from debiasctl.specs.sections import RunSpec
from debiasctl.sweeps.forecast import places, sampling_seconds, step_key
from debiasctl.sweeps.plan import IMAGES, Arm, Common, asked_settings, make_arms
from debiasctl.sweeps.prepare import threads_of_run
from debiasctl.sweeps.store import StoredSweep
from debiasctl.sweeps.study import Origin, Study
from debiasctl.training.trial import budget_settings, coarse_steps, is_trial, measured_step, trial_settings

MOST = 1.2 * 1800  # seconds that all runs may take; as steps are coarse, they take less on average
_FEWEST = 500  # steps from which arms can be told apart
_NUMBERS = (1000, 500, 200)  # images drawn from each run: fewer where sampling would take too much of the time
_FOR_SAMPLING = 0.5  # of the time, at most


@dataclass(frozen=True)
class Cost:
    """What a trial takes here: `step` in seconds for the slowest arm, `seconds` for all runs, `at_once` in parallel."""

    runs: int
    at_once: int
    threads: int
    on_cpu: bool
    step: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """A trial as it was chosen, by settings `advised` to all arms; `asked` are those that the first arm has by itself.

    `is_own` says that the data set's recommended network is small already. `cost` is None for a sweep that is stored,
    for which nothing is measured again.
    """

    spec: RunSpec
    num: int
    advised: Mapping[str, Any]
    asked: Mapping[str, Any]
    is_own: bool
    cost: Cost | None


def plan_trial(
    study: Study,
    common: Common,
    location: DataLocation,
    *,
    short: Mapping[str, str],
    origin: Origin,
    before: StoredSweep | None,
    device: str,
    jobs: int | None,
) -> tuple[Study, Common, Trial]:
    """Choose a network, a number of steps and a number of images for all runs of a study, those `before` if there are.

    The study and what its arms have in common are returned with that; settings of the study's own win.

    Raises:
        UsageError: if the study has a budget in images, or several in steps; and the errors of `make_arms`.
    """
    asked = asked_settings(study, common, short)
    given = {flatten(one).get("training.steps") for one in asked}
    with origin.locating("trial"):
        _check_budget(asked, len(given))
    with origin.locating("dataset"):
        chosen = {name: value for name, value in asked[0]["data"].items() if name in ("dataset", "autoencoder")}
        recommended, info = resolve_spec([{"data": chosen}], location)
    kind = "cpu" if choose_device(device).type == "cpu" else "gpu"
    is_own = is_trial(recommended, info)
    advised: dict[str, Any] = {} if is_own else trial_settings(trained_info(recommended, info), kind=kind)
    arms, info = make_arms(study, replace(common, advised=advised), location, short=short, origin=origin)
    num, cost = study.evaluate.num, None
    own_steps = arms[0].spec.training.steps
    if before is not None:
        steps = before.arms[0].run_spec().training.steps if given == {None} else own_steps
        num = num if "num" in study.evaluate.model_fields_set else before.evaluate.num
    else:
        budget = _Budget(study, arms, info, location.cache_dir, device=device, jobs=jobs, kind=kind)
        num = budget.num()
        steps = budget.steps(num) if given == {None} else own_steps
        steps = min(steps, own_steps) if is_own else steps
        cost = budget.cost(steps, num)
    if not is_own or steps != own_steps:
        advised = merge(advised, budget_settings(steps))
    spec = arms[0].spec.model_copy(update={"training": arms[0].spec.training.model_copy(update={"steps": steps})})
    if before is None or "evaluate" in study.model_fields_set:
        study = study.model_copy(update={"evaluate": study.evaluate.model_copy(update={"num": num})})
    return study, replace(common, advised=advised), Trial(spec, num, advised, asked[0], is_own, cost)


def _check_budget(asked: Sequence[Mapping[str, Any]], budgets: int) -> None:
    if any(IMAGES in one for one in asked):
        raise UsageError("`trial` chooses a budget in steps, and others from it. Give `steps` instead of `images`")
    if budgets > 1:
        raise UsageError("`trial` chooses one budget for all arms. Give one value of `steps`, or leave `trial` out")


class _Budget:
    """What the runs of a trial take, measured on a few steps of each network at the threads of a run."""

    def __init__(
        self,
        study: Study,
        arms: Sequence[Arm],
        info: DatasetInfo,
        cache_dir: Path,
        *,
        device: str,
        jobs: int | None,
        kind: str,
    ) -> None:
        num_seeds = len(study.seeds) if study.until_decided is None else study.until_decided.max_seeds
        num_runs = len(arms) * num_seeds
        self._measures = study.evaluate
        self._sampling_steps = study.evaluate.steps or [default_steps([arm.spec for arm in arms])]
        threads = study.threads or threads_of_run(len(arms) * len(study.seeds), device=device, jobs=jobs)
        compute_with(threads)
        measured_with = threads if kind == "cpu" else None
        times: dict[str, float] = {}
        self._arms: list[tuple[RunSpec, float]] = []
        for spec in (arm.spec for arm in arms):
            key = step_key(spec, info)
            if key not in times:
                times[key] = measured_step(
                    spec, info, device=device, kind=kind, cache_dir=cache_dir, threads=measured_with
                )
            self._arms.append((spec, times[key]))
        at_once = min(places(threads, device=device, jobs=jobs), num_runs)
        self._rounds = num_seeds / at_once
        self._about = Cost(num_runs, at_once, threads, kind == "cpu", max(times.values()), 0.0)

    def num(self) -> int:
        """The images to draw from each run: those that are asked for, or so few that their time is within bounds."""
        if "num" in self._measures.model_fields_set:
            return self._measures.num
        return next((num for num in _NUMBERS if self._sampling(num) <= _FOR_SAMPLING * MOST), _NUMBERS[-1])

    def steps(self, num: int) -> int:
        """The number of steps, 1, 2 or 5 times a power of ten, for which the time that sampling leaves is enough."""
        each = self._rounds * sum(step for _, step in self._arms)
        return max(_FEWEST, coarse_steps((MOST - self._sampling(num)) / each))

    def cost(self, steps: int, num: int) -> Cost:
        """What all runs take with so many steps and images."""
        training = self._rounds * steps * sum(step for _, step in self._arms)
        return replace(self._about, seconds=training + self._sampling(num))

    def _sampling(self, num: int) -> float:
        """Seconds of sampling in all."""
        return self._rounds * sum(
            sampling_seconds(step, spec, num=num, steps=self._sampling_steps) for spec, step in self._arms
        )
