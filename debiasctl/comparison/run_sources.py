"""What a study's pictures need beside its figures, read from its runs: held-out errors, weights, samples, specs."""

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from debiasctl.comparison.study_record import Arm, Member, Study, StudyCell
from debiasctl.errors import ComparisonError, DebiasctlError
from debiasctl.reporting.arm_grids import GridRow
from debiasctl.reporting.study_data import SeedLine
from debiasctl.runs.store import Run, read_metrics

if TYPE_CHECKING:
    from debiasctl.evaluation.record import EvaluationRecord
    from debiasctl.runs.records import BinErrors, HeldoutRecord
    from debiasctl.sampling.description import Description
    from debiasctl.specs.sections import RunSpec

MOST_IMAGES = 12  # of an arm in a grid
_POINTS = 160  # of a weight's curve
_UNITS = ("eps", "x0", "v", "flow")


@dataclass(frozen=True)
class RunSources:
    """Curves and images of a study's runs; `notes` say what there is not, and why."""

    specs: "Mapping[str, RunSpec]" = field(default_factory=dict)  # by arm: its first run's
    heldout: Sequence[SeedLine] = ()
    heldout_unit: str = "eps"
    weights: Sequence[SeedLine] = ()
    weights_unit: str = "eps"
    samples: Sequence[GridRow] = ()
    samples_seed: int | None = None
    samples_where: str = ""
    nfe: Mapping[int, int] = field(default_factory=dict)  # network evaluations an image, by sampling steps
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


def read_sources(study: Study, runs: Sequence[Run], *, skip_damaged: bool = False) -> RunSources:
    """Read what the study's arms of runs have; `skip_damaged` leaves out damaged files, and names them in the notes.

    Raises:
        RunError: if a run's spec or metrics are damaged; ComparisonError: if its samples are.
    """
    found = _Runs(study, runs)
    specs = {arm.name: found.of(arm.members[0]).spec() for arm in study.arms if found.has(arm)}
    units = {_unit(spec) for spec in specs.values()}
    unit = units.pop() if len(units) == 1 else "v"
    notes: list[str] = []
    weights = _weights(specs, unit=unit, notes=notes)
    allowed = _Allowed(notes) if skip_damaged else nullcontext()
    heldout, errors_of = list[SeedLine](), unit
    seed, where, rows = None, "", list[GridRow]()
    nfe: dict[int, int] = {}
    if len({spec.latents_sha256 for spec in specs.values()}) > 1:
        notes.append(
            "held-out errors are not shown: the arms were trained on latents of different autoencoders, or some on "
            "images, so that these errors have different units"
        )
    else:
        with allowed:
            heldout, errors_of = _heldout(found, unit=unit, notes=notes)
    with allowed:
        seed, where, rows = _samples(study, found, notes)
    with allowed:
        nfe = _nfe(study, found)
    return RunSources(
        specs=specs, heldout=heldout, heldout_unit=errors_of, weights=weights,
        weights_unit=unit, samples=rows, samples_seed=seed, samples_where=where, nfe=nfe, versions=_versions(found),
        notes=notes,
    )  # fmt: skip


class _Allowed:
    """A block in which what is damaged becomes a note."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        if isinstance(error, DebiasctlError):
            self._notes.append(str(error))
            return True
        return False


class _Runs:
    """The study's runs by the names and paths that its members have."""

    def __init__(self, study: Study, runs: Sequence[Run]) -> None:
        self._runs = {key: run for run in runs for key in (run.name, str(run.path))}
        self._study = study

    def of(self, member: Member) -> Run:
        """The member's run."""
        return self._runs[member.path if member.path in self._runs else str(member.run)]

    def has(self, arm: Arm) -> bool:
        """Whether the arm is one of runs, all of which are there."""
        return arm.kind == "runs" and all(
            member.path in self._runs or member.run in self._runs for member in arm.members
        )

    def arms(self) -> list[Arm]:
        """The arms of runs."""
        return [arm for arm in self._study.arms if self.has(arm)]


