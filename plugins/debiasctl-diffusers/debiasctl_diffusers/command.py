"""`debiasctl export-diffusers`: a run as a pipeline that diffusers loads."""

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def export_diffusers(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run's name, the beginning of it, or its path.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write, which must not exist.")],
    weights: Annotated[
        str, typer.Option("--weights", help="ema, ema:LENGTH (an average of another length) or raw.")
    ] = "ema",
    checkpoint: Annotated[
        int | None, typer.Option("--checkpoint", metavar="STEP", help="The checkpoint's step.", show_default="last")
    ] = None,
    sampler: Annotated[
        str | None,
        typer.Option("--sampler", metavar="ddim|ddpm", help="Whose scheduler it has; ddpm with a learned variance."),
    ] = None,
    clip: Annotated[
        bool, typer.Option("--clip/--no-clip", help="Whether estimates of x0 are clipped to [-1, 1], as sample does.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write a run as a pipeline folder that diffusers' DiffusionPipeline.from_pretrained loads; prints its path.

    \b
    Examples:
      debiasctl export-diffusers digits-debiased-0 digits-pipeline
      debiasctl export-diffusers digits-debiased-0 digits-raw --weights raw --sampler ddpm
    """
    from debiasctl_diffusers.export import export

    found = export(run, folder.expanduser(), weights=weights, checkpoint=checkpoint, sampler=sampler, clip=clip)
    notes = [f"a {found.pipeline}; from the same noise, --sampler '{found.sampler}' draws the same here", *found.notes]
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "path": str(found.path.absolute()),
                    "pipeline": found.pipeline,
                    "sampler": found.sampler,
                    "notes": list(found.notes),
                }
            )
        )
        return
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(str(found.path.absolute()))
