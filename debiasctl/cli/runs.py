"""`debiasctl runs`: the runs in the store."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from debiasctl.cli import options
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_pairs, say
from debiasctl.cli.plan import metric_text
from debiasctl.cli.runs_labels import note_, tag
from debiasctl.cli.runs_list import list_
from debiasctl.cli.runs_models import add_model, export_checkpoint, facts_of
from debiasctl.cli.runs_prune import prune
from debiasctl.cli.runs_watch import watch
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from debiasctl.runs.records import MetricsRecord
    from debiasctl.runs.status import RunStatus
    from debiasctl.runs.store import Run
    from debiasctl.specs.sections import RunSpec

app = typer.Typer(
    help="List, watch, show, label, prune, remove, export and import runs; add models from elsewhere.",
    no_args_is_help=True,
)


app.command("list")(list_)
app.command()(watch)
app.command()(tag)
app.command("note")(note_)
app.command()(prune)
app.command("add-model")(add_model)
app.command("export-checkpoint")(export_checkpoint)


@app.command()
def show(run: Annotated[str, options.RUN], as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """Show what a run trains, how far it is, and what it holds.

    \b
    Examples:
      debiasctl runs show digits-debiased-0
      debiasctl runs show digits-debiased-0 --json
    """
    from debiasctl.cli.standing import named_run
    from debiasctl.errors import RunError
    from debiasctl.runs.labels import Labels, read_labels
    from debiasctl.runs.parts import disk_use
    from debiasctl.runs.store import read_metrics

    found = named_run(run)
    found.check_status()
    labels = Labels()
    try:
        labels = read_labels(found)
    except RunError as error:  # the run itself can be shown
        note(str(error))
    latest: dict[str, MetricsRecord] = {record.kind: record for record in read_metrics(found)}
    if as_json:
        print_json(
            {
                "name": found.name,
                "path": str(found.path),
                "status": asdict(found.status()),
                "tags": list(labels.tags),
                "note": labels.note,
                "spec": found.spec().model_dump(mode="json"),
                "checkpoints": found.checkpoint_steps(),
                "disk": disk_use(found.path),
                "evaluations": found.evaluation_keys(),
                "analyses": [{"key": key, "part": part} for key, part in _analyses(found).items()],
                "metrics": {kind: record.to_json() for kind, record in latest.items()},
            }
        )
        return
    said = {"tags": ", ".join(labels.tags), "note": " ".join(labels.note.split())}
    print_pairs(_facts(found, latest) | {name: text for name, text in said.items() if text})


def _facts(run: "Run", latest: "Mapping[str, MetricsRecord]") -> dict[str, str]:
    from debiasctl.runs.parts import disk_use

    status, spec = run.status(), run.spec()
    made_here = spec.imported is None
    return {
        "run": run.name,
        "state": status.state + (f": {with_options(status.message)}" if status.message else ""),
        **(_training_facts(run, spec, status, latest) if made_here else {**facts_of(spec), "created": status.created}),
        "evaluations": ", ".join(run.evaluation_keys()) or "none",
        "analyses": _parts(_analyses(run)),
        "disk": ", ".join(f"{name} {format_bytes(size)}" for name, size in disk_use(run.path).items()),
        "path": str(run.path),
    }


def _training_facts(
    run: "Run", spec: "RunSpec", status: "RunStatus", latest: "Mapping[str, MetricsRecord]"
) -> dict[str, str]:
    return {
        "step": f"{status.step} of {status.num_steps}",
        "data set": str(spec.data.dataset.ref),
        **({} if spec.data.autoencoder is None else {"autoencoder": str(spec.data.autoencoder.ref)}),
        "weighting": f"{spec.loss.weighting.ref} (normalize {spec.loss.normalize})",
        **({} if spec.loss.metric == "mse" else {"loss": metric_text(spec.loss)}),
        "timesteps": str(spec.loss.timesteps.ref),
        "schedule": str(spec.diffusion.schedule.ref),
        "prediction": spec.model.prediction,
        "backbone": str(spec.model.backbone.ref),
        **({"extensions": ", ".join(str(one.ref) for one in spec.extensions)} if spec.extensions else {}),
        "seed": str(spec.training.seed),
        "batch size": str(spec.training.batch_size),
        "lr": f"{spec.optimizer.lr:g}",
        "created": status.created,
        "updated": status.updated,
        "checkpoints": ", ".join(map(str, run.checkpoint_steps())) or "none",
        "metrics": _numbers(latest.get("train")),
        "monitor": _numbers(latest.get("evaluation")),
        **_reported(latest.get("extensions")),
    }


def _analyses(run: "Run") -> "dict[str, str | None]":
    """The part that each stored analysis is of, by its key; None where its record is damaged, which a note says."""
    from debiasctl.analysis.record import read_record, record_files
    from debiasctl.errors import EvaluationError
    from debiasctl.runs.parts import ANALYSES

    found: dict[str, str | None] = {}
    for path in record_files(run.path / ANALYSES):
        try:
            found[path.stem] = read_record(path).part
        except EvaluationError as error:
            found[path.stem] = None
            note(f"note: {error}")
    return found


def _parts(analyses: "Mapping[str, str | None]") -> str:
    """Each part with how many there are of it."""
    parts = [part or "damaged" for part in analyses.values()]
    counts = {part: parts.count(part) for part in sorted(set(parts))}
    return ", ".join(part if count == 1 else f"{part} ({count})" for part, count in counts.items()) or "none"


def _reported(record: "MetricsRecord | None") -> dict[str, str]:
    """What each extension reports, under its name."""
    found = record.extensions if record is not None and record.kind == "extensions" else []
    return {one.name: one.shown() for one in found}


def _numbers(record: "MetricsRecord | None") -> str:
    scalars = {} if record is None else record.scalars()
    return ", ".join(f"{name} {value:.4g}" for name, value in scalars.items() if value is not None) or "none"


@app.command()
def rm(
    runs: Annotated[list[str], options.run_argument(help="Runs to remove, by their whole names.")],
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove runs with everything in them: checkpoints, samples, evaluations. Other files in their folders stay.

    \b
    Examples:
      debiasctl runs rm digits-debiased-0
      debiasctl runs rm a b c --yes
    """
    from debiasctl.errors import UsageError
    from debiasctl.runs.removal import foreign_in, remove_run
    from debiasctl.runs.store import find_run

    found = list(dict.fromkeys(find_run(text, exact=True) for text in runs))
    if not yes:
        names = ", ".join(run.name for run in found)
        if not _on_terminal():
            raise UsageError(f"removing {names} has to be confirmed, and there is no terminal to ask on. Add --yes")
        for run in found:
            if others := foreign_in(run):
                note(f"{run.path} will stay, because of what is not part of the run: {_first(others)}")
        if not typer.confirm(f"Remove {names} with all checkpoints, samples and evaluations?", err=True):
            note("Nothing was removed.")
            raise typer.Exit(1)
    for run in found:
        left = remove_run(run)
        note(f"Removed {run.name}.")
        if left:
            note(f"{run.path} stays, because of what is not part of the run: {_first(left)}")


