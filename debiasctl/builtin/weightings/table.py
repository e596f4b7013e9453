"""A weighting read from a file."""

import csv
import io
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from debiasctl.api import DebiasctlError, PluginOptions, Space, UsageError, Weighting, WeightingContext
from debiasctl.api.files import expanded, one_line, read_text
from debiasctl.builtin.weightings._curves import at_snr
from debiasctl.diffusion import SNR_MAX, SNR_MIN, bounded_snr

HEADERS = "'snr,weight' or 't,weight'"
MAX_ROWS = 100_000
SLACK = 1e-3  # in log SNR, so that a table written with four digits still covers its schedule


def read_table(path: Path) -> tuple[str, list[tuple[float, float]]]:
    """Read the axis, `snr` or `t`, and the rows of a CSV file with the header `snr,weight` or `t,weight`.

    Raises:
        ValueError: if it cannot be read, has another header, or a row that is not two finite numbers.
    """
    try:
        text = read_text(expanded(path))
        rows = csv.reader(io.StringIO(text, newline=""))
        lines = [(number, [cell.strip() for cell in row]) for number, row in enumerate(rows, start=1)]
    except FileNotFoundError as error:
        raise ValueError(f"table {path}: there is no such file. Give a CSV with the header {HEADERS}") from error
    except OSError as error:
        raise ValueError(f"table {path} cannot be read ({error.strerror or error})") from error
    except (ValueError, csv.Error) as error:
        raise ValueError(
            f"table {path} is not CSV text ({one_line(error)}). Give one with the header {HEADERS}"
        ) from error
    lines = [(number, row) for number, row in lines if any(row)]
    header = ",".join(lines[0][1]) if lines else ""
    if header not in ("snr,weight", "t,weight"):
        raise ValueError(f"table {path}: its header is '{header[:60]}'. It must be {HEADERS}")
    points = []
    for number, row in lines[1:]:
        try:
            x, weight = map(float, row)
            if not (math.isfinite(x) and math.isfinite(weight)):
                raise ValueError("not finite")
        except ValueError as error:
            shown = ",".join(row)[:60]
            raise ValueError(f"table {path}, row {number}: '{shown}' is not two finite numbers") from error
        points.append((x, weight))
    return header.partition(",")[0], points


def check_points(axis: str, points: tuple[tuple[float, float], ...], *, where: str) -> None:
    """Check a table's rows (x, weight); `where` is for messages.

    Raises:
        ValueError: if there are fewer than 2 rows or too many, an x or weight is negative, a t is not a whole number,
            or an x is given twice.
    """
    if len(points) < 2:
        raise ValueError(f"{where} has {len(points)} row{'s' * (len(points) != 1)}. It needs at least 2")
    if len(points) > MAX_ROWS:
        raise ValueError(f"{where} has {len(points):,} rows. At most {MAX_ROWS:,} are allowed: a spec stores them all")
    seen = set()
    for x, weight in points:
        if x < 0 or (axis == "t" and x != int(x)):
            wanted = "t must be a whole number, 0 or above" if axis == "t" else "snr must be 0 or above"
            raise ValueError(f"{where} has a row for {axis} {x:g}; {wanted}")
        if weight < 0:
            raise ValueError(f"{where} has weight {weight:g} at {axis} {x:g}; weights must be finite and not negative")
        place = x if axis == "t" else min(max(x, SNR_MIN), SNR_MAX)
        if place in seen:
            raise ValueError(f"{where} has two rows for {axis} {x:g}. Give each {axis} once")
        seen.add(place)


class Table(Weighting):
    """Weights from a CSV file with the header `snr,weight` or `t,weight`, with rows in any order.

    Between rows the weight is linear in log SNR (snr 0 stands for 1e-20, the lowest SNR that a weighting gets) or in t.
    The file is read when the option is given, and the run's spec stores its rows, so that the file is not needed again.
    """

    class Options(PluginOptions):
        """The options of the table."""

        path: Path | None = Field(description="the CSV file, with the header snr,weight or t,weight")
        space: Space = Field(
            "eps", description="the quantity whose squared error the weights are for: eps, x0, v, flow"
        )
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
            found, points = read_table(Path(path))
            if axis not in (None, found):
                raise ValueError(f"table {path} has the axis {found} in its header, not {axis}. Leave axis out")
            return {**data, "axis": found, "points": points}

        @model_validator(mode="after")
        def _check(self) -> "Table.Options":
            if self.points is None:
                raise ValueError(f"give path, a CSV file with the header {HEADERS}")
            if self.axis is None:
                raise ValueError("points need axis: snr or t")
            check_points(self.axis, self.points, where=f"table {self.path}" if self.path else "table of points")
            return self

    options: Options

    def __init__(self, options: Options) -> None:
        assert options.points is not None  # checked by the options' validator
        super().__init__(options)
        self._x, self._weights = torch.tensor(sorted(options.points), dtype=torch.float64).unbind(dim=1)
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
        if self.options.axis == "snr":
            asked = bounded_snr(context.snr)
            self._check_covers(asked.min(), asked.max(), slack=math.exp(SLACK))
            settled._curve = self._x, self._weights
        else:
            t = torch.arange(len(context.snr), dtype=torch.float64)
            self._check_covers(t[0], t[-1])
            # rows are at whole timesteps, between which the process is linear in log SNR, and so is the table
            weights = np.interp(t.numpy(), self._x.numpy(), self._weights.numpy())
            settled._curve = context.snr, torch.from_numpy(weights)
        return settled

    def _check_covers(self, low: Tensor, high: Tensor, *, slack: float = 1.0) -> None:
        first, last = bounded_snr(self._x[[0, -1]]) if self.options.axis == "snr" else self._x[[0, -1]]
        where = f" of {self.options.path}" if self.options.path else ""
        if self.options.axis == "t" and high < last:
            raise UsageError(
                f"weighting table{where} extends to t = {last:g}, but the schedule ends at t = {high:g}: it was made "
                "for another schedule. Choose that schedule, or give the table by SNR"
            )
        if low * slack < first or high > last * slack:
            name = "SNR" if self.options.axis == "snr" else "t"
            hint = " (snr 0 is allowed)" if self.options.axis == "snr" else ""
            raise UsageError(
                f"weighting table{where} covers {name} "
                f"{self._x[0]:.4g} to {self._x[-1]:.4g}, but the schedule {name} {low:.4g} to {high:.4g}. "
                f"Add rows for the rest{hint}, or choose another schedule"
            )

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
