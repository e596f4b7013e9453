"""What `debiasctl train` says before its first step: how long it will take here, and the trial that it could be."""

import math
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

import typer

from debiasctl.cli.launch import rank
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import FLAGS
from debiasctl.cli.output import note
from debiasctl.cli.repeat import given_words
from debiasctl.errors import ModelError, PluginError, UsageError
from debiasctl.reading.launched import launched

if TYPE_CHECKING:
    from debiasctl.api import DataLocation, DatasetInfo
    from debiasctl.compute.others import Others
    from debiasctl.specs.sections import RunSpec

_FEW_IMAGES = 20_000  # a training of fewer takes minutes, whatever the network
_LONG = {"cpu": 5e13, "gpu": 5e17}  # operations of a training whose time is worth measuring
_TRIAL_FROM = 2 * 3600  # seconds of a training from which a trial is mentioned
_CHOSEN = ("training.steps", "model.backbone")  # settings that make a trial short and small, so it chooses them
_NOT_IN_TRIAL = {"--steps", "--images", "--backbone", "--set", "--init-from", "--max-hours"}
_NOT_IN_TRIAL |= {"--processes", "--dry-run", "--json"}
_PATIENCE = 0.1  # seconds for finding other trainings, in a store of very many runs
_FEW_CORES = 0.75  # kept busy by others: a browser, or this command's own children
_TRIALS = {"train": "ten minutes shows whether", "sweep": "half an hour for all runs shows how well"}


def forecast(spec: "RunSpec", info: "DatasetInfo", *, device: str, context: typer.Context) -> bool:
    """Say how long a training will take, measured on a few steps, where that may be long; one process does.

    `context` is of the command, whose options the trial that it names is given too. Returns whether it was measured on
    a busy machine, which is said too.
    """
    if launched()[1] > 1 or spec.training.steps * spec.training.batch_size < _FEW_IMAGES:
        return False
    from debiasctl.training.speed import UnmeasuredError, seconds_per_step, total_flops

    if spec.compute.sharding != "none":
        return False
    with suppress(PluginError, ModelError):  # a network that needs real numbers is measured; training reports the rest
        if total_flops(spec, info) < _LONG[_kind(device)]:
            return False
    note("measuring how long a step takes here")
    try:
        each = seconds_per_step(spec, info, device=device)
    except UnmeasuredError as error:
        note(with_options(str(error)))
        name_trial(context, "train", seconds=math.inf)
        return False
    note(_told(each, spec.training.steps))
    is_busy = note_busy(_kind(device))
    name_trial(context, "train", seconds=each * spec.training.steps)
    return is_busy


def name_trial(context: typer.Context, command: Literal["train", "sweep"], *, seconds: float) -> None:
    """Name the trial of a command that would take so long, where that is long."""
    if seconds > _TRIAL_FROM and (trial := _trial_command(context, command)) is not None:
        note(f"a trial of about {_TRIALS[command]} a small network learns from the data: {shlex.join(trial)}")


def _trial_command(context: typer.Context, command: str) -> list[str] | None:
    """The command with --trial, but for what a trial chooses; None where a file of settings chooses that."""
    from debiasctl.specs.files import flatten, read_spec_file

    file = context.params.get("spec")
    if file is not None and any(name.startswith(_CHOSEN) for name in flatten(read_spec_file(file))):
        return None
    words = given_words(context, without=_NOT_IN_TRIAL | ({"--name"} if command == "sweep" else set()))
    for setting in context.params.get("set_") or []:
        words += [] if setting.startswith(_CHOSEN) else ["--set", setting]
    return ["debiasctl", command, *words, "--trial"]


