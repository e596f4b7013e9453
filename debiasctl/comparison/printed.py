"""A comparison as `compare` gives it to scripts: the study and, with one seed an arm, the table of runs."""

from collections.abc import Sequence

from pydantic import JsonValue

from debiasctl.comparison.evaluations import Reader
from debiasctl.comparison.study_record import Study
from debiasctl.comparison.tables import Comparison
from debiasctl.comparison.tables import compare as compare_runs
from debiasctl.runs.store import Run


def one_seed_table(
    study: Study, runs: Sequence[Run], *, metric: str | None, reader: Reader | None
) -> Comparison | None:
    """The table of runs and their images, where no arm has a verdict; not along axes or of images made elsewhere."""
    single = len(study.arms) == 1 or all(len(arm.members) == 1 for arm in study.arms)
    own = all(arm.kind == "runs" for arm in study.arms) and not study.by
    if not single or not own or study.skipped:
        return None
    return compare_runs(runs, metric=metric, reader=reader)


def compared(study: Study, table: Comparison | None, runs: Sequence[Run]) -> dict[str, JsonValue]:
    """The study and the table with the keys that are documented for `compare`."""
    none: dict[str, JsonValue] = {
        "runs": [run.name for run in runs],
        "differences": {},
        "checkpoints": [],
        "figures": [],
    }
    return {**(none if table is None else table.to_json()), **study.to_json()}
