"""`debiasctl sweep list|show|watch|rm`: the sweeps in the store."""

import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_sweep
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_pairs, print_table
from debiasctl.cli.sweep_view import described, overview
from debiasctl.errors import DebiasctlError, RunError, UsageError
from debiasctl.wording import format_rate, one_line

if TYPE_CHECKING:
    from debiasctl.sweeps.progress import RunProgress
    from debiasctl.sweeps.store import StoredSweep, Sweep

_POLL = 2.0  # seconds
_SWEEP = typer.Argument(metavar="SWEEP", help="A sweep's name.", autocompletion=complete_sweep, show_default=False)


def register(app: typer.Typer) -> None:
    """Add these commands to the group that runs sweeps."""
    for name, command in (("list", list_), ("show", show), ("watch", watch), ("rm", rm)):
        app.command(name)(command)


def list_(as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """List all sweeps.

    \b
    Examples:
      debiasctl sweep list
      debiasctl sweep list --json
    """
    from debiasctl.sweeps.progress import progress_of
    from debiasctl.sweeps.store import Sweep, find_sweep, sweep_names

    rows: list[tuple[str, ...]] = []
    found: list[dict[str, Any]] = []
    for name in sweep_names():
        sweep: Sweep = find_sweep(name)
        try:
            stored = sweep.stored()
            runs = progress_of(sweep, stored)
        except RunError as error:
            found.append({"name": name, "path": str(sweep.path), "state": "damaged", "problem": str(error)})
            rows.append((name, "damaged", "", "", "", ""))
            note(str(error))
            continue
        done, state = sum(one.state == "done" for one in runs), _state(sweep, runs)
        counts = {"arms": len(stored.arms), "seeds": len(stored.seeds), "runs": len(runs), "done": done}
        found.append({"name": name, "path": str(sweep.path), "state": state, **counts, "created": stored.created})
        created = stored.created[:16].replace("T", " ")
        rows.append((name, state, str(len(stored.arms)), str(len(stored.seeds)), f"{done}/{len(runs)}", created))
    if as_json:
        print_json({"sweeps": found})
    elif rows:
        print_table(("NAME", "STATE", "ARMS", "SEEDS", "DONE", "CREATED (UTC)"), rows, ruled=False)
    else:
        note("There are no sweeps yet. Make one: debiasctl sweep digits --weighting constant,debiased --seeds 3")


def show(sweep: Annotated[str, _SWEEP], as_json: Annotated[bool, options.AS_JSON] = False) -> None:
    """Show what a sweep compares, how far each run is, and its answer.

    \b
    Examples:
      debiasctl sweep show digits
      debiasctl sweep show digits --json
    """
    from debiasctl.sweeps.answer import answer_of
    from debiasctl.sweeps.progress import progress_of
    from debiasctl.sweeps.store import find_sweep

    found = find_sweep(sweep)
    stored = found.stored()
    runs = progress_of(found, stored)
    done = [one for one in runs if one.state == "done"]
    try:
        answer = answer_of(found, stored, done, write=False).text if done else None
    except DebiasctlError as error:
        answer = f"cannot be said: {error}"
    if as_json:
        print_json(
            {
                "name": found.name,
                "path": str(found.path),
                "state": _state(found, runs),
                "answer": answer,
                "report": str(found.report) if found.report.is_file() else None,
                "sweep": stored.model_dump(mode="json"),
                "runs": [described(one) for one in runs],
            }
        )
        return
    print_pairs(_facts(found, stored, runs, answer))
    print_table(
        ("RUN", "STATE", "STEP", "IMAGES/S", "FAILED", "WHY"),
        [
            (
                one.run.name,
                one.state,
                f"{one.step}/{one.num_steps}",
                format_rate(one.images_per_second) if one.images_per_second else "",
                str(len(one.failures)) if one.failures else "",
                one_line(one.reason or one.doing or "", limit=60),
            )
            for one in runs
        ],
        ruled=False,
        spare=("WHY", "FAILED", "IMAGES/S"),
    )
    if _state(found, runs) in ("stopped", "failed"):
        left = len(runs) - len(done)
        note(f"{left} of {len(runs)} runs are not done. Resume it: debiasctl sweep --resume {found.name}")


def _facts(found: "Sweep", stored: "StoredSweep", runs: "list[RunProgress]", answer: str | None) -> dict[str, str]:
    measures = stored.evaluate
    return {
        "sweep": found.name,
        "state": _state(found, runs),
        "answer": answer or "none yet: no run is measured",
        "arms": ", ".join(arm.name for arm in stored.arms),
        "reference": stored.reference,
        "seeds": ", ".join(map(str, stored.seeds)),
        "primary metric": stored.primary or "the data set's",
        "measured": f"{measures.num} images, {measures.sampler}, {', '.join(map(str, measures.steps))} steps",
        "margin": f"{100 * stored.margin:g} %",
        "until decided": "no" if stored.looks is None else f"at {', '.join(map(str, stored.looks))} seeds",
        "engine": f"{stored.engine}, {stored.threads} threads a run",
        "report": str(found.report) if found.report.is_file() else "none yet",
        "path": str(found.path),
    }


def _state(found: "Sweep", runs: "list[RunProgress]") -> str:
    """The sweep's state in a word, with what stands in its way."""
    if found.is_running():
        return "running"
    counts = Counter(one.state for one in runs)
    if counts["done"] == len(runs):
        return "done"
    return "failed" if counts["failed"] else "stopped" if counts["done"] + counts["interrupted"] else "waiting"


def watch(sweep: Annotated[str, _SWEEP]) -> None:
    """Watch a sweep that another process runs, until it ends.

    \b
    Examples:
      debiasctl sweep watch digits
    """
    from debiasctl.sweeps.progress import progress_of
    from debiasctl.sweeps.store import find_sweep

    found = find_sweep(sweep)
    if not found.is_running():
        note(f"sweep '{found.name}' is not running. Resume it: debiasctl sweep --resume {found.name}")
    with overview(found.name, at_once=lambda: max(1, training)) as view:
        training = 1
        while found.is_running():
            stored = found.stored()
            runs = progress_of(found, stored)
            training = sum(one.state == "training" for one in runs)
            view(runs)
            time.sleep(_POLL)
    show(sweep)


def rm(
    sweep: Annotated[str, _SWEEP],
    runs: Annotated[bool, option("--runs", help="Remove its runs too, with everything in them.")] = False,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a sweep; its runs stay, unless --runs is given.

    \b
    Examples:
      debiasctl sweep rm digits
      debiasctl sweep rm digits --runs --yes
    """
    from debiasctl.runs.removal import remove_run
    from debiasctl.sweeps.store import existing, find_sweep, remove_sweep

    found = find_sweep(sweep)
    own = existing([run for _, _, run in found.runs(found.stored())]) if runs else []
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"removing {found.name} has to be confirmed, and there is no terminal to ask on. Add --yes"
            )
        beside = f" and its {len(own)} runs, with all checkpoints, samples and evaluations" if runs else ""
        if not typer.confirm(f"Remove sweep {found.name}{beside}?", err=True):
            note("Nothing was removed.")
            raise typer.Exit(1)
    with found.lock():
        for run in own:
            remove_run(run)
    remove_sweep(found)
    note(f"Removed sweep {found.name}{f' and {len(own)} runs' if runs else ''}.")
