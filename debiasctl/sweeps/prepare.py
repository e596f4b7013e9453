"""From a study to a stored sweep: checks of everything before anything starts, and extensions of what is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from debiasctl import registry
from debiasctl.api import DatasetInfo, Engine, num_cores
from debiasctl.errors import UsageError
from debiasctl.evaluation.choices import Choices, check_choices
from debiasctl.evaluation.primary import DEFAULTS
from debiasctl.models.outside_code import trusted_backbone
from debiasctl.runs.status import now
from debiasctl.runs.store import validate_run_name
from debiasctl.specs.resolve import validate_spec
from debiasctl.sweeps.plan import Arm, differences, listed, run_name
from debiasctl.sweeps.store import StoredArm, StoredMeasures, StoredSweep, Sweep, existing
from debiasctl.sweeps.study import Origin, Study
from debiasctl.sweeps.work import check_same
from debiasctl.wording import did_you_mean, quoted

_USUAL_STEPS = 50
_FIXED = {
    "primary": "the primary metric",
    "reference": "the reference",
    "margin": "the margin",
    "looks": "the numbers of seeds at which it is decided",
    "threads": "the threads of a run",
}


def stored_from(
    study: Study,
    arms: Sequence[Arm],
    info: DatasetInfo,
    origin: Origin,
    *,
    device: str,
    jobs: int | None,
    before: StoredSweep | None = None,
) -> StoredSweep:
    """The sweep that a study asks for, once nothing in it can be refused any more.

    What the study leaves open is as in the sweep `before`, if it is to be extended.

    Raises:
        UsageError: if something in it cannot be done; the errors of plugins.
    """
    with origin.locating("engine"):
        engine: Engine = registry.create("engines", study.engine)
        here = engine.runs_here()
    with origin.locating("evaluate", "features" if study.evaluate.metrics is None else "metrics"):
        check_choices(Choices(features=study.evaluate.features, metrics=study.evaluate.metrics), info)
    steps = _check_sampling(study, arms, origin)
    with origin.locating("primary"):
        _check_primary(study, steps, info)
    with origin.locating("reference"):
        _check_reference(study, arms)
    with origin.locating("until_decided"):
        looks = _looks(study)
    names = [arm.name for arm in arms]
    _check_training(arms, info, device=device, here=here)
    asked = StoredSweep(
        schema_version=1,
        created=now(),
        arms=[
            StoredArm(
                name=arm.name,
                settings={choice.setting: choice.value for choice in arm.choices},
                spec=arm.spec.model_dump(mode="json"),
            )
            for arm in arms
        ],
        seeds=list(study.seeds),
        evaluate=StoredMeasures(
            steps=steps,
            num=study.evaluate.num,
            sampler=str(registry.as_ref(study.evaluate.sampler)),
            features=study.evaluate.features,
            metrics=study.evaluate.metrics,
        ),
        primary=study.primary or _default_primary(study, arms, steps, info),
        reference=study.reference or names[0],
        margin=study.margin,
        looks=looks,
        engine=study.engine,
        threads=study.threads
        or threads_of_run(len(arms) * len(study.seeds), device=device if here else "cpu", jobs=jobs),
    )
    if before is None:
        return asked
    left_open = {
        "primary": study.primary is None,
        "reference": study.reference is None,
        "margin": "margin" not in study.model_fields_set,
        "looks": study.until_decided is None,
        "threads": study.threads is None,
        "evaluate": "evaluate" not in study.model_fields_set,
        "engine": "engine" not in study.model_fields_set,
        "seeds": "seeds" not in study.model_fields_set,
    }
    return asked.model_copy(update={name: getattr(before, name) for name, is_open in left_open.items() if is_open})


def extended(sweep: Sweep, stored: StoredSweep, asked: StoredSweep) -> StoredSweep:
    """The stored sweep with the arms, seeds and sampling steps that it is asked for beside those that it has.

    Raises:
        UsageError: if it is asked to be another sweep; the message says in what.
    """
    others: dict[str, list[str]] = {}  # what differs -> the arms that differ in it
    for arm in asked.arms:
        before = next((one for one in stored.arms if one.name == arm.name), None)
        if before is not None and (different := differences(arm.run_spec(), before.run_spec())):
            others.setdefault(listed(different), []).append(arm.name)
    changed = [f"arm{'s' * (len(names) > 1)} {', '.join(names)}: {what}" for what, names in others.items()]
    same = stored.evaluate.model_copy(update={"steps": asked.evaluate.steps})
    if same != asked.evaluate:
        changed.append(f"how runs are measured ({_shown(asked.evaluate)}, there {_shown(stored.evaluate)})")
    for field, what in _FIXED.items():
        new, old = getattr(asked, field), getattr(stored, field)
        if new != old:
            changed.append(f"{what} ({_value(new)}, there {_value(old)})")
    if changed:
        raise UsageError(
            f"sweep '{sweep.name}' is there already, and this asks for another one: {'. '.join(changed)}. Arms, seeds "
            f"and sampling steps can be added. For another sweep, give another `name`; to resume this one: "
            f"debiasctl sweep --resume {sweep.name}"
        )
    known = {arm.name for arm in stored.arms}
    return stored.model_copy(
        update={
            "arms": [*stored.arms, *(arm for arm in asked.arms if arm.name not in known)],
            "seeds": list(dict.fromkeys([*stored.seeds, *asked.seeds])),
            "evaluate": same.model_copy(
                update={"steps": list(dict.fromkeys([*stored.evaluate.steps, *asked.evaluate.steps]))}
            ),
            "engine": asked.engine,
        }
    )


def check_seeds(sweep: Sweep, before: StoredSweep, stored: StoredSweep) -> None:
    """Check that seeds are not added beyond the numbers at which a sweep is decided.

    Raises:
        UsageError: if the sweep would have a number of seeds that was not declared.
    """
    if stored.looks is None or len(stored.seeds) in (len(before.seeds), *stored.looks):
        return
    raise UsageError(
        f"sweep '{sweep.name}' is decided at {', '.join(map(str, stored.looks))} seeds, as was declared; at "
        f"{len(stored.seeds)} seeds no verdict would keep the error rate. It adds seeds by itself: leave `seeds` out. "
        "For more seeds, give another `name`: the new sweep needs runs of its own"
    )


def check_runs(sweep: Sweep, stored: StoredSweep) -> None:
    """Check the names of a sweep's runs, that those that are in the store are its own, and that their code may run.

    Raises:
        UsageError: if a name is too long, or a run has other settings.
        ModelError: if a network is code that nobody has named here.
    """
    seeds = [*stored.seeds, *(stored.looks or [])]  # those that may be added have no longer names
    longest = run_name(sweep.name, max((arm.name for arm in stored.arms), key=len), max(seeds))
    validate_run_name(longest)
    specs = {arm.name: arm.run_spec() for arm in stored.arms}
    for spec in specs.values():
        trusted_backbone(spec)
    for arm, _, run in sweep.runs(stored):
        if existing([run]):
            check_same(run, specs[arm.name])


def _check_sampling(study: Study, arms: Sequence[Arm], origin: Origin) -> list[int]:
    """The sampling steps, which every arm's schedule has to allow."""
    from debiasctl.models.build import build_parameterization
    from debiasctl.registry.refs import parse_ref
    from debiasctl.sampling import default_steps
    from debiasctl.sampling.request import check_steps
    from debiasctl.specs.latents import are_bounded, complete_sampler

    with origin.locating("evaluate", "sampler"):
        ref = parse_ref(study.evaluate.sampler)
        samplers = [complete_sampler(ref, bounded=are_bounded(arm.spec)) for arm in arms]
    steps = study.evaluate.steps or [default_steps([arm.spec for arm in arms])]
    for arm, sampler in zip(arms, samplers, strict=True):
        process = build_parameterization(arm.spec).process
        for count in steps:
            try:
                check_steps(sampler, process, count)
            except UsageError as error:
                problem = UsageError(f"arm '{arm.name}': {error}")
                raise origin.located(problem, ("evaluate", "steps")) from error
    return steps


