"""Identification: measure a function or read a table, look for formulas, and put what is found into readings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from debiasctl import registry
from debiasctl.analysis.identify import table
from debiasctl.analysis.identify.candidates import Scheme, schemes
from debiasctl.analysis.identify.flags import flags_of
from debiasctl.analysis.identify.levels import DEFAULTS, FLOW, Levels, levels_of, with_rescaling, without_rescaling
from debiasctl.analysis.identify.observe import Observed, observe
from debiasctl.analysis.identify.points import Points
from debiasctl.analysis.identify.readings import Identification, Reading
from debiasctl.analysis.identify.search import Found, search
from debiasctl.analysis.identify.signature import Parameters, Role, parameters_of
from debiasctl.api import Prediction
from debiasctl.diffusion.parameterization import PREDICTIONS, SPACES
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import did_you_mean, kind_of, quoted

_LISTED = 5  # other names of one function
_SINGLE = 1e-4  # relative rounding of weights that are not of half precision
_NEAREST = 3  # schemes, where none can be named


def identify(
    function: Callable[..., Any] | str | Path,
    prediction: str | None = None,
    *,
    argument: str | None = None,
    schedule: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> Identification:
    """Name the loss weighting that a function computes, by calling it at the noise levels of a schedule.

    The function takes SNRs, timesteps (with or without a diffusers-like scheduler), sigma/alpha, rectified flow's s, or
    a loss of ones to be weighted, as the names of its parameters say, or as `argument` does. `given` are values of its
    other parameters. `prediction` is what the network predicts, of whose squared error this is the weight; without it,
    every reading that agrees is given. In a function's place there may be the path of a CSV (`identify_table`).

    Raises:
        UsageError: if what the function takes cannot be told, or a name is unknown.
        DebiasctlError: if the function fails, or returns no weights.
    """
    if isinstance(function, str) and ".py:" in function:
        path, _, name = function.rpartition(":")
        raise UsageError(
            f"from Python, import {quoted(name)} from {path} and give the function itself; FILE:FUNCTION is for the "
            "command: debiasctl weightings identify"
        )
    if not isinstance(function, str | Path) and not callable(function):
        raise UsageError(f"give a function to identify, or the path of a table; not {kind_of(function)}")
    if isinstance(function, str | Path):
        if argument or given:
            raise UsageError("`argument` and `given` are for a function, and a table is read as its columns' names say")
        return identify_table(str(function), prediction, schedule=schedule)
    unit = check_prediction(prediction)
    parameters = parameters_of(function, argument=argument, given=given or {}, prediction=unit)
    by_name = schedule is None and not parameters.said
    level = "s" if parameters.level == "sigma" and by_name and unit == FLOW else parameters.level
    if level != parameters.level:
        parameters = replace(parameters, roles={k: level if v == "sigma" else v for k, v in parameters.roles.items()})
    is_flows = unit == FLOW and "scheduler" in parameters.roles.values()  # whose scheduler has sigmas
    levels = levels_of(schedule or (FLOW if is_flows else DEFAULTS.get(level, "linear")))
    observed = observe(function, parameters, levels, prediction=unit)
    found = _identified(observed, levels, unit, said_schedule=schedule is not None)
    if level == "timesteps" and not _is_exact(found):
        return _of_flow(function, parameters, unit, schedule, found)
    if level != "sigma" or not by_name or unit not in (None, FLOW):
        return found
    other = replace(parameters, roles={k: "s" if v == "sigma" else v for k, v in parameters.roles.items()})
    levels = levels_of(FLOW)
    flow = _identified(observe(function, other, levels, prediction=unit), levels, unit, said_schedule=False)
    return _either(found, flow)


def _of_flow(
    function: Callable[..., Any],
    parameters: Parameters,
    prediction: Prediction | None,
    schedule: str | None,
    found: Identification,
) -> Identification:
    """What a function of t alone computes, if its t is a flow model's: 1000 s, or between 0 and 1; else `found`.

    As s it counts if it is exact in single precision alone: functions of 1000 s are nearly straight between 0 and 1.
    """
    others = {"scheduler", "alphas_cumprod"} & set(parameters.roles.values())
    if others or schedule not in (None, FLOW):
        return found
    levels = levels_of(FLOW)
    roles: tuple[Role, ...] = ("timesteps", "s")
    for role in roles[schedule is not None : 1 if parameters.said else 2]:
        tried = replace(parameters, roles={k: role if v == "timesteps" else v for k, v in parameters.roles.items()})
        try:
            observed = observe(function, tried, levels, prediction=prediction, tensors_only=True)
        except DebiasctlError:  # it takes whole numbers alone
            continue
        other = _identified(observed, levels, prediction, said_schedule=schedule is not None)
        if _is_exact(other) and (role == "timesteps" or other.readings[0].found.fit.points.tolerance.max() < _SINGLE):
            return other
        if role == "timesteps" and other.is_named and not found.is_named:
            found = other
    return found


def _is_exact(found: Identification) -> bool:
    return bool(found.readings) and found.readings[0].found.grade == 0


def identify_table(path: str, prediction: str | None = None, *, schedule: str | None = None) -> Identification:
    """Name the loss weighting of a CSV with the columns weight and t, snr, log_snr, sigma or s. Nothing is run.

    Raises:
        UsageError: if there is no such table, it holds something else, or a name is unknown.
    """
    unit = check_prediction(prediction)
    observed, levels = table.read(path, schedule)
    return _identified(observed, levels, unit, said_schedule=schedule is not None, is_table=True)


def check_prediction(text: str | None) -> Prediction | None:
    """What the network predicts, by its name, or None.

    Raises:
        UsageError: if nothing has that name.
    """
    for one in PREDICTIONS:
        if one == text:
            return one
    if text is None:
        return None
    raise UsageError(
        f"`prediction`: {quoted(text)} is nothing that a network predicts.{did_you_mean(text, PREDICTIONS)} Choose one "
        f"of {', '.join(PREDICTIONS)}"
    )


def _identified(
    observed: Observed,
    levels: Levels,
    prediction: Prediction | None,
    *,
    said_schedule: bool,
    is_table: bool = False,
) -> Identification:
    notes = (
        [] if prediction else ["Without a prediction type every reading that agrees is given (`prediction=v`, say)."]
    )
    readings: list[Reading] = []
    findings = observed.findings
    if observed.points is not None and not observed.unstable:
        known, left_out = schemes(levels.table / (1 - levels.table))
        notes += [f"note: {one}" for one in left_out]
        found = _found(known, observed, levels, prediction)
        if is_table and not observed.by_timestep:
            found = [replace(one, place="row") for one in found]
        readings = _readings(found, observed, prediction, is_whole=not is_table or observed.by_timestep)
        if readings and not readings[0].is_named:
            findings = (*findings, *_capped(known, observed, levels, prediction))
        readings = [
            replace(
                one, flags=flags_of(one, levels.schedule, said_schedule=said_schedule or levels.schedule != "linear")
            )
            for one in ([] if observed.mixes_losses else readings)
        ] or readings
    return Identification(
        observed.taken, levels.schedule, prediction, tuple(readings), findings, tuple(notes), observed.points,
        by_timestep=observed.by_timestep or not is_table,
    )  # fmt: skip


def _capped(known: Sequence[Scheme], observed: Observed, levels: Levels, prediction: Prediction | None) -> list[str]:
    """A sentence on weights that are a known scheme's up to a greatest value, at which they are held; or none."""
    points = None if observed.points is None else observed.points.above_cap()
    if points is None or observed.points is None:
        return []
    part = replace(observed, points=points)
    named = _readings(_found(known, part, levels, prediction), part, prediction, is_whole=False)
    if not named or named[0].found.grade != 0:
        return []
    snr = float(points.snr.min())
    cap = float(observed.points.weight[np.argmin(observed.points.snr)])
    return [
        f"Where the SNR is {snr:.4g} or more it is {named[0]}: exact, but for rounding. Below, every weight is "
        f"{cap:.6g}: it is clamped."
    ]


