"""What `debiasctl sweep` is asked for: by options, by a study file, or by the name of a sweep to resume."""

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.dataset import dataset_named
from debiasctl.cli.options import SETTINGS, parse_steps
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.api import DataLocation
    from debiasctl.sweeps.conduct import Way
    from debiasctl.sweeps.plan import Common
    from debiasctl.sweeps.store import StoredSweep, Sweep
    from debiasctl.sweeps.study import Origin, Study

RESUMED = "allowed beside sweep --resume"


def asked(
    context: typer.Context, what: str | None, spec: Path | None, settings: list[str], max_seeds: int | None
) -> "tuple[Study, Origin, Common]":
    """The study that the command line, or the study file that it names, asks for."""
    from debiasctl.specs.files import read_spec_file
    from debiasctl.sweeps.plan import Common
    from debiasctl.sweeps.study import Origin
    from debiasctl.sweeps.study_file import is_study_file, read_study

    given = dict(options.given(context))
    if what is not None and is_study_file(what):
        beside = ("WHAT", "--seeds", "--name", "--engine", *_how(context))
        refused = [name for name in given if name not in beside]
        if refused:
            raise UsageError(
                f"a study file says what is trained and compared; {', '.join(refused)} cannot stand beside it. Write "
                "it into the file"
            )
        study, origin = read_study(Path(what))
        changes = {key: given[f"--{key}"] for key in ("name", "engine") if f"--{key}" in given}
        if "--seeds" in given:
            changes["seeds"] = _numbered(given["--seeds"])
        with origin.locating("dataset"):
            reference = dataset_named(study.dataset)
        return study.model_copy(update={**changes, "dataset": _reference(reference)}), origin, Common()
    file = None if spec is None else read_spec_file(spec)
    return _from_options(given, what, file, settings, max_seeds), Origin(), Common(file=file, typed=True)


def _from_options(
    given: Mapping[str, Any],
    what: str | None,
    file: Mapping[str, Any] | None,
    settings: list[str],
    max_seeds: int | None,
) -> "Study":
    from pydantic import ValidationError

    from debiasctl.registry.messages import describe_errors
    from debiasctl.sweeps.plan import IMAGES, split_values
    from debiasctl.sweeps.study import Study

    if what is None:
        raise UsageError("name a data set or a study file: debiasctl sweep digits --weighting constant,debiased")
    if "--steps" in given and "--images" in given:
        raise UsageError("--steps and --images are two ways to say one budget. Give one of them")
    values: dict[str, list[Any]] = {}
    for text in settings:
        setting, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text}: write section.field=value, for example optimizer.lr=1e-3,2e-3")
        values[setting.strip()] = split_values(setting.strip(), value)
    for flag, value in given.items():
        setting = IMAGES if flag == "--images" else SETTINGS.get(flag, "")
        if setting == "extensions":  # each time it is given, it says which of several the arms have
            several = [split_values(setting, text) for text in value]
            values[setting] = [[one for one in chosen if one != "none"] for chosen in product(*several)]
        elif setting:
            values[setting] = split_values(setting, value) if isinstance(value, str) else [value]
    measures = {
        "steps": parse_steps(given["--evaluate-steps"], option="--evaluate-steps")
        if "--evaluate-steps" in given
        else None,
        "num": given.get("--num"),
        "sampler": given.get("--sampler"),
        "features": given.get("--features"),
        "metrics": [part.strip() for part in given["--metrics"].split(",") if part.strip()]
        if "--metrics" in given
        else None,
    }
    measures = {key: value for key, value in measures.items() if value is not None}
    dataset = dataset_named(what)
    asked = {
        "name": given.get("--name") or f"{_default_name(dataset)}{'-trial' if '--trial' in given else ''}",
        "dataset": _reference(dataset),
        "settings": {setting: one[0] for setting, one in values.items() if len(one) == 1},
        "grid": {setting: several for setting, several in values.items() if len(several) > 1},
        "seeds": given.get("--seeds"),
        "evaluate": measures or None,
        "until_decided": None if max_seeds is None else {"max_seeds": max_seeds},
        **{key: given.get(f"--{key}") for key in ("primary", "reference", "margin", "engine", "threads", "trial")},
    }
    try:
        return Study.model_validate({key: value for key, value in asked.items() if value is not None})
    except ValidationError as error:
        raise UsageError(describe_errors(error, Study)) from error