def _check_reference(study: Study, arms: Sequence[Arm]) -> None:
    names = [arm.name for arm in arms]
    if study.reference is not None and study.reference not in names:
        raise UsageError(
            f"`reference`: {quoted(study.reference)} is no arm.{did_you_mean(study.reference, names)} The arms are: "
            f"{', '.join(names)}"
        )


def _check_primary(study: Study, steps: Sequence[int], info: DatasetInfo) -> None:
    if study.primary is None:
        return
    metric, at, count = study.primary.partition("@")
    counts = ", ".join(map(str, steps))
    try:
        check_choices(Choices(features=study.evaluate.features, metrics=[metric]), info)
    except UsageError as error:
        raise UsageError(f"`primary={study.primary}`: {error}") from error
    if study.evaluate.metrics is not None and metric not in study.evaluate.metrics:
        raise UsageError(f"`primary={study.primary}`: it is not among the metrics that are measured")
    if at and count not in map(str, steps):
        raise UsageError(
            f"`primary={study.primary}`: the runs are sampled in {counts} steps. Name one of these, for example "
            f"{metric}@{steps[-1]}"
        )


def _default_primary(study: Study, arms: Sequence[Arm], steps: Sequence[int], info: DatasetInfo) -> str | None:
    """The metric that decides where none was named, so that it is declared before anything is measured.

    None where it is not known yet in which features the images can be measured.
    """
    if study.evaluate.features is not None:
        metric = f"fd_{registry.as_ref(study.evaluate.features).name}"
    elif (dataset := arms[0].spec.data.dataset.name) in DEFAULTS:
        metric = DEFAULTS[dataset]
    else:
        return None
    if study.evaluate.metrics is not None and metric not in study.evaluate.metrics:
        return None
    try:
        check_choices(Choices(features=study.evaluate.features, metrics=[metric]), info)
    except UsageError:
        return None
    return f"{metric}@{min(steps, key=lambda count: abs(count - _USUAL_STEPS))}"


