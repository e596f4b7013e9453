"""`debiasctl sample`."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from debiasctl.cli import options
from debiasctl.cli.completion import complete_values
from debiasctl.cli.launch import launch_all, rank
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import option, parse_batch_size, parse_steps
from debiasctl.cli.output import note, print_json, say, show_log
from debiasctl.cli.sample_pictures import PICTURES, Look, check_look, check_out, write, write_trajectory
from debiasctl.compute.memory import memory_reported
from debiasctl.errors import RunError, UsageError
from debiasctl.files import check_file
from debiasctl.wording import printable

if TYPE_CHECKING:
    import torch

    from debiasctl.sampling import Samples
    from debiasctl.sampling.description import Description
    from debiasctl.sampling.strip import Row

EXAMPLES = """[bold]Examples[/bold]

debiasctl sample digits-minsnr --out grid.png

debiasctl sample digits-minsnr --num 1000 --steps 20 --sampler ddim:eta=1 --out samples.npz

debiasctl sample digits-minsnr --class 7 --seed 3 --out sevens/

debiasctl sample digits-minsnr --num 4 --trajectory way.gif

debiasctl sample runA runB --same-noise --steps 2,3,4,5,10,50,100,500,1000 --out strip.png"""

_NUM, _STRIPS = 64, 1  # images, where --num does not say


def sample(
    context: typer.Context,
    runs: Annotated[list[str], options.run_argument("RUN...", "The run; or several, for a strip.")],
    num: Annotated[
        int | None, option("--num", "-n", min=1, help=f"Images to draw (default: {_NUM}; for a strip {_STRIPS}).")
    ] = None,
    steps: Annotated[str | None, options.SAMPLING_STEPS] = None,
    sampler: Annotated[str, options.SAMPLER] = "ddim",
    guide: Annotated[str | None, options.GUIDE] = None,
    seed: Annotated[int | None, options.SAMPLING_SEED] = None,
    class_: Annotated[
        str | None,
        option(
            "--class",
            argument="class_name",
            help="Draw this class only, by its name or as index:N (default: the data's mixture).",
        ),
    ] = None,
    checkpoint: Annotated[str | None, options.CHECKPOINT] = None,
    weights: Annotated[str, options.WEIGHTS] = "ema",
    batch_size: Annotated[str, options.SAMPLING_BATCH] = "auto",
    precision: Annotated[str, options.SAMPLING_PRECISION] = "fp32",
    compile_: Annotated[bool, option("--compile", help="Compile the network first (torch.compile).")] = False,
    processes: Annotated[int, options.PROCESSES] = 1,
    out: Annotated[
        Path | None,
        option(
            "--out",
            "-o",
            help="FILE.png, .jpg, .svg or .pdf: one grid or strip; FILE.npz: uint8 [N, H, W, C] and labels (replaced); "
            "else a new folder of PNGs.",
        ),
    ] = None,
    same_noise: Annotated[
        bool, option("--same-noise", help="A strip: rows by run, columns by steps, all from one noise.")
    ] = False,
    trajectory: Annotated[
        Path | None,
        option(
            "--trajectory",
            metavar="FILE.png|.gif|...",
            help="Also show x_t and the estimate of x0 on the way, of up to 8 images.",
        ),
    ] = None,
    columns: Annotated[
        str | None,
        option(
            "--columns",
            help="Columns of a strip: steps (default), or noises.",
            autocompletion=complete_values("steps", "noises"),
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        int | None,
        option(
            "--scale",
            min=1,
            max=64,
            help="Enlarge images of a picture so many times (default: to about 48 pixels).",
            show_default=False,
        ),
    ] = None,
    labels: Annotated[bool, option("--labels", help="Write its class below each image of a grid.")] = False,
    device: Annotated[str, options.DEVICE] = "auto",
    as_json: Annotated[bool, options.AS_JSON] = False,
) -> None:
    """Draw images from a run; or a strip, from several runs or with several numbers of steps.

    They are kept in the run's folder, where `evaluate` finds them, and written to --out as well. An interrupted
    command resumes where it stopped when it is given again.
    """
    from debiasctl.cli.standing import named_run, note_guide, note_standing, pin_guide, pin_trained

    found = [named_run(run, quiet=processes > 1) for run in runs]
    given_counts, size = None if steps is None else parse_steps(steps), parse_batch_size(batch_size)
    num_counts = 1 if given_counts is None else len(given_counts)
    is_strip = len(found) > 1 or num_counts > 1
    _check_combination(len(found), num_counts, out=out, same_noise=same_noise, trajectory=trajectory)
    check_look(out, trajectory, columns=columns, scale=scale, labels=labels, is_strip=is_strip)
    if rank() == 0:
        check_out(out)
        if trajectory is not None:
            check_file(trajectory, argument="trajectory", endings=(*PICTURES, ".gif"))
        if out is not None and trajectory is not None and out.resolve() == trajectory.resolve():
            raise UsageError(f"--out and --trajectory both name {out}. Give each a file of its own")
        show_log()
    _check_sampler(sampler)
    pins = context.with_resource(ExitStack())
    pinned = [str(pin_trained(run, checkpoint, pins)) for run in found]  # refused, if at all, before torch is imported
    guides = [None if guide is None else pin_guide(guide, run, pins) for run in found]
    from debiasctl.compute.device import make_accelerator
    from debiasctl.compute.processes import agreed
    from debiasctl.sampling import default_steps, make_request
    from debiasctl.sampling.strip import Row, check_rows

    rows = []
    specs = [run.spec() for run in found]
    step_counts = given_counts or [default_steps(specs)]
    seed = specs[0].training.seed if seed is None else seed  # one noise for all rows of a strip
    for run, spec, chosen, guided in zip(found, specs, pinned, guides, strict=True):
        requests = [
            make_request(
                run, spec, num=num or (_STRIPS if is_strip else _NUM), num_steps=count, sampler=sampler, seed=seed,
                checkpoint=chosen, weights=weights, class_name=class_, precision=precision, compile=compile_,
                guide=guided,
            )
            for count in step_counts
        ]  # fmt: skip
        rows.append(Row(run, spec, requests))
    check_rows(rows)
    if labels and not specs[0].model.conditional:
        raise UsageError("--labels names the classes, and this run's model was trained without them")
    if processes > 1:
        launch_all(processes, device=device)
    place = make_accelerator(device).device
    # a run in training may write a checkpoint at any moment
    rows = [replace(row, requests=agreed(row.requests)) for row in rows]
    for row in rows:
        note_standing(row.run, row.spec, row.requests[0].step)
        note_guide(row.requests[0].guide)
        if rank() == 0 and (text := _average_note(row)):
            note(f"note: run '{row.run.name}': {with_options(text)}")
    look = Look(columns or "steps", scale, labels=labels)
    with memory_reported(RunError, "while sampling", advice="Choose a smaller `batch_size` or `num`"):
        if is_strip:
            _strip(rows, out, look, device=place, batch_size=size, as_json=as_json)
        else:
            _one(rows[0], out, trajectory, look, device=place, batch_size=size, as_json=as_json)


def _average_note(row: "Row") -> str | None:
    from debiasctl.models.initial_share import reached_note

    request, spec = row.requests[0], row.spec
    return reached_note(request.weights, spec.ema, request.step, batch_size=spec.training.batch_size)


def _check_sampler(sampler: str) -> None:
    """Refuse, before torch is imported, a sampler that does not exist."""
    from debiasctl import registry

    registry.find("samplers", registry.as_ref(sampler).name)


def _check_combination(
    num_runs: int, num_steps: int, *, out: Path | None, same_noise: bool, trajectory: Path | None
) -> None:
    """Refuse options that contradict each other or would have no effect."""
    if num_runs == num_steps == 1:
        if same_noise:
            raise UsageError("--same-noise sets runs or numbers of steps side by side. Give several: --steps 5,10,50")
        return
    if trajectory is not None:
        raise UsageError("--trajectory shows one run and one number of steps. Give one RUN and one of --steps")
    if num_runs > 1 and not same_noise:
        raise UsageError("several runs are drawn from one noise, as a strip. Say so: --same-noise --out strip.png")
    if out is None or out.suffix.lower() not in PICTURES:
        raise UsageError("several runs or numbers of steps make one strip. Say where to write it: --out strip.png")


def _one(
    row: "Row",
    out: Path | None,
    way: Path | None,
    look: Look,
    *,
    device: "torch.device",
    batch_size: int | None,
    as_json: bool,
) -> None:
    from debiasctl import sampling
    from debiasctl.cli.progress import sampling_progress

    (request,) = row.requests
    with sampling_progress() as show:
        drawn = sampling.sample(row.run, row.spec, request, device=device, batch_size=batch_size, on_progress=show)
    if rank() > 0:
        return
    if out is not None:
        write(out, drawn, look)
    if way is not None:
        write_trajectory(way, row, request, look, device=device)
    _report(drawn, row, out, way, as_json=as_json)


def _strip(
    rows: "list[Row]", out: Path | None, look: Look, *, device: "torch.device", batch_size: int | None, as_json: bool
) -> None:
    from debiasctl.cli.progress import sampling_progress
    from debiasctl.sampling.strip import draw_rows, save_strips

    assert out is not None, "a strip has a place"
    drawn = draw_rows(rows, device=device, batch_size=batch_size, showing=sampling_progress)
    if rank() > 0:
        return
    save_strips(out, rows, drawn, columns="noises" if look.columns == "noises" else "steps", scale=look.scale)
    cells = [cell for row in drawn for cell in row]
    if as_json:
        described = [_described(cell, row) for row, line in zip(rows, drawn, strict=True) for cell in line]
        print_json({"out": str(out.absolute()), "cells": described})
        return
    first = cells[0].description
    say(
        f"{first.num} x {len(rows)} x {len(drawn[0])} images (noise x run x steps), {first.sampler.name}, "
        f"seed {first.seed}{_class_of(first)}{_guided(rows[0])}, {sum(cell.reused for cell in cells)} of {len(cells)} "
        "sets reused from an earlier command"
    )
    say(out.absolute())


def _class_of(about: "Description") -> str:
    """Which class was drawn, if it was one."""
    return "" if about.label is None else f", class '{printable(about.classes[about.label])}' (index {about.label})"


def _guided(row: "Row") -> str:
    """By which network sampling was guided, if by one."""
    guide = row.requests[0].guide
    return "" if guide is None else f", guided by {printable(str(guide))}"


def _described(drawn: "Samples", row: "Row") -> dict[str, Any]:
    from debiasctl.models.initial_share import share_in

    about = drawn.description
    ema, size = row.spec.ema, row.spec.training.batch_size
    share = None if row.spec.imported is not None else share_in(about.weights, ema, about.step, batch_size=size)
    return {
        "guide": None,
        **about.to_json(),
        "folder": str(drawn.folder),
        "reused": drawn.reused,
        "ema_initial_share": share,
    }


def _report(drawn: "Samples", row: "Row", out: Path | None, way: Path | None, *, as_json: bool) -> None:
    if as_json:
        places = {"out": out, "trajectory": way}
        written = {name: None if path is None else str(path.absolute()) for name, path in places.items()}
        print_json(_described(drawn, row) | written)
        return
    about = drawn.description
    say(
        f"run '{row.run.name}': {about.num} images, {about.sampler.name}, {about.num_steps} steps ({about.nfe} NFE), "
        f"checkpoint {about.step}, {about.weights} weights{_class_of(about)}{_guided(row)}"
        f"{', drawn before' if drawn.reused else ''}"
    )
    say(out.absolute() if out is not None else drawn.folder / "images.npz")
    if way is not None:
        say(way.absolute())
