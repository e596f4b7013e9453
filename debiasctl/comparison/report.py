"""A study as a report: the answer, its verdicts, pictures and tables, and the environment it came from."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from debiasctl.analysis.record import record_files
from debiasctl.comparison.analyses.report import sections_of
from debiasctl.comparison.analyses.stored import Placed, drawing_commands, stored_analysis
from debiasctl.comparison.pictures import Picture, pictures_of
from debiasctl.comparison.report_tables import (
    arms_table,
    efficiency_table,
    evidence_table,
    figures_table,
    metrics_table,
    seeds_table,
    summary,
    verdict_tables,
    warnings_table,
)
from debiasctl.comparison.run_sources import RunSources, read_sources
from debiasctl.comparison.study_parts import software
from debiasctl.comparison.study_record import Study
from debiasctl.comparison.words import cell_name, setting_text
from debiasctl.reporting.report.document import Report, ReportPicture, Section
from debiasctl.reporting.study_pictures import svg_of
from debiasctl.runs.parts import ANALYSES
from debiasctl.runs.store import Run
from debiasctl.specs.files import flatten

_SHOWN = (
    "data.dataset", "content.image_size", "model.backbone", "model.prediction", "diffusion.schedule", "loss.weighting",
    "loss.timesteps", "loss.normalize", "loss.metric", "optimizer.lr", "ema.decay", "training.steps",
    "training.batch_size", "compute.precision",
)  # fmt: skip
_MEASURED = ("dataset", "features", "reference", "reference_num", "num", "sampler", "steps", "weights", "precision")
_MOST_WARNINGS = 4  # beside the answer
_OF_RUNS = "runs: "  # before a package's name in a study's environment


def report_of(
    study: Study,
    runs: Sequence[Run],
    *,
    command: str,
    drawing: Callable[[str], str] | None = None,
    skip_damaged: bool = False,
) -> Report:
    """The study's report; `command` makes it again, and `drawing` gives the command for a figure of that name.

    `skip_damaged` leaves out what is damaged in the runs, and names it.

    Raises:
        RunError, ComparisonError: if a file of the runs is damaged.
    """
    sources = read_sources(study, runs, skip_damaged=skip_damaged)
    drawing = drawing or (lambda name: command)
    pictures = {one.name: _drawn(one, drawing(one.name)) for one in pictures_of(study, sources)}

    def of(*names: str) -> list[ReportPicture]:
        return [pictures[name] for name in names if name in pictures]

    efficiency = [efficiency_table(study)] if study.efficiency else []
    analysed, said = _analysed(study, runs, sources, skip_damaged=skip_damaged)
    sections = [
        Section("Verdicts", [text for text in (summary(study),) if text],
                [*verdict_tables(study), evidence_table(study)] if study.verdicts else [], of("verdicts")),
        Section("Efficiency and curves", tables=efficiency, pictures=of("training", "steps")),
        Section("Samples", pictures=of("samples", "colours")),
        Section("Why", ["What each arm is trained for, and the errors that this leaves on images it has not seen."],
                pictures=of("weights", "heldout")),
        *analysed,
        Section("Figures", tables=[figures_table(study), metrics_table(study), seeds_table(study)]),
        Section("What was compared", _standing(study, [*sources.notes, *said]),
                [arms_table(study), *([warnings_table(study)] if len(study.warnings) > _MOST_WARNINGS else [])]),
    ]  # fmt: skip
    return Report(
        _title(study), study.answer,
        [one for one in sections if one.tables or one.pictures], _status(study),
        _environment(study, sources), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"), command,
    )  # fmt: skip


def _title(study: Study) -> str:
    dataset = study.cell(study.primary).measured.get("dataset")
    arms = "1 arm" if len(study.arms) == 1 else f"{len(study.arms)} arms"
    return f"{arms} on {dataset}" if dataset else arms


def _drawn(picture: Picture, command: str) -> ReportPicture:
    return ReportPicture(
        picture.name, picture.title, picture.caption, svg_of(picture.draw("page")), picture.alt,
        command, picture.data, svg_of(picture.draw("column")),
    )  # fmt: skip


def _status(study: Study) -> list[str]:
    """What must be known beside the answer: warnings first."""
    seeds = sorted({len(arm.members) for arm in study.arms})
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    paired = "the same in all arms" if study.paired else "not the same in all arms"
    primary = study.cell(study.primary)
    more = len(study.warnings) - _MOST_WARNINGS
    return [
        *(f"Warning: {text}" for text in study.warnings[:_MOST_WARNINGS]),
        *([f"{more} more {'warnings are' if more > 1 else 'warning is'} at the end."] if more > 0 else []),
        *(f"Left out: {text}" for text in study.skipped),
        f"Primary metric: {cell_name(primary)}. Reference: {study.reference}. Margin of equivalence: "
        f"{100 * study.margin:.3g} % of its figure.",
        f"{count} training {'seed' if count == '1' else 'seeds'} an arm, {paired}.",
    ]


def _standing(study: Study, notes: Sequence[str]) -> list[str]:
    return [f"{note[:1].upper()}{note[1:].removesuffix('.')}." for note in (*study.notes, *notes)]


def _analysed(
    study: Study, runs: Sequence[Run], sources: RunSources, *, skip_damaged: bool
) -> tuple[list[Section], list[str]]:  # fmt: skip
    """A section for each part of the analyses that the runs have stored, and notes on them."""
    known = {key: run for run in runs for key in (run.name, str(run.path))}
    members = [(arm, member) for arm in study.arms if arm.kind == "runs" for member in arm.members]
    places = [
        Placed(run, arm.name, member.seed, member.checkpoint)
        for arm, member in members
        if (run := known.get(str(member.path)) or known.get(str(member.run))) is not None
    ]
    if not any(record_files(place.run.path / ANALYSES) for place in places):
        return [], []
    notes: list[str] = []
    analysis = stored_analysis(places, dataset="", on_damaged=notes.append if skip_damaged else None)
    if analysis is None:
        return [], notes
    weightings = {name: spec.known_weighting or name for name, spec in sources.specs.items()}
    drawing = drawing_commands(analysis, [place.run for place in places])
    return sections_of(analysis, weightings=weightings, drawing=drawing), [*notes, *analysis.notes]


def _environment(study: Study, sources: RunSources) -> Mapping[str, Mapping[str, str]]:
    measured, stated = study.cell(study.primary).measured, study.environment
    differing: dict[str, str] = {}
    for name in study.differing:
        differing[name] = "; ".join(f"{arm.name}: {setting_text(arm.settings.get(name))}" for arm in study.arms)
    return {
        "Report": {name: text for name, text in stated.items() if not name.startswith(_OF_RUNS)} | software(),
        "Runs were trained with": dict(sources.versions)
        | {name.removeprefix(_OF_RUNS): text for name, text in stated.items() if name.startswith(_OF_RUNS)},
        "Settings in common": _common(study, sources),
        "Settings that differ": differing,
        "Measured": {
            name: setting_text(measured[name]) for name in _MEASURED if measured.get(name) is not None
        },
    }  # fmt: skip


def _common(study: Study, sources: RunSources) -> dict[str, str]:
    """Settings that all arms share."""
    flat = [flatten(spec.model_dump(mode="json")) for spec in sources.specs.values()]
    return {
        name: setting_text(flat[0][name])
        for name in _SHOWN
        if flat and name in flat[0] and all(one.get(name) == flat[0][name] for one in flat)
        and name not in study.differing
    }  # fmt: skip