def _unit(spec: "RunSpec") -> str:
    """The unit in which a prediction's errors and weights are shown."""
    return spec.model.prediction if spec.model.prediction in _UNITS else "v"


def _heldout(runs: _Runs, *, unit: str, notes: list[str]) -> tuple[list[SeedLine], str]:
    """Each run's last held-out errors by log-SNR, up to the checkpoint that was measured, and their unit.

    It is v where a run has none of `unit`, as those of older versions have none of flow.
    """
    from debiasctl.runs.records import HeldoutRecord

    found = []
    for arm in runs.arms():
        for member in arm.members:
            records = [
                record for record in read_metrics(runs.of(member))
                if isinstance(record, HeldoutRecord) and record.step <= (member.checkpoint or record.step)
            ]  # fmt: skip
            if not records:
                notes.append(f"run {member.source} has no held-out errors")
                continue
            found.append((arm.name, member.seed, _bins(records[-1])))
    if any(getattr(one, unit) is None for *_, bins in found for _, one in bins):
        unit = "v"
    lines = [
        SeedLine(name, seed, [x for x, _ in bins], [float(getattr(one, unit)) for _, one in bins])
        for name, seed, bins in found
    ]
    return lines, unit


def _bins(record: "HeldoutRecord") -> "list[tuple[float, BinErrors]]":
    """Bins with their centres; an open one is taken to be as wide as its neighbours."""
    widths = sorted(
        high - low for low, high in (one.log_snr for one in record.bins) if low is not None and high is not None
    )
    wide = widths[len(widths) // 2] if widths else 1.0
    found = []
    for one in record.bins:
        low, high = one.log_snr
        if one.num and (low is not None or high is not None):
            below = low if low is not None else (high or 0.0) - wide
            found.append((below + ((high if high is not None else below + wide) - below) / 2, one))
    return sorted(found, key=lambda pair: pair[0])


def _weights(specs: "Mapping[str, RunSpec]", *, unit: str, notes: list[str]) -> list[SeedLine]:
    """Each arm's density of t times weight on the squared error of `unit`, over log-SNR, at the start of training."""
    from debiasctl.analysis.weight_curves import weight_curves

    found = []
    for name, spec in specs.items():
        loss, reference = spec.loss, spec.known_weighting
        if reference is None:
            notes.append(
                f"the weight of {name} is not drawn: it was trained elsewhere, with a weighting nobody has stated"
            )
            continue
        if loss.metric != "mse":
            notes.append(f"the weight of {name} is not drawn: its loss is {loss.metric}, not the squared error")
            continue
        try:
            curves = weight_curves(
                [reference], schedule=str(spec.diffusion.schedule.ref), prediction=spec.model.prediction,
                normalize=loss.normalize, timesteps=str(loss.timesteps.ref), sigma_data=spec.model.sigma_data,
            )  # fmt: skip
        except DebiasctlError as error:
            notes.append(f"the weight of {name} is not drawn: {error}")
            continue
        weights = (curves.density * curves.weights[reference][unit]).tolist()  # type: ignore[index]
        pairs = [
            (math.log(snr), weight)
            for snr, weight in zip(curves.snr.tolist(), weights, strict=True)
            if snr > 0 and math.isfinite(weight)
        ]
        pairs = sorted(pairs[:: max(1, len(pairs) // _POINTS)])
        found.append(SeedLine(name, 0, [x for x, _ in pairs], [y for _, y in pairs]))
    return found


# ---------------------------------------------------------------- samples


def _samples(study: Study, runs: _Runs, notes: list[str]) -> tuple[int | None, str, list[GridRow]]:
    """The first images of every arm in the primary cell, of one training seed and one noise."""
    cell = study.cell(study.primary)
    arms = runs.arms()
    shared = set.intersection(*({member.seed for member in arm.members} for arm in arms)) if arms else set()
    for seed in sorted(shared):
        folders = [_folder(cell, arm, seed, runs) for arm in arms]
        found = [(folder, _description(folder)) for folder in folders if folder is not None]
        noises = {_noise(description) for _, description in found}
        if len(found) < len(arms) or len(noises) > 1:
            continue
        rows = [
            GridRow(arm.name, _images(folder, num=description.num))
            for arm, (folder, description) in zip(arms, found, strict=True)
        ]
        if len({row.images.shape[1:] for row in rows}) > 1:
            notes.append("the arms' images differ in size, so that no grid shows them side by side")
            return None, "", []
        first = found[0][1]
        return seed, f"{first.num_steps} steps of {first.sampler.name}, sampling seed {first.seed}", rows
    if arms:
        notes.append("no training seed has stored samples of one noise in every arm, so that no grid is shown")
    return None, "", []


def _folder(cell: StudyCell, arm: Arm, seed: int, runs: _Runs) -> Path | None:
    """The folder of samples that an arm's figure in the cell was measured on, if it is still there."""
    record = _record(cell, arm, seed, runs)
    if record is None:
        return None
    folder = runs.of(_member(arm, seed)).samples_dir / record.samples
    return folder if (folder / "images.npz").is_file() else None


def _member(arm: Arm, seed: int) -> Member:
    return next(member for member in arm.members if member.seed == seed)


def _record(cell: StudyCell, arm: Arm, seed: int, runs: _Runs) -> "EvaluationRecord | None":
    """The evaluation that a seed's figure in the cell is from."""
    from debiasctl.evaluation.record import EvaluationRecord, read_own_record

    run = runs.of(_member(arm, seed))
    figures = next((one.figures for one in cell.arms if one.arm == arm.name), [])
    key = next((figure.record for figure in figures if figure.seed == seed), None)
    if key is None:
        return None
    path = run.evaluations_dir / f"{key}.json"
    record = read_own_record(path, run, way_on=f"Measure again: debiasctl evaluate {run.typed}")
    return record if isinstance(record, EvaluationRecord) else None


def _nfe(study: Study, runs: _Runs) -> dict[int, int]:
    """Network evaluations by sampling steps, or nothing where arms differ in them."""
    cells = {cell.steps: cell for cell in study.cells if cell.steps is not None}
    found: dict[int, int] = {}
    for steps, cell in cells.items():
        for arm in runs.arms():
            record = _record(cell, arm, arm.seeds[0], runs)
            if record is not None and record.nfe is not None and found.setdefault(steps, record.nfe) != record.nfe:
                return {}
    return found


def _description(folder: Path) -> "Description":
    from debiasctl.sampling.description import Description

    try:
        return Description.read(folder)
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{folder} is damaged: {error}. Remove it, and sample again") from error


def _noise(one: "Description") -> str:
    """What the starting noise and the way from it depend on, but for the network."""
    return f"{one.num_steps} steps of {one.sampler.ref}, sampling seed {one.seed}"


def _images(folder: Path, *, num: int) -> Any:
    """The first images, uint8 [N, H, W, C]."""
    import torch

    from debiasctl.sampling.image_files import UNREADABLE, read_blocks

    path = folder / "images.npz"
    try:
        blocks = torch.cat(list(read_blocks(path, start=0, stop=min(MOST_IMAGES, num))))
    except UNREADABLE as error:
        raise ComparisonError(f"{path} is damaged: {error}. Remove {folder}, and sample again") from error
    return blocks.permute(0, 2, 3, 1).numpy()


# ---------------------------------------------------------------- software


def _versions(runs: _Runs) -> dict[str, str]:
    """The Python and the commit that the runs were trained with; where they differ, how many runs have each."""
    counts: dict[str, dict[str, int]] = {}
    for arm in runs.arms():
        for member in arm.members:
            spec = runs.of(member).spec()
            if spec.imported is not None:
                continue
            made = spec.provenance
            known = {"Python": made.python, "commit": made.git_commit}
            for name, version in known.items():
                if version:
                    counts.setdefault(name, {}).setdefault(version, 0)
                    counts[name][version] += 1
    return {
        name: next(iter(found))
        if len(found) == 1
        else "; ".join(f"{version} ({count} runs)" for version, count in found.items())
        for name, found in counts.items()
    }