def _check_training(arms: Sequence[Arm], info: DatasetInfo, *, device: str, here: bool) -> None:
    """Check that every arm can be trained: its objective, and where jobs run `here`, its precision and its memory."""
    from debiasctl.compute.device import check_environment, check_precision, choose_device
    from debiasctl.compute.device_names import check_device_name
    from debiasctl.models.objective import build_objective
    from debiasctl.training.feasibility import TRAINED, check_feasible

    check_device_name(device)
    chosen = choose_device(device) if here or device == "cpu" else None
    check_environment()
    checked: list[Mapping[str, Any]] = []
    for arm in arms:
        try:
            build_objective(arm.spec, warn=False)
            if chosen is None:  # known to the machines of the jobs alone
                continue
            check_precision(arm.spec.compute, chosen)
            network = arm.spec.model_dump(include={"model", "training", "compute"})
            if here and network not in checked:
                check_feasible(arm.spec, info, device=chosen, times=TRAINED[chosen.type])
                checked.append(network)
        except UsageError as error:
            raise UsageError(f"arm '{arm.name}': {error}") from error


def _looks(study: Study) -> list[int] | None:
    """The numbers of seeds at which the verdict is looked at; two are the fewest that tell anything."""
    if study.until_decided is None:
        return None
    first = max(2, len(study.seeds))
    if study.until_decided.max_seeds < first:
        raise UsageError(
            f"`max_seeds={study.until_decided.max_seeds}` is less than the {first} seeds that the sweep begins with. "
            "Give more"
        )
    return list(range(first, study.until_decided.max_seeds + 1))


def threads_of_run(num_runs: int, *, device: str, jobs: int | None) -> int:
    """Threads of a run: the cores shared by as many runs at once as there may be."""
    import torch

    from debiasctl.compute.device import choose_device

    cores, chosen = num_cores(), choose_device(device)
    if chosen.type == "cuda":
        gpus = 1 if chosen.index is not None else torch.cuda.device_count()
        return max(1, cores // min(jobs or gpus, num_runs))
    return max(1, cores // (jobs or min(cores, num_runs)))


def _shown(measures: StoredMeasures) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in measures.model_dump(exclude={"steps"}).items())


def _value(value: object) -> str:
    return "not set" if value is None else str(value)


def reseeded(arm: StoredArm, seed: int) -> Any:
    """The spec of an arm's run with a seed."""
    spec = validate_spec(arm.spec)
    return spec.model_copy(update={"training": spec.training.model_copy(update={"seed": seed})})
