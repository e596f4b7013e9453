"""`debiasctl evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from debiasctl.cli.completion import complete_plugin, complete_run
from debiasctl.cli.output import note, print_json, print_table, show_log
from debiasctl.cli.sample import note_training, parse_batch_size, parse_steps

EXAMPLES = """[bold]Examples[/bold]

debiasctl evaluate digits-minsnr

debiasctl evaluate digits-minsnr --steps 10,20,50 --num 2000 --json

debiasctl evaluate digits-minsnr --features pixels --metrics fd_pixels"""


def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.", autocompletion=complete_run)],
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature extractor (default: local for data with classes, pixels without).",
            autocompletion=complete_plugin("features"),
        ),
    ] = None,
    metrics: Annotated[str | None, typer.Option(help="Only these metrics, separated by commas (default: all).")] = None,
    num: Annotated[int, typer.Option(min=2, help="Images to draw.")] = 1000,
    steps: Annotated[str, typer.Option(help="Sampling steps; several, separated by commas.")] = "50",
    sampler: Annotated[str, typer.Option(help="Sampler.", autocompletion=complete_plugin("samplers"))] = "ddim",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    checkpoint: Annotated[str | None, typer.Option(help="The checkpoint's step (default: the last).")] = None,
    weights: Annotated[str, typer.Option(help="ema, ema:LENGTH (see the command ema) or raw.")] = "ema",
    batch_size: Annotated[str, typer.Option(metavar="N", help="Images drawn at a time; auto: what fits.")] = "auto",
    precision: Annotated[str, typer.Option(help="The network's: fp32, bf16 or (on a GPU) fp16.")] = "fp32",
    data_dir: Annotated[Path | None, typer.Option(help="Where data sets lie (default: DEBIASCTL_DATA).")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Measure a run's samples against its data, beside the same figures for real held-out images (the floor)."""
    from debiasctl.cli.locations import data_location
    from debiasctl.runs import find_run

    found = find_run(run)
    step_counts, size = parse_steps(steps), parse_batch_size(batch_size)
    location = data_location(data_dir)
    show_log()
    spec = found.spec()
    from debiasctl.cli.progress import sampling_progress
    from debiasctl.evaluation.evaluate import evaluate as run_evaluation
    from debiasctl.sampling import make_request
    from debiasctl.training.setup import make_accelerator

    requests = [
        make_request(
            found,
            spec,
            num=num,
            num_steps=count,
            sampler=sampler,
            seed=seed,
            checkpoint=checkpoint,
            weights=weights,
            precision=precision,
        )
        for count in step_counts
    ]
    note_training(found, requests[0].step)
    with sampling_progress() as show:
        records = run_evaluation(
            found,
            spec,
            requests,
            location,
            features=features,
            metrics=None if metrics is None else [part.strip() for part in metrics.split(",") if part.strip()],
            device=make_accelerator(device).device,
            batch_size=size,
            on_progress=show,
        )
    if as_json:
        print_json(records)
    else:
        _print(records)


def _print(records: list[dict[str, Any]]) -> None:
    first = records[0]
    measured = first["measured"]
    print(
        f"run '{first['run']}', checkpoint {first['checkpoint']} ({measured['weights']} weights): "
        f"{measured['num']} images by {measured['sampler'].partition(':')[0]} "
        f"against {measured['reference_num']} training images of "
        f"{measured['dataset']}"
    )
    rows = []
    for record in records:
        for name, figure in record["metrics"].items():
            floor = "-" if figure["floor"] is None else f"{figure['floor']:.4g} (N {figure['floor_num']})"
            same = figure["value_at_floor_num"]
            rows.append(
                [
                    str(record["measured"]["steps"]),
                    str(record["nfe"]),
                    name,
                    f"{figure['value']:.4g}",
                    "-" if same is None else f"{same:.4g}",
                    floor,
                    figure["better"],
                ]
            )
    print_table(["steps", "NFE", "metric", f"N {measured['num']}", "at floor's N", "floor", "better"], rows)
    for text in dict.fromkeys(text for record in records for text in record["notes"]):
        note(f"note: {text}")
