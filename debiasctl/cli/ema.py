"""`debiasctl ema`."""

from typing import Annotated

from debiasctl.cli import options
from debiasctl.cli.options import option
from debiasctl.cli.output import note, print_json, print_table, say

EXAMPLES = """[bold]Examples[/bold]

debiasctl ema digits-power --length 0.05,0.10,0.15

debiasctl ema digits-power --length 0.2 --step 4000 --json

debiasctl sample digits-power --weights ema:0.15"""


def ema(
    run: Annotated[str, options.RUN],
    length: Annotated[
        str,
        option(
            "--length",
            help="Length of the average: its profile's standard deviation relative to the training time; several, "
            "separated by commas.",
        ),
    ],
    step: Annotated[
        int | None,
        option("--step", min=1, help="After this step (default: the last checkpoint's).", show_default=False),
    ] = None,
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Reconstruct averages of the weights, of any length, from the snapshots that training kept.

    For runs trained with --set ema.kind=power (EDM2, arXiv 2312.02696). The averages are stored in the run's folder;
    use one with --weights ema:LENGTH.
    """
    from debiasctl.cli.standing import named_run

    found = named_run(run)
    from debiasctl.models.posthoc_ema import store_average
    from debiasctl.models.power_profiles import length_name, parse_length

    lengths = list(dict.fromkeys(parse_length(part, argument="length") for part in length.split(",")))
    made = [store_average(found, one, step=step) for one in lengths]
    if as_json:
        print_json({"averages": [{**vars(average), "path": str(average.path)} for average in made]})
        return
    rows = [
        [length_name(average.length), str(average.step), str(average.num_snapshots), f"{average.residual:.1e}"]
        for average in made
    ]
    print_table(["length", "step", "snapshots", "residual"], rows)
    for average in made:
        say(average.path)
    last, steps = made[-1], found.checkpoint_steps()
    if last.step in steps:  # the step of the sampler's labels and name comes from a checkpoint
        chosen = "" if last.step == steps[-1] else f" --checkpoint {last.step}"
        note(f"next: debiasctl sample {found.typed} --weights ema:{length_name(last.length)}{chosen}")
