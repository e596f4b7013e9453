"""Arms from a CSV of figures that were measured elsewhere: arm, seed, metric, value, and perhaps steps and better."""

import csv
import math
from pathlib import Path

from debiasctl.comparison.observations import LARGEST, ArmData, Better, Member, Observation, Observed
from debiasctl.errors import ComparisonError
from debiasctl.evaluation.metrics.catalogue import direction
from debiasctl.reading.regular import read_text
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import did_you_mean, one_line, quoted

_NEEDED = ("arm", "seed", "metric", "value")
_ALSO = ("steps", "better")
_BETTER: dict[str, Better] = {"lower": "lower", "higher": "higher", "closer to 0": "zero", "zero": "zero"}
_LARGEST_SEED = 2**63
_LIMIT = 64 * 2**20  # bytes
_SMALLEST = 1 / LARGEST


def figures_of(path: Path, *, metric: str | None = None) -> list[ArmData]:
    """The arms in a file, in the order in which they are first named.

    Raises:
        ComparisonError: if the file cannot be read, or a line of it is wrong; the message names the line.
    """
    try:
        text = read_text(path, limit=_LIMIT)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ComparisonError(
            f"{path} cannot be read: {reason}. Give a CSV with the columns {', '.join(_NEEDED)}"
        ) from error
    return _Reader(path).arms(text, metric)


class _Reader:
    """Reads one file; every message names the file and the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.line = 1
        self.rows = csv.reader([])
        self.better: dict[str, tuple[Better, int]] = {}
        self.lines: dict[tuple[str, int, str, int | None], int] = {}

    def arms(self, text: str, metric: str | None) -> list[ArmData]:
        found: dict[str, dict[int, dict[int | None, dict[str, Observed]]]] = {}
        self.rows = csv.reader(text.splitlines(keepends=True), strict=True)
        columns: list[str] | None = None
        while (row := self._next()) is not None:
            if not any(cell.strip() for cell in row):
                continue
            cells = [cell.strip() for cell in row]
            if columns is None:
                columns = self._columns(cells)
                continue
            if len(cells) != len(columns):
                raise self._error(f"it has {len(cells)} cells, and the first line names {len(columns)} columns")
            self._add(found, dict(zip(columns, cells, strict=True)), metric)
        if not found:
            known = ", ".join(self.better)
            of = "" if metric is None else f" of {quoted(metric)}" + (f", only of {known}" if known else "")
            raise self._error(f"there are no figures in it{of}")
        return [ArmData(arm, "figures", {}, self._members(seeds)) for arm, seeds in found.items()]

    def _next(self) -> list[str] | None:
        self.line = self.rows.line_num + 1
        try:
            return next(self.rows, None)
        except csv.Error as error:
            raise self._error(f"it is not CSV ({one_line(error)})") from error

    def _columns(self, cells: list[str]) -> list[str]:
        names = [cell.lower() for cell in cells]
        missing = [name for name in _NEEDED if name not in names]
        unknown = [name for name in names if name not in (*_NEEDED, *_ALSO)]
        if missing:
            hint = did_you_mean(missing[0], unknown)
            if len(cells) == 1 and any(mark in cells[0] for mark in ";\t"):
                hint = " Separate the columns by commas"
            raise self._error(f"the first line must name the columns, and {', '.join(missing)} is missing.{hint}")
        if unknown:
            raise self._error(f"unknown column {quoted(unknown[0])}.{did_you_mean(unknown[0], [*_NEEDED, *_ALSO])}")
        if len(set(names)) < len(names):
            raise self._error(f"column {next(name for name in names if names.count(name) > 1)} stands twice")
        return names

    def _add(
        self,
        found: dict[str, dict[int, dict[int | None, dict[str, Observed]]]],
        row: dict[str, str],
        metric: str | None,
    ) -> None:
        for name in ("arm", "metric"):
            if not row[name]:
                raise self._error(f"the {name} is empty")
            if not row[name].isprintable():
                raise self._error(f"the {name} {quoted(row[name])} has a line break or another control character")
        seed = self._seed(row["seed"])
        steps = self._steps(row.get("steps", ""))
        value = self._value(row["value"])
        better = self._better(row["metric"], row.get("better", ""))
        place = (row["arm"], seed, row["metric"], steps)
        if place in self.lines:
            raise self._error(
                f"arm {quoted(row['arm'])}, seed {seed}, has a figure for {row['metric']}"
                f"{'' if steps is None else f' at {steps} steps'} already, in line {self.lines[place]}"
            )
        self.lines[place] = self.line
        if metric in (None, row["metric"]):
            figure = Observed(value, None, None, None, None, better, f"figure of {self.path.name}", by_class=False)
            found.setdefault(row["arm"], {}).setdefault(seed, {}).setdefault(steps, {})[row["metric"]] = figure

    def _seed(self, text: str) -> int:
        seed = whole_number(text)
        if seed is None or not 0 <= seed < _LARGEST_SEED:
            raise self._error(f"seed {quoted(text)} is not a whole number from 0")
        return seed

    def _steps(self, text: str) -> int | None:
        steps = whole_number(text) if text else None
        if text and (steps is None or steps < 1):
            raise self._error(f"steps {quoted(text)} is not a whole number from 1; leave it empty where there are none")
        return steps

    def _value(self, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or "_" in text:
            raise self._error(f"value {quoted(text)} is not a finite number, written with a decimal point")
        if value and not _SMALLEST <= abs(value) <= LARGEST:
            raise self._error(
                f"value {quoted(text)} is too {'large' if abs(value) > 1 else 'small'} to compute with: figures are 0, "
                f"or from {_SMALLEST:g} to {LARGEST:g} with either sign. Write them in another unit"
            )
        return value

    def _better(self, metric: str, text: str) -> Better:
        if text and text.lower() not in _BETTER:
            raise self._error(f"better {quoted(text)}: write lower, higher or closer to 0")
        better = _BETTER[text.lower() if text else direction(metric)]
        before, line = self.better.setdefault(metric, (better, self.line))
        if before != better:
            raise self._error(f"of {metric}, {better} is better here, and {before} in line {line}")
        return better

    def _members(self, seeds: dict[int, dict[int | None, dict[str, Observed]]]) -> list[Member]:
        return [
            Member(
                seed, f"{self.path.name}, seed {seed}", None, None, str(self.path),
                [
                    Observation((("steps", steps),), (("steps", steps),), None, None, None, None, figures, ())
                    for steps, figures in by_steps.items()
                ],
            )
            for seed, by_steps in sorted(seeds.items())
        ]  # fmt: skip

    def _refuse(self, problem: str) -> "None":
        raise self._error(problem)

    def _error(self, problem: str) -> ComparisonError:
        return ComparisonError(
            f"{self.path}, line {self.line}: {problem.rstrip('.')}. Columns: {', '.join(_NEEDED)}, and perhaps "
            f"{', '.join(_ALSO)}"
        )
