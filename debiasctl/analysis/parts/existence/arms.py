"""Records side by side: runs that differ in the seed alone are one arm, whose figures are means over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from debiasctl.analysis.record import AnalysisRecord, Missing, Series
from debiasctl.reporting.names import short_names
from debiasctl.reporting.study_data import arm_styles, mean_of

_LONGEST = 24  # letters of a name in a picture


@dataclass(frozen=True)
class Arm:
    """The records of an arm, its name, and how it is drawn; `numbers` are the records' own among all."""

    label: str
    colour: str
    dashes: Any
    records: Sequence[AnalysisRecord]
    numbers: Sequence[int]

    def series(self, name: str) -> Series | None:
        """A series of the arm: that of its one run, or the mean over its seeds with the mean's t interval."""
        found = [one for record in self.records if (one := record.series_of(name)) is not None]
        if len(found) < 2:
            return found[0] if found else None
        return _mean(found)

    def names(self, prefix: str) -> list[str]:
        """The names of all series that are `prefix`, or begin with it and a bracket."""
        return list(dict.fromkeys(
            one.name for record in self.records for one in record.series if one.name.partition("[")[0] == prefix
        ))  # fmt: skip


def arms_of(records: Sequence[AnalysisRecord]) -> list[Arm]:
    """The arms in the order of their first records. Records of one run at several checkpoints are arms of their own."""
    runs = [record.network.run for record in records]
    several = len(set(runs)) < len(runs)
    keys = [
        f"{record.network.arm}, step {record.network.checkpoint}" if several else record.network.arm
        for record in records
    ]
    names = list(dict.fromkeys(keys))
    styles = arm_styles(names)
    labels = short_names(names, longest=_LONGEST)
    found = []
    for name, label, style in zip(names, labels, styles, strict=True):
        numbers = [number for number, key in enumerate(keys) if key == name]
        found.append(Arm(label, style.colour, style.dashes, [records[number] for number in numbers], numbers))
    return found


def _mean(found: Sequence[Series]) -> Series:
    """The mean over seeds at each x that all have."""
    columns = [dict(zip(one.x, one.value, strict=True)) for one in found]
    shared = [x for x in found[0].x if all(x in column for column in columns)]
    value: list[Missing] = []
    low: list[Missing] = []
    high: list[Missing] = []
    for x in shared:
        values = [column[x] for column in columns]
        known = [one for one in values if one is not None]
        mean = mean_of(known) if len(known) == len(values) else None
        value.append(None if mean is None else mean.value)
        low.append(None if mean is None else mean.low)
        high.append(None if mean is None else mean.high)
    first = found[0]
    return Series(name=first.name, axis=first.axis, x=shared, value=value, low=low, high=high, unit=first.unit,
                  text=first.text)  # fmt: skip
