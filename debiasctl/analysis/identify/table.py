"""Reads weights from a CSV table, whose columns say at which noise levels they are."""

import re
from typing import Any

import numpy as np

from debiasctl.analysis.identify.levels import DEFAULTS, Levels, levels_of
from debiasctl.analysis.identify.observe import Observed, usable
from debiasctl.analysis.identify.points import ROUNDING
from debiasctl.errors import UsageError
from debiasctl.reading.tables import csv_rows
from debiasctl.reading.user_text import user_path
from debiasctl.wording import counted, quoted

AXES = ("snr", "log_snr", "sigma", "s", "t")  # where a table has several, the first of them is taken
_FEWEST = 8
_MOST = 2000  # rows that formulas are compared at
_COARSEST = 5e-3  # relative: weights of one digit are taken to be exact
_NUMBER = re.compile(r"[-+]?(\d*)\.?(\d*)(?:[eE]([-+]?\d+))?")


def read(text: str, schedule: str | None) -> tuple[Observed, Levels]:
    """The weights of a CSV with the columns weight and one of AXES, and the levels of its schedule.

    Raises:
        UsageError: if there is no such table, or it holds something else.
    """
    path = user_path(text, argument="the table")
    try:
        numbered = csv_rows(path, called=str(path), advice="Give a table, weights.csv, or FILE:FUNCTION")
    except ValueError as error:
        raise UsageError(str(error)) from error
    header = [cell.lower().replace("-", "_").replace(" ", "_") for cell in numbered[0][1]] if numbered else []
    axis = next((name for name in AXES if name in header), None)
    if axis is None or "weight" not in header:
        raise UsageError(
            f"{path}: its header is {quoted(','.join(header), limit=80)}. It needs the columns weight and one of "
            f"{', '.join(AXES)}, for example snr,weight"
        )
    twice = next((name for name in (axis, "weight") if header.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: its header names the column {twice} more than once. Leave one in")
    places = header.index(axis), header.index("weight")
    columns = [[row[place] if place < len(row) else "" for _, row in numbered[1:]] for place in places]
    values = [
        np.array([_number(cell, number, path) for cell, (number, _) in zip(column, numbered[1:], strict=True)])
        for column in columns
    ]
    if len(values[0]) < _FEWEST:
        raise UsageError(
            f"{path} has {counted(len(values[0]), 'row')}. At least {_FEWEST} are needed to tell schemes apart"
        )
    levels = levels_of(schedule or DEFAULTS.get(axis, "linear"))
    snr, slack = _snr(axis, values[0], _resolution(columns[0], values[0]), levels, path)
    chosen = np.unique(np.linspace(0, len(snr) - 1, min(len(snr), _MOST)).round().astype(int))
    if len(np.unique(snr)) < _FEWEST:
        raise UsageError(f"{path} has {counted(len(np.unique(snr)), 'different level')}. At least {_FEWEST} are needed")
    places_ = values[0].astype(int) if axis == "t" else np.arange(1, len(snr) + 1)
    rounding = np.maximum(ROUNDING, _resolution(columns[1], values[1]))
    points, findings = usable(
        snr[chosen], values[1][chosen], places_[chosen], place="t" if axis == "t" else "row",
        rounding=rounding[chosen], snr_tolerance=slack[chosen],
    )  # fmt: skip
    findings = [one.replace("It is", "The weight is", 1) for one in findings]
    level = "timesteps" if axis == "t" else axis
    taken = f"column {axis} as {_WORDS[axis]}"
    return Observed(points, tuple(findings), taken, level, own_table=axis == "t"), levels


_WORDS = {
    "snr": "the SNR",
    "log_snr": "log SNR (natural)",
    "sigma": "sigma/alpha, the noise-to-signal ratio",
    "s": "s, the share of noise",
    "t": "timesteps",
}


def _number(cell: str, row: int, path: Any) -> float:
    try:
        return float(cell)
    except ValueError:
        raise UsageError(f"{path}, row {row}: {quoted(cell)} is not a number") from None


def _snr(axis: str, values: Any, resolution: Any, levels: Levels, path: Any) -> tuple[Any, Any]:
    """The SNRs [n] of a column, and their relative errors."""
    if not np.isfinite(values).all():
        raise UsageError(f"{path}: a {axis} is not finite. Leave out its row")
    if axis == "t":
        count = len(levels.table)
        if ((values < 0) | (values != values.round())).any():
            raise UsageError(f"{path}: t must be whole numbers from 0. For levels between 0 and 1 name the column s")
        if values.max() >= count:
            raise UsageError(
                f"{path}: t extends to {values.max():g}, and the schedule {levels.schedule} ends at {count - 1}. Say "
                f"which schedule the table is of, for example `schedule={levels.schedule}:num_timesteps=4000`"
            )
        table = levels.table.numpy()[values.astype(int)]
        snr = table / (1 - table)
        return snr, 1e-4 + 2.4e-7 * (1 + snr)
    if axis == "log_snr":
        if np.abs(values).max() > 46:
            raise UsageError(f"{path}: log_snr must be between -46 and 46. Is the column snr?")
        return np.exp(values), resolution * np.abs(values)
    low = {"snr": 0.0, "sigma": 0.0, "s": 0.0}[axis]
    if values.min() < low or (axis == "s" and values.max() > 1):
        raise UsageError(f"{path}: {axis} must be {'between 0 and 1' if axis == 's' else '0 or above'}")
    with np.errstate(divide="ignore"):
        snr = {"snr": lambda: values, "sigma": lambda: values**-2.0, "s": lambda: ((1 - values) / values) ** 2}[axis]()
    return np.minimum(snr, 1e20), np.minimum(resolution * (1 if axis == "snr" else 4), 0.02)


def _resolution(cells: list[str], values: Any) -> Any:
    """The relative errors [n] that the digits of a column's cells allow: as many as its longest cell has."""
    digits, decimals = 1, 0
    for cell in cells:
        found = _NUMBER.fullmatch(cell)
        if found:
            digits = max(digits, len((found[1] + found[2]).lstrip("0")))
            decimals = max(decimals, len(found[2]) - int(found[3] or 0))
    relative = 0.6 * 10.0 ** (1 - digits)
    with np.errstate(divide="ignore"):
        absolute = 0.6 * 10.0**-decimals / np.abs(values)
    return np.minimum(np.maximum(relative, absolute), _COARSEST)