def _found(known: Sequence[Scheme], observed: Observed, levels: Levels, prediction: Prediction | None) -> list[Found]:
    """What agrees, found in steps until something is exact.

    First the schemes' own formulas are tried, at the SNRs of the schedule and then of others; then formulas that are
    misused: those for another prediction, or with SNR + 1 in place of SNR.
    """
    assert observed.points is not None
    any_sigma_data = observed.level == "sigma" or prediction == "edm"
    units: list[Prediction] = [prediction] if prediction else [*SPACES]
    if not prediction and any_sigma_data:
        units.append("edm")
    others = [unit for unit in SPACES if prediction and unit not in (prediction, FLOW)]
    found: list[Found] = []
    tables = [(None, observed.points), *_other_tables(observed, levels)]
    for schedule, points in tables:
        is_stated = schedule is None
        found += search(known, points, units, any_sigma_data=any_sigma_data, schedule=schedule, nearest=is_stated)
        if any(one.settles for one in found):
            return sorted(found, key=lambda one: one.order)
    for schedule, points in tables:
        found += search(known, points, others, schedule=schedule, nearest=False)
        if prediction in (None, "v"):
            found += search(known, points, ["eps"], plus_one=True, schedule=schedule, nearest=False)
        if any(one.settles for one in found):
            break
    return sorted(found, key=lambda one: one.order)


