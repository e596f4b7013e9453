"""`debiasctl sample`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli.completion import complete_plugin, complete_run
from debiasctl.cli.output import note, print_json
from debiasctl.errors import UsageError

if TYPE_CHECKING:
    from debiasctl.runs import Run

EXAMPLES = """[bold]Examples[/bold]

debiasctl sample digits-minsnr --out grid.png

debiasctl sample digits-minsnr --num 1000 --steps 20 --sampler ddim:eta=1 --out samples.npz

debiasctl sample digits-minsnr --class 7 --seed 3 --out sevens/"""


_NOT_WRITTEN = (".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".zip", ".tar", ".npy", ".pt", ".csv")


def sample(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The run.", autocompletion=complete_run)],
    num: Annotated[int, typer.Option(min=1, help="Images to draw.")] = 64,
    steps: Annotated[int, typer.Option(min=1, help="Sampling steps.")] = 50,
    sampler: Annotated[str, typer.Option(help="Sampler.", autocompletion=complete_plugin("samplers"))] = "ddim",
    seed: Annotated[int, typer.Option(min=0, help="Image i depends on (seed, i) alone.")] = 0,
    class_: Annotated[
        str | None, typer.Option("--class", help="Draw this class only (default: the data's mixture).")
    ] = None,
    checkpoint: Annotated[str | None, typer.Option(help="The checkpoint's step (default: the last).")] = None,
    weights: Annotated[str, typer.Option(help="ema, ema:LENGTH (see the command ema) or raw.")] = "ema",
    batch_size: Annotated[int, typer.Option(min=1, help="Images drawn at a time.")] = 256,
    out: Annotated[
        Path | None,
        typer.Option(
            help="FILE.png: one grid; FILE.npz: uint8 [N, H, W, C] and labels (replaced); else a new folder of PNGs."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Draw images from a run.

    They are kept in the run's folder, where `evaluate` finds them, and written to --out as well.
    """
    from debiasctl.runs import find_run

    found = find_run(run)
    _check_out(out)
    spec = found.spec()
    from debiasctl import sampling
    from debiasctl.cli.progress import counting_progress
    from debiasctl.training.setup import make_accelerator

    request = sampling.make_request(
        found,
        spec,
        num=num,
        num_steps=steps,
        sampler=sampler,
        seed=seed,
        checkpoint=checkpoint,
        weights=weights,
        class_name=class_,
    )
    note_training(found, request.step)
    with counting_progress("sampling") as show:
        drawn = sampling.sample(
            found,
            spec,
            request,
            device=make_accelerator(device).device,
            batch_size=batch_size,
            on_progress=show,
        )
    if out is not None:
        _write(out, drawn)
    _report(drawn, out, as_json=as_json)


def note_training(run: "Run", step: int) -> None:
    """Say that a run is still being trained, and which checkpoint is looked at."""
    if run.is_training():
        note(f"note: run '{run.name}' is being trained; this is its step {step}")


def _check_out(out: Path | None) -> None:
    """Refuse, before any work, an --out that could not be written."""
    if out is None:
        return
    if out.suffix.lower() in (".png", ".npz"):
        if out.is_dir():
            raise UsageError(f"--out {out} is a folder. Give a file's name ending in .png or .npz, or a new folder's")
    elif out.suffix.lower() in _NOT_WRITTEN:
        raise UsageError(f"--out {out}: write FILE.png (one grid), FILE.npz, or the name of a new folder for PNGs")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} exists and is not empty. Choose another name, or remove it first")


def _write(out: Path, drawn: Any) -> None:
    from debiasctl import pictures, sampling

    kind = out.suffix.lower()
    if kind == ".png":
        pictures.save_grid(out, drawn.images)
    elif kind == ".npz":
        sampling.save_npz(out, drawn.images, drawn.labels)
    else:
        pictures.save_folder(out, drawn.images, drawn.labels, classes=tuple(drawn.description["classes"]))


def _report(drawn: Any, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                **drawn.description,
                "folder": str(drawn.folder),
                "out": None if out is None else str(out.absolute()),
                "reused": drawn.reused,
            }
        )
        return
    about = drawn.description
    print(
        f"{about['num']} images, {about['sampler']['name']}, {about['num_steps']} steps ({about['nfe']} NFE), "
        f"checkpoint {about['step']}, {about['weights']} weights{', drawn before' if drawn.reused else ''}"
    )
    print(out.absolute() if out is not None else drawn.folder / "images.npz")
