"""The parts of a study's record, made from what was observed."""

import math
import platform
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import fmean

from debiasctl import __version__
from debiasctl.comparison.matching import ArmCell, CellData
from debiasctl.comparison.observations import ArmData
from debiasctl.comparison.study_record import Arm, ArmFigures, Member, SeedFigure, StudyCell
from debiasctl.specs.sections import RunSpec

_PACKAGES = ("torch", "numpy", "scipy", "matplotlib")


def arm_record(arm: ArmData, cells: Sequence[CellData]) -> Arm:
    """An arm with what its figures in these cells are of."""
    chosen: dict[int, list[ArmCell]] = {}
    for cell in cells:
        for one in cell.arms:
            if one.arm is arm:
                for place in one.chosen:
                    chosen.setdefault(place, []).append(one)
    members = []
    for place, member in enumerate(arm.members):
        observations = [one.chosen[place] for one in chosen.get(place, [])]
        last = max(observations, key=lambda one: one.checkpoint or 0, default=None)
        members.append(
            Member(
                seed=member.seed,
                source=member.source,
                run=member.run,
                run_identity=member.run_identity,
                path=member.path,
                checkpoint=None if last is None else last.checkpoint,
                images_seen=None if last is None else last.images_seen,
                sampling_seeds=sorted({one.sampling_seed for one in observations if one.sampling_seed is not None}),
            )
        )
    return Arm(name=arm.name, kind=arm.kind, settings=arm.settings, members=members)


def cell_record(cell: CellData, *, primary: bool) -> StudyCell:
    """A cell with every arm's figures."""
    first = cell.first
    arms = []
    for number, one in enumerate(cell.arms):
        observed = cell.observed(number)
        values = [cell.value(figure) for figure in observed.values()]
        arms.append(
            ArmFigures(
                arm=one.arm.name,
                figures=[
                    SeedFigure(
                        seed=one.arm.members[place].seed,
                        value=cell.value(figure),
                        low=figure.low,
                        high=figure.high,
                        record=one.chosen[place].record,
                    )
                    for place, figure in observed.items()
                ],
                missing=[one.arm.members[place].seed for place in one.missing],
                mean=fmean(values) if values else None,
                sd=_deviation(values) if len(values) > 1 else None,
                withheld=cell.withheld(number),
            )
        )
    return StudyCell(
        key=cell.key,
        metric=cell.metric,
        steps=cell.steps,
        better=first.better,
        description=first.description,
        measured=cell.measured,
        figure=cell.figure,
        floor=first.floor,
        primary=primary,
        arms=arms,
    )


def _deviation(values: Sequence[float]) -> float:
    """The standard deviation of the population that values were drawn from."""
    mean = fmean(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def software() -> dict[str, str]:
    """Versions of what computed and drew a report, beside those that `environment` gives."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def environment(specs: Iterable[RunSpec]) -> dict[str, str]:
    """What made the study, and the versions that all its runs were trained with."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"  # platform.platform() runs a program
    found = {"debiasctl": __version__, "python": platform.python_version(), "platform": system}
    packages = [spec.provenance.packages for spec in specs]
    for name in dict.fromkeys(name for one in packages for name in one):
        versions = sorted({one.get(name, "none") for one in packages})
        found[f"runs: {name}"] = ", ".join(versions)
    return found