def _other_tables(observed: Observed, levels: Levels) -> list[tuple[str, Points]]:
    """The points at the SNRs that other schedules have at the same timesteps: those that a trainer may have used."""
    assert observed.points is not None
    if not observed.by_timestep:
        return []
    before = without_rescaling(levels.schedule)
    names = [before] if before else []
    if observed.own_table:
        names += [with_rescaling(levels.schedule)] if not before else []
        others = sorted({record.name for record in registry.records("schedules")} - {levels.schedule})
        names += [name for one in others for name in (one, with_rescaling(one))]
    found = []
    for name in names:
        try:
            snr = levels_of(name).snr.numpy()
        except UsageError:  # it needs options, or cannot have them
            continue
        places = observed.points.places
        if int(places.max()) < len(snr):
            found.append((name, observed.points.moved_to(np.maximum(snr[places], 1e-20))))
    return found


def _readings(
    found: Sequence[Found], observed: Observed, prediction: Prediction | None, *, is_whole: bool
) -> list[Reading]:
    """The plainest of what agrees best for each thing that the network may predict; or else the nearest schemes."""
    best = min((one.grade for one in found), default=3)
    by_unit: dict[Prediction, list[Reading]] = {}
    for one in found:
        unit = prediction or ("v" if one.fit.form.plus_one else one.fit.form.unit)
        by_unit.setdefault(unit, []).append(Reading(unit, one, _normalized(one, observed, is_whole=is_whole)))
    if best == 3:
        nearest = {
            one.weighting: one for group in by_unit.values() for one in reversed(group if prediction else group[:1])
        }
        return sorted(nearest.values(), key=lambda one: one.found.order)[:_NEAREST]
    named = []
    for group in by_unit.values():
        same = [one for one in group if one.found.grade == best]
        if not same:
            continue
        equal = [_name(one, same[0]) for one in same[1:] if best == 0]
        named.append(replace(same[0], equal=tuple(dict.fromkeys(equal))[:_LISTED]))
    return sorted(named, key=lambda one: one.found.order)


def _name(reading: Reading, first: Reading) -> str:
    """The reading, but for what is done to the formula of the first as well."""
    return ", ".join([reading.weighting, *(one for one in reading.changes if one not in first.changes)])


def _normalized(found: Found, observed: Observed, *, is_whole: bool) -> str | None:
    """What the weights are divided by: their mean over the schedule, or something of the batch; None if by nothing."""
    if observed.normalized_by is not None:
        return f"batch {observed.normalized_by}" if observed.normalized_by != "batch" else "batch numbers"
    mean = float(found.fit.points.weight.mean())
    return "mean" if is_whole and abs(mean - 1) <= 1e-4 and abs(found.fit.scale - 1) > 1e-3 else None


def _either(sigma: Identification, flow: Identification) -> Identification:
    """Of the two meanings of sigma, the one under which the weights are named more plainly; the other is noted."""

    def order(one: Identification) -> tuple[object, ...]:
        return (not one.is_named, one.readings[0].found.order) if one.readings else (True, (9,))

    first, second, said = (sigma, flow, "s") if order(sigma) <= order(flow) else (flow, sigma, "sigma")
    if not second.is_named:
        return first
    return replace(
        first, notes=(*first.notes, f"If its sigma means {_SIGMAS[said]} (`argument={said}`): {second.verdict}")
    )


_SIGMAS = {"s": "rectified flow's s, between 0 and 1,", "sigma": "sigma/alpha"}
