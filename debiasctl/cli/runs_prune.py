"""`debiasctl runs prune`: frees disk space in runs that stay."""

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.left_alone import report_left_alone
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.runs.pruning import Plan

_WHAT = {"checkpoints": "old checkpoints", "samples": "samples", "evaluations": "features", "analyses": "unfinished"}
_PATIENCE = 2.0  # seconds without a word


def prune(
    runs: Annotated[
        list[str] | None, options.run_argument("[RUN]...", "Only these: whole names, or patterns (default: all).")
    ] = None,
    where: Annotated[list[str] | None, options.WHERE] = None,
    samples: Annotated[bool, option("--samples", argument="prune_samples", help="Samples, finished or not.")] = False,
    checkpoints: Annotated[
        bool, option("--checkpoints", argument="prune_checkpoints", help="Old checkpoints.")
    ] = False,
    features: Annotated[
        bool, option("--features", argument="prune_features", help="Features that evaluations stored.")
    ] = False,
    analyses: Annotated[
        bool, option("--analyses", argument="prune_analyses", help="What unfinished analyses have measured so far.")
    ] = False,
    keep_last: Annotated[
        int | None, option("--keep-last", metavar="N", min=1, help="How many checkpoints stay (default: 1).")
    ] = None,
    named: Annotated[
        bool, option("--keep-steps-too", help="Also old checkpoints that training.keep_steps names.")
    ] = False,
    dry_run: Annotated[bool, option("--dry-run", help="Show what would be freed, and remove nothing.")] = False,
    yes: Annotated[bool, option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Free disk space in runs that stay: all of samples, old checkpoints, features and unfinished analyses, or some.

    Figures stay, and so does the last checkpoint: the run can be resumed, and samples are drawn again when they are
    needed. A run that is being trained or read is left as it is.

    \b
    Examples:
      debiasctl runs prune --dry-run
      debiasctl runs prune 'cifar-*' --checkpoints --keep-last 2
      debiasctl runs prune --where 'state=finished and created<2026-05' --samples --yes
    """
    from debiasctl.cli.progress import counting_progress
    from debiasctl.runs.pruning import Choice, plan_pruning
    from debiasctl.runs.selection import matching_runs

    if (keep_last is not None or named) and not checkpoints and (samples or features or analyses):
        given = "--keep-last" if keep_last is not None else "--keep-steps-too"
        raise UsageError(f"{given} is about checkpoints, which are not chosen. Add --checkpoints, or leave it out")
    everything = not (samples or checkpoints or features or analyses)
    choice = Choice(
        samples=samples or everything,
        checkpoints=checkpoints or everything,
        features=features or everything,
        analyses=analyses or everything,
        keep_last=keep_last or 1,
        keep_named=not named,
    )
    found = matching_runs(runs or [], options.parse_filter(where), exact=True)
    plans, problems, begun = [], [], time.monotonic()
    with counting_progress("checking the checkpoints that stay") as show:
        for number, run in enumerate(found):
            try:
                plans.append(plan_pruning(run, choice))
            except DebiasctlError as error:
                problems.append((run.name, error))
            if time.monotonic() - begun > _PATIENCE:
                show(number + 1, len(found))
    if not as_json:
        _show(plans)
    freed = 0
    if not dry_run and any(plan.items for plan in plans):
        _confirm(plans, yes=yes)
        freed = _prune(plans, problems)
        note(f"Freed {format_bytes(freed)}.")
    if as_json:
        print_json({"freed": freed, "runs": [_as_json(plan) for plan in plans]})
    report_left_alone(problems)


def _show(plans: "Sequence[Plan]") -> None:
    rows = [
        (plan.run.name, *(_amount(plan, part) for part in _WHAT), format_bytes(plan.size))
        for plan in plans
        if plan.items
    ]
    if rows:
        total = [("all", *[""] * len(_WHAT), format_bytes(sum(plan.size for plan in plans)))] if len(rows) > 1 else []
        print_table(["NAME", *(what.upper() for what in _WHAT.values()), "FREES"], [*rows, *total], ruled=False)
    else:
        note("There is nothing to free." if plans else "There are no runs yet.")
    for plan in plans:
        for text in plan.kept:
            note(f"note: run '{plan.run.name}' keeps {text}")
        if plan.foreign:
            note(f"note: run '{plan.run.name}': this is not part of it, and stays: {', '.join(plan.foreign)}")


def _amount(plan: "Plan", part: str) -> str:
    items = [item for item in plan.items if item.part == part]
    return f"{len(items)} ({format_bytes(sum(item.size for item in items))})" if items else ""


def _confirm(plans: "Sequence[Plan]", *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("pruning has to be confirmed, and there is no terminal to ask on. Add --yes, or --dry-run")
    size, count = sum(plan.size for plan in plans), sum(bool(plan.items) for plan in plans)
    if not typer.confirm(f"Free {format_bytes(size)} in {count} run{'s' if count > 1 else ''}?", err=True):
        note("Nothing was removed.")
        raise typer.Exit(1)


def _prune(plans: "Sequence[Plan]", problems: list[tuple[str, DebiasctlError]]) -> int:
    """The bytes that were freed; what could not be removed is added to the problems."""
    from debiasctl.runs.pruning import prune as prune_run

    freed = 0
    for plan in plans:
        if plan.items:
            try:
                freed += prune_run(plan)
            except DebiasctlError as error:
                problems.append((plan.run.name, error))
    return freed


def _as_json(plan: "Plan") -> dict[str, Any]:
    return {
        "name": plan.run.name,
        "path": str(plan.run.path),
        "items": [vars(item) for item in plan.items],
        "kept": plan.kept,
        "foreign": plan.foreign,
    }
