"""What the extensions of training report of each arm's runs."""

from collections.abc import Iterator, Sequence

from debiasctl.comparison.observations import ArmData
from debiasctl.runs.records import Figure, shown
from debiasctl.runs.store import Run, read_metrics
from debiasctl.specs.sections import RunSpec


def reported(runs: Sequence[tuple[Run, RunSpec]], arms: Sequence[ArmData]) -> Iterator[str]:
    """A note for each arm whose runs have extensions that report figures; a range where its runs differ.

    Raises:
        RunError: if a run's metrics are damaged.
    """
    extended = {run.name: run for run, spec in runs if spec.extensions}
    for arm in arms:
        found: dict[str, dict[str, list[Figure]]] = {}
        for member in arm.members:
            for name, figures in _last(extended[member.run]) if member.run in extended else ():
                for figure, value in figures.items():
                    found.setdefault(name, {}).setdefault(figure, []).append(value)
        for name, values in found.items():
            listed = ", ".join(f"{figure.replace('_', ' ')} {_over_runs(seen)}" for figure, seen in values.items())
            yield f"'{arm.name}' was trained with extension {name}, which reports {listed}"


def _last(run: Run) -> list[tuple[str, dict[str, Figure]]]:
    """Each extension's name and figures as they were recorded last."""
    for record in reversed(read_metrics(run)):
        if record.kind == "extensions":
            return [(one.name, one.figures) for one in record.extensions]
    return []


def _over_runs(values: Sequence[Figure]) -> str:
    numbers = [value for value in values if not isinstance(value, str)]
    if len(numbers) == len(values) and min(numbers) < max(numbers):
        return f"{shown(min(numbers))} to {shown(max(numbers))}"
    return " or ".join(dict.fromkeys(map(shown, values)))
