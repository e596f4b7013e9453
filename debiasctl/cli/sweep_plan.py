"""What `debiasctl sweep --dry-run` shows: the runs, the time and disk that they take, and what will be compared."""

from typing import TYPE_CHECKING

from debiasctl.cli.forecast import end_of, note_busy, note_elsewhere, rough
from debiasctl.cli.output import note, print_json, print_pairs, print_table
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.api import DataLocation
    from debiasctl.sweeps.conduct import Way
    from debiasctl.sweeps.store import StoredSweep, Sweep
    from debiasctl.sweeps.trial import Cost, Trial


def describe_trial(trial: "Trial") -> None:
    """Say what a trial is, what it will take, and how its settings are given by themselves."""
    spec, what = trial.spec, "the data set's small network" if trial.is_own else "a small network"
    budget = ", and a short budget" if trial.advised else " and budget"
    note(
        f"trial: {what}{budget}: {spec.model.backbone.name}, {spec.training.steps} steps of "
        f"{spec.training.batch_size} images, {trial.num} images drawn from each run. It compares arms over seeds; the "
        "figures are not the best that the data allow"
    )
    if trial.cost is not None:
        _note_cost(trial.cost)
    if trial.advised:
        note_elsewhere(trial.advised, trial.asked, ("--num", str(trial.num)))


def _note_cost(cost: "Cost") -> None:
    from debiasctl.sweeps.trial import MOST

    threads = f"{cost.threads} thread{'s' if cost.threads > 1 else ''}"
    note(
        f"{cost.runs} runs take about {rough(cost.seconds)} in all here, {cost.at_once} at once ({cost.step:.2g} s a "
        f"step with {threads}, measured; evaluations come on top), until {end_of(cost.seconds)}"
    )
    if cost.seconds > MOST:
        note(
            f"note: that is {rough(cost.seconds - MOST)} more than the half hour of a trial: with fewer steps and "
            "images arms could hardly be told apart. Fewer arms, fewer --seeds or a smaller --image-size take less"
        )
    note_busy("cpu" if cost.on_cpu else "gpu")


def show_sweep_plan(
    sweep: "Sweep", stored: "StoredSweep", way: "Way", location: "DataLocation", *, as_json: bool
) -> float:
    """Print what would be run, and return the seconds that it would take."""
    from debiasctl.sweeps.forecast import forecast_sweep

    note("measuring how long a step takes here")
    plan = forecast_sweep(sweep, stored, location, device=way.device, jobs=way.jobs)
    most = len(stored.arms) * (stored.looks or [len(stored.seeds)])[-1]
    runs = [run.name for _, _, run in sweep.runs(stored)]
    if as_json:
        print_json(
            {
                "name": sweep.name,
                "runs": runs,
                "done": plan.done,
                "most_runs": most,
                "at_once": plan.at_once,
                "hours": plan.seconds / 3600,
                "disk": plan.disk,
                "arms": [vars(arm) for arm in plan.arms],
                "sweep": stored.model_dump(mode="json"),
            }
        )
        return plan.seconds
    print_table(
        ("ARM", "PARAMETERS", "STEPS", "TRAINING", "SAMPLING"),
        [
            (arm.name, f"{arm.parameters:,}", f"{arm.num_steps:,}", rough(arm.training), rough(arm.sampling))
            for arm in plan.arms
        ],
        ruled=False,
    )
    measures = stored.evaluate
    counts = " and ".join(map(str, measures.steps))
    others = [arm.name for arm in stored.arms if arm.name != stored.reference]
    seeds = f"{len(stored.arms)} arms x {len(stored.seeds)} seeds"
    until = f"; seeds are added until the verdict is clear, up to {most} runs" if stored.looks else ""
    print_pairs(
        {
            "sweep": sweep.name,
            "runs": f"{plan.runs} ({seeds}), {plan.done} of them done{until}",
            "names": f"{runs[0]} … {runs[-1]}" if len(runs) > 1 else runs[0],
            "time": f"about {rough(plan.seconds)} here, {plan.at_once} at once (measured; evaluations come on top)",
            "disk": f"about {format_bytes(plan.disk)} more",
            "measured": f"{measures.num} images of each run in {counts} steps, {measures.sampler}",
            "compared": f"{', '.join(others)} against {stored.reference}" if others else "nothing: there is one arm",
            "decided by": f"{stored.primary or 'the primary metric of the data set'}, margin {100 * stored.margin:g} %",
        }
    )
    note("dry run: nothing was trained")
    return plan.seconds
