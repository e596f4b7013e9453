"""A weighting read from a file."""

import math
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import DebiasctlError, PluginOptions, Space, UsageError, Weighting, WeightingContext
from debiasctl.api.files import csv_rows, expanded, quoted
from debiasctl.builtin.weightings._curves import at_snr
from debiasctl.diffusion import SNR_MAX, SNR_MIN, bounded_snr

MAX_ROWS = 100_000
SLACK = 1e-3  # in log SNR, so that a table written with four digits still covers its schedule


def headers(column: str) -> str:
    """The headers that a table's file may have, as messages name them."""
    return f"'snr,{column}' or 't,{column}'"


def read_table(path: Path, *, column: str) -> tuple[str, list[tuple[float, float]]]:
    """Read the axis, `snr` or `t`, and the rows of a CSV file with the header `snr,COLUMN` or `t,COLUMN`.

    Raises:
        ValueError: if it cannot be read, has another header, or a row that is not two finite numbers.
    """
    lines = csv_rows(expanded(path), called=f"table {path}", advice=f"Give a CSV with the header {headers(column)}")
    header = ",".join(lines[0][1]) if lines else ""
    if header not in (f"snr,{column}", f"t,{column}"):
        raise ValueError(f"table {path}: its header is {quoted(header, limit=60)}. It must be {headers(column)}")
    points = []
    for number, row in lines[1:]:
        try:
            x, value = map(float, row)
            if not (math.isfinite(x) and math.isfinite(value)):
                raise ValueError("not finite")
        except ValueError as error:
            shown = quoted(",".join(row), limit=60)
            raise ValueError(f"table {path}, row {number}: {shown} is not two finite numbers") from error
        points.append((x, value))
    return header.partition(",")[0], points


def check_points(axis: str, points: tuple[tuple[float, float], ...], *, column: str, where: str) -> None:
    """Check a table's rows (x, value); `where` is for messages.

    Raises:
        ValueError: if there are fewer than 2 rows or too many, an x or value is negative, a t is not a whole number,
            or an x is given twice.
    """
    if len(points) < 2:
        raise ValueError(f"{where} has {len(points)} row{'s' * (len(points) != 1)}. It needs at least 2")
    if len(points) > MAX_ROWS:
        raise ValueError(f"{where} has {len(points):,} rows. At most {MAX_ROWS:,} are allowed: a spec stores them all")
    seen = set()
    for x, value in points:
        if x < 0 or (axis == "t" and x != int(x)):
            wanted = "t must be a whole number, 0 or above" if axis == "t" else "snr must be 0 or above"
            raise ValueError(f"{where} has a row for {axis} {x:g}; {wanted}")
        if value < 0:
            raise ValueError(
                f"{where} has {column} {value:g} at {axis} {x:g}; {column}s must be finite and not negative"
            )
        place = x if axis == "t" else min(max(x, SNR_MIN), SNR_MAX)
        if place in seen:
            raise ValueError(f"{where} has two rows for {axis} {x:g}. Give each {axis} once")
        seen.add(place)


class TableOptions(PluginOptions):
    """The options of every table: its file, or its rows."""

    column: ClassVar[str]  # the name of the values in the file's header

    path: Path | None = Field(description="the CSV file, with a header of snr or t, a comma, and the values' name")
    axis: Literal["snr", "t"] | None = Field(None, description="the rows' variable (default: as the header says)")
    points: tuple[tuple[float, float], ...] | None = Field(
        None, description="the rows; with them the file is not read (default: the file's)"
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        path, axis = data.get("path"), data.get("axis")
        if data.get("points") is not None:
            return {"path": None, **data}
        if not isinstance(path, str | Path):
            return data
        found, points = read_table(Path(path), column=cls.column)
        if axis not in (None, found):
            raise ValueError(f"table {path} has the axis {found} in its header, not {axis}. Leave axis out")
        return {**data, "axis": found, "points": points}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.points is None:
            raise ValueError(f"give path, a CSV file with the header {headers(self.column)}")
        if self.axis is None:
            raise ValueError("points need axis: snr or t")
        where = f"table {self.path}" if self.path else "table of points"
        check_points(self.axis, self.points, column=self.column, where=where)
        return self


def on_schedule(options: TableOptions, snr: Tensor, *, what: str) -> tuple[Tensor, Tensor]:
    """The SNRs and values, float64 [K] each, between which a table is interpolated on the schedule of `snr` [T].

    `what` names the table in messages.

    Raises:
        UsageError: if the table does not cover the schedule.
    """
    assert options.points is not None  # checked by the options' validator
    x, values = torch.tensor(sorted(options.points), dtype=torch.float64).unbind(dim=1)
    where = what + (f" of {options.path}" if options.path else "")
    if options.axis == "snr":
        asked, rows = bounded_snr(snr), bounded_snr(x)
        low, high, slack = asked.min(), asked.max(), math.exp(SLACK)
    else:
        low, high, slack, rows = torch.tensor(0), torch.tensor(len(snr) - 1), 1.0, x
        if high < x[-1]:
            raise UsageError(
                f"{where} extends to t = {x[-1]:g}, but the schedule ends at t = {high:g}: it was made for another "
                "schedule. Choose that schedule, or give the table by SNR"
            )
    if low * slack < rows[0] or high > rows[-1] * slack:
        name, hint = ("SNR", " (snr 0 is allowed)") if options.axis == "snr" else ("t", "")
        raise UsageError(
            f"{where} covers {name} {x[0]:.4g} to {x[-1]:.4g}, but the schedule has {name} {low:.4g} to {high:.4g}. "
            f"Add rows for the rest{hint}, or choose another schedule"
        )
    if options.axis == "snr":
        return x, values
    # rows are at whole timesteps, between which the process is linear in log SNR, and so is the table
    return snr, torch.from_numpy(np.interp(np.arange(len(snr)), x.numpy(), values.numpy()))


class Table(Weighting):
    """Weights from a CSV file with the header `snr,weight` or `t,weight`, with rows in any order.

    Between rows the weight is linear in log SNR (snr 0 stands for 1e-20, the lowest SNR that a weighting gets) or in t.
    The file is read when the option is given, and the run's spec stores its rows, so that the file is not needed again.
    """

    class Options(TableOptions):
        """The options of the table."""

        column = "weight"

        path: Path | None = Field(description="the CSV file, with the header snr,weight or t,weight")
        space: Space = Field(
            "eps", description="the quantity whose squared error the weights are for: eps, x0, v, flow"
        )

    options: Options

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._curve: tuple[Tensor, Tensor] | None = None  # SNRs and weights, each float64 [K]

    @property
    def space(self) -> Space:
        """The space given in the options."""
        return self.options.space

    def at(self, context: WeightingContext) -> "Table":
        """Return the table for a schedule; up to half a step beyond the schedule's ends, the end values are used.

        Raises:
            UsageError: if the table does not cover the schedule.
        """
        settled = Table(self.options)
        settled._curve = on_schedule(self.options, context.snr, what="weighting table")
        return settled

    def __call__(self, snr: Tensor) -> Tensor:
        """Return w_space by interpolation.

        Raises:
            UsageError: if no schedule is known and an SNR lies beyond the table.
            DebiasctlError: if no schedule is known and the table is given by t.
        """
        if self._curve is None:
            if self.options.axis == "t":
                raise DebiasctlError(
                    "weighting table is given by t, and so depends on the schedule. Call at(context) first to set it"
                )
            return self.at(WeightingContext(snr))(snr)
        levels, weights = self._curve
        return at_snr(snr, levels=levels, values=weights)
