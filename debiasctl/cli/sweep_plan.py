"""What `debiasctl sweep --dry-run` shows: the runs, the time and disk that they take, and what will be compared."""

from typing import TYPE_CHECKING

from debiasctl.cli.forecast import rough
from debiasctl.cli.output import note, print_json, print_pairs, print_table
from debiasctl.wording import format_bytes

if TYPE_CHECKING:
    from debiasctl.api import DataLocation
    from debiasctl.sweeps.conduct import Way
    from debiasctl.sweeps.store import StoredSweep, Sweep


def show_sweep_plan(
    sweep: "Sweep", stored: "StoredSweep", way: "Way", location: "DataLocation", *, as_json: bool
) -> None:
    """Print what would be run."""
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
        return
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