def resolve_trial(
    layers: Sequence[Mapping[str, Any]],
    location: "DataLocation",
    *,
    file: Mapping[str, Any] | None,
    device: str,
) -> "tuple[RunSpec, DatasetInfo]":
    """Resolve a trial's spec, say what it is, and how the same settings are given by themselves.

    Raises:
        UsageError: if several processes train; SpecError: if the settings are not valid.
    """
    if launched()[1] > 1:
        raise UsageError("--trial measures this machine with one process. Leave --trial out, and give its settings")
    from debiasctl import paths
    from debiasctl.models.outside_code import trust_named
    from debiasctl.specs.files import merge
    from debiasctl.specs.latents import trained_info
    from debiasctl.specs.resolve import resolve_spec
    from debiasctl.training.trial import budget_settings, is_trial, trial_settings, trial_steps

    asked: dict[str, Any] = dict(file or {})
    for layer in layers:
        asked = merge(asked, layer)
    data = {name: value for name, value in (asked.get("data") or {}).items() if name in ("dataset", "autoencoder")}
    recommended, info = resolve_spec([{"data": data}] if data.get("dataset") else [], location)
    kind = _kind(device)
    trained = trained_info(recommended, info)
    advice: dict[str, Any] = {} if is_trial(recommended, info) else trial_settings(trained, kind=kind)
    spec, info = resolve_spec(layers, location, file=file, advised=advice)
    trust_named(spec, layers, file)
    steps, seconds = trial_steps(spec, info, device=device, kind=kind, cache_dir=paths.cache_dir())
    if advice:
        chosen = "steps" not in (asked.get("training") or {})
        advice = merge(advice, budget_settings(steps if chosen else spec.training.steps))
        spec, info = resolve_spec(layers, location, file=file, advised=advice)
    if rank() == 0:
        _describe(spec, seconds=seconds, own=not advice, asked=asked, advice=advice)
        note_busy(kind)
    return spec, info


def note_company(others: "Others", *, device: str) -> None:
    """Say, before a training on a CPU, that other trainings or other work keep this machine busy."""
    from debiasctl.api import num_cores
    from debiasctl.runs.lock import trained_here

    if launched()[1] > 1 or _kind(device) != "cpu":
        return
    cores, busy = num_cores(), others.num_cores()
    if names := trained_here(patience=_PATIENCE):
        runs = f"run '{names[0]}' is" if len(names) == 1 else f"{len(names)} runs, '{names[0]}' among them, are"
        note(
            f"note: {runs} being trained on this machine too. Trainings that share cores slow one another down by far "
            "more than their number: train one after another, or by debiasctl sweep, which shares the cores out"
        )
    elif busy > max(_FEW_CORES, cores / 4):
        note(f"note: other work keeps {busy:.1f} of {cores} cores busy, so training takes longer than it would alone")


def note_busy(kind: str) -> bool:
    """Say that other work runs on this machine, where it does; returns whether it does."""
    from debiasctl.training.speed import busy_note

    if (text := busy_note(kind)) is not None:
        note(f"note: {text}")
    return text is not None


def _kind(device: str) -> str:
    """The kind of device: cpu or gpu."""
    from debiasctl.compute.device import choose_device

    return "cpu" if choose_device(device).type == "cpu" else "gpu"


def _describe(
    spec: "RunSpec", *, seconds: float, own: bool, asked: Mapping[str, Any], advice: Mapping[str, Any]
) -> None:
    what = "the data set's recommended settings, which are small" if own else "a small network and a short budget"
    note(
        f"trial: {what}: {spec.model.backbone.name}, {spec.training.steps} steps of {spec.training.batch_size} images. "
        "Its samples show what is learnt, and are not the best that the data allow"
    )
    note(_told(seconds, spec.training.steps))
    if advice:
        note_elsewhere(advice, asked)


def note_elsewhere(advice: Mapping[str, Any], asked: Mapping[str, Any], more: Sequence[str] = ()) -> None:
    """Say by which options a trial's settings, and what `more` it chose, are given by themselves."""
    note(f"the same settings elsewhere: {shlex.join([*_flags(advice, asked), *more])}")


def _flags(advice: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The options that give the trial's settings, but for those that the user gave."""
    from debiasctl.specs.files import flatten

    given = flatten(asked)
    options: list[str] = []
    for name, value in flatten(advice).items():
        if any(one == name or one.startswith(f"{name}.") for one in given):
            continue
        text = str(value).lower() if isinstance(value, bool) else str(value)
        options += [FLAGS[name], text] if name in FLAGS else ["--set", f"{name}={text}"]
    return options


def _told(seconds: float, steps: int) -> str:
    whole = seconds * steps
    return f"{steps:,} steps take about {rough(whole)} here ({seconds:.2g} s a step, measured), until {end_of(whole)}"


def end_of(seconds: float) -> str:
    """When what takes so long will end, if it begins now."""
    end = datetime.now().astimezone() + timedelta(seconds=min(seconds, 1e9))
    return f"{end:%H:%M}" if seconds < 12 * 3600 else f"{end:%d %B %Y, %H:%M}"


def rough(seconds: float) -> str:
    """A time in its largest sensible unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(2, round(seconds))} seconds"
