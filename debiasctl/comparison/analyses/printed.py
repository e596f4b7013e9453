"""An analysis as `analyze` gives it to scripts."""

from pydantic import JsonValue

from debiasctl.analysis.record import record_path
from debiasctl.comparison.analyses.findings import findings_between
from debiasctl.comparison.analyses.means import curves_of, differences_of, figures_of
from debiasctl.comparison.analyses.results import Analysis, Entry, PartResult


def analyzed(analysis: Analysis) -> dict[str, JsonValue]:
    """The analysis with the keys that are documented for `analyze`."""
    return {
        "arms": [{"name": arm.name, "seeds": [*arm.seeds], "runs": [*arm.runs]} for arm in analysis.arms],
        "parts": [_part(result) for result in analysis.parts],
        "skipped": [*analysis.skipped],
        "warnings": [*analysis.warnings],
        "notes": [*analysis.notes],
    }


def _part(result: PartResult) -> dict[str, JsonValue]:
    return {
        "name": result.part.name,
        "title": result.part.title,
        "findings": [*findings_between(result)],
        "arms": [
            {
                "arm": name,
                "seeds": [entry.seed for entry in entries],
                "figures": [one.to_json() for one in figures_of(entries)],
                "series": [one.to_json() for one in curves_of(entries)],
            }
            for name, entries in result.arms.items()
        ],
        "differences": [
            {
                "arm": one.arm,
                "reference": one.reference,
                "seeds": [*one.seeds],
                "figures": [figure.to_json() for figure in one.figures],
            }
            for one in differences_of(result)
        ],
        "records": [_record(result, entry) for entry in result.entries],
    }


def _record(result: PartResult, entry: Entry) -> dict[str, JsonValue]:
    record = entry.record
    found: list[JsonValue] = [*result.findings(entry)]
    return {
        "seed": entry.seed,
        "path": str(record_path(entry.folder, record.key)),
        "findings": found,
        **record.to_json(),
    }