def _first(paths: list[str]) -> str:
    most = 10
    return ", ".join(paths[:most]) + (f" and {len(paths) - most} more" if len(paths) > most else "")


@app.command()
def path(run: Annotated[str, options.RUN]) -> None:
    """Print the path of a run's folder.

    \b
    Examples:
      debiasctl runs path digits-debiased-0
      ls "$(debiasctl runs path digits-debiased-0)/checkpoints"
    """
    from debiasctl.cli.standing import named_run

    say(named_run(run).path)


@app.command()
def export(
    run: Annotated[str, options.RUN],
    out: Annotated[
        Path | None,
        option("--out", "-o", help="Archive to write, or a folder to write it in (default: ./NAME.tar)."),
    ] = None,
    force: Annotated[bool, option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a run to one archive, which 'runs import' takes on any machine; prints the archive's path.

    \b
    Examples:
      debiasctl runs export digits-debiased-0
      debiasctl runs export digits-debiased-0 --out /media/stick/digits.tar
    """
    from debiasctl.cli.standing import named_run
    from debiasctl.runs.archive import export_run, left_behind
    from debiasctl.runs.parts import PARTS

    found = named_run(run)
    target = out or Path()
    written = export_run(found, target / f"{found.name}.tar" if target.is_dir() else target, force=force)
    for name in left_behind(found):
        note(f"The archive leaves out {name}/ ({PARTS[name].holds}).")
    say(written)


@app.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="A .tar file that 'runs export' wrote.")],
    name: Annotated[str | None, option("--name", help="Name of the run here (default: as exported).")] = None,
) -> None:
    """Add an exported run to the store; prints its name. Refuses whatever is not a run's archive.

    \b
    Examples:
      debiasctl runs import digits-debiased-0.tar
      debiasctl runs import digits-debiased-0.tar --name digits-from-lab
    """
    from debiasctl.runs.archive import import_run

    typer.echo(import_run(archive, name=name).name)


def _on_terminal() -> bool:
    return sys.stdin.isatty()