def prepared(
    study: "Study", origin: "Origin", common: "Common", location: "DataLocation", way: "Way"
) -> "tuple[Sweep, StoredSweep]":
    """The sweep's folder, which need not exist, and the sweep as it will be stored."""
    from debiasctl import paths
    from debiasctl.sweeps.plan import make_arms
    from debiasctl.sweeps.prepare import check_runs, check_seeds, extended, stored_from
    from debiasctl.sweeps.store import Sweep, named_sweep

    name = study.name
    assert name is not None, "a study file's is given, and that of a data set is made"
    with origin.locating("name"):
        found = named_sweep(name)
    before = None if found is None else found.stored()
    short = {name.removeprefix("--").replace("-", "_"): setting for name, setting in SETTINGS.items()}
    if study.trial:
        from debiasctl.cli.sweep_plan import describe_trial
        from debiasctl.sweeps.trial import plan_trial

        study, common, trial = plan_trial(
            study, common, location, short=short, origin=origin, before=before, device=way.device, jobs=way.jobs
        )
        describe_trial(trial)
    arms, info = make_arms(study, common, location, short=short, origin=origin)
    stored = stored_from(study, arms, info, origin, device=way.device, jobs=way.jobs, before=before)
    place = found or Sweep(paths.sweeps_dir() / name)
    if before is not None:
        stored = extended(place, before, stored)
        check_seeds(place, before, stored)
    check_runs(place, stored)
    return place, stored


def with_more_seeds(found: "Sweep", seeds: int | None, engine: str | None) -> "StoredSweep":
    """A sweep that is resumed, with as many seeds as are asked for at least.

    Raises:
        UsageError: if it is decided at other numbers of seeds.
    """
    from debiasctl import registry
    from debiasctl.sweeps.prepare import check_runs, check_seeds

    stored = found.stored()
    if seeds is not None:
        more = list(dict.fromkeys([*stored.seeds, *_numbered(seeds)]))
        before, stored = stored, stored.model_copy(update={"seeds": more})
        check_seeds(found, before, stored)
    if engine is not None:
        registry.resolve("engines", engine)
        stored = stored.model_copy(update={"engine": engine})
    check_runs(found, stored)
    return stored


def refuse_beside_resume(context: typer.Context) -> None:
    """Refuse what would make the sweep another one."""
    allowed = ("--seeds", "--engine", *_how(context))
    refused = [name for name, _ in options.given(context) if name not in ("--resume", *allowed)]
    if refused:
        raise UsageError(
            f"--resume runs a sweep as it is; it does not take {', '.join(refused)}. Allowed beside it: "
            f"{', '.join(allowed)}"
        )


def _numbered(count: int) -> list[int]:
    from debiasctl.sweeps.study import MOST_SEEDS

    if count > MOST_SEEDS:
        raise UsageError(f"--seeds {count}: a sweep has at most {MOST_SEEDS:,} seeds of each arm. Give fewer")
    return list(range(count))


def _how(context: typer.Context) -> tuple[str, ...]:
    """The options that say how a sweep is run, and not what it is."""
    return tuple(
        one
        for one in (*options.in_group(context, RESUMED), "--device", "--data-dir", "--json")
        if one not in ("--seeds", "--engine")
    )


def _reference(dataset: str | dict[str, Any]) -> str:
    from debiasctl.registry.refs import PluginRef

    return dataset if isinstance(dataset, str) else str(PluginRef(dataset["name"], dataset["options"]))


def _default_name(dataset: str | dict[str, Any]) -> str:
    """A sweep's name after its data set, or after the folder of its images."""
    text = dataset.partition(":")[0] if isinstance(dataset, str) else Path(dataset["options"]["path"]).stem
    return re.sub("[^A-Za-z0-9._-]+", "-", text).strip("-._") or "sweep"
