"""The primary metric: the one figure on which a comparison is decided, declared before it is looked at."""

from collections.abc import Sequence

from debiasctl.comparison.matching import CellData
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.evaluation.primary import default_metric
from debiasctl.reading.user_text import whole_number
from debiasctl.wording import did_you_mean, quoted

_STEPS = 50


def find_primary(cells: Sequence[CellData], declared: str | None, *, datasets: Sequence[str]) -> tuple[CellData, str]:
    """The primary cell, and what a reader must know of how it was chosen (empty: it was declared).

    `declared` is `metric`, `metric@steps` or a cell's key. Without it the data set's default is taken at 50 steps, or
    the number of steps nearest to it.

    Raises:
        UsageError: if no arm was measured by the metric; ComparisonError: if not at these steps.
    """
    metrics = list(dict.fromkeys(cell.metric for cell in cells))
    if declared is None:
        metric = default_metric(metrics, datasets)
        cell = _nearest([cell for cell in cells if cell.metric == metric])
        return cell, f"the primary metric is {cell.key} by default: declare one before you look, with `primary`"
    for cell in cells:
        if cell.key == declared:
            return cell, ""
    metric, at, steps = declared.strip().partition("@")
    if metric not in metrics:
        raise UsageError(
            f"`primary`: no arm has the metric {quoted(metric)}.{did_you_mean(metric, metrics)} Those that all have: "
            f"{', '.join(metrics)}"
        )
    alike = [cell for cell in cells if cell.metric == metric]
    if not at:
        return _nearest(alike), ""
    if whole_number(steps) is None:
        raise UsageError(f"`primary={declared}`: write metric@steps, for example {metric}@{alike[0].steps or _STEPS}")
    found = [cell for cell in alike if cell.steps == whole_number(steps)]
    if not found:
        counts = [str(one.steps) for one in alike if one.steps is not None]
        if not counts:
            raise ComparisonError(f"the figures of {metric} have no sampling steps: leave out @{steps}")
        raise ComparisonError(
            f"not all arms have {metric} at {steps} sampling steps; all have it at "
            f"{', '.join(counts)}. Evaluate the others: debiasctl evaluate RUN --steps {steps}"
        )
    return _nearest(found), ""


def _nearest(cells: Sequence[CellData]) -> CellData:
    """The cell whose number of steps is nearest to the usual one; averaged weights before others, then the first."""
    return min(cells, key=lambda cell: (abs((cell.steps or _STEPS) - _STEPS), cell.measured.get("weights") != "ema"))
