"""Strips: a row for each run, a column for each number of steps, all drawn from one noise (2310.08442, Fig. 1)."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from debiasctl.errors import UsageError
from debiasctl.reporting import pictures
from debiasctl.runs.store import Run
from debiasctl.sampling.drawing import OnImages
from debiasctl.sampling.networks import Networks
from debiasctl.sampling.request import SampleRequest
from debiasctl.sampling.samples import Samples, sample
from debiasctl.specs.sections import RunSpec

Columns = Literal["steps", "noises"]
Shown = Callable[[str], AbstractContextManager[OnImages]]


@dataclass(frozen=True)
class Row:
    """One run and its requests, which differ in the number of steps alone."""

    run: Run
    spec: RunSpec
    requests: Sequence[SampleRequest]


def check_rows(rows: Sequence[Row]) -> None:
    """Refuse runs that cannot start from one noise.

    Raises:
        UsageError: if their images differ in size or channels, or a run is given twice.
    """
    shapes = {}
    for row in rows:
        if row.run.path in (other.run.path for other in rows if other is not row):
            raise UsageError(f"run '{row.run.name}' is given twice. Give each run once")
        content = row.run.content(row.spec)
        shapes[row.run.name] = f"{content.channels}x{content.image_size}x{content.image_size}"
        if content.latents is not None:
            shapes[row.run.name] += f" as latents {'x'.join(map(str, content.trained_shape))}"
    if len(set(shapes.values())) > 1:
        found = ", ".join(f"'{name}' {shape}" for name, shape in shapes.items())
        raise UsageError(f"one noise needs images of one shape, and these runs' differ: {found}")


def draw_rows(
    rows: Sequence[Row], *, device: torch.device, batch_size: int | None, showing: Shown
) -> list[list[Samples]]:
    """The images of every run and number of steps, each kept in its run's folder like any other samples.

    `showing(what)` gives a block's `on_progress`.
    """
    drawn = []
    for row in rows:
        cells, networks = [], Networks()
        for request in row.requests:
            with showing(f"{row.run.name}, {request.num_steps} steps") as show:
                cells.append(
                    sample(
                        row.run, row.spec, request,
                        device=device, batch_size=batch_size, on_progress=show, networks=networks,
                    )
                )  # fmt: skip
        drawn.append(cells)
    return drawn


def save_strips(
    path: Path,
    rows: Sequence[Row],
    drawn: Sequence[Sequence[Samples]],
    *,
    columns: Columns = "steps",
    scale: int | None = None,
) -> None:
    """Write one picture of all strips, in the format of the path's ending.

    With `columns="steps"` there is a strip for each noise, with a row for each run and a column for each number of
    steps; with "noises" a strip for each number of steps, with a row for each run and a column for each noise. `scale`
    is the whole factor by which images are enlarged.
    """
    requests = rows[0].requests
    counts = [str(request.num_steps) for request in requests]
    names = [row.run.name for row in rows]
    if columns == "steps":
        images = [[cell.images[index] for cell in cells] for index in range(requests[0].num) for cells in drawn]
        grid = pictures.labelled_grid(
            images,
            row_names=names * requests[0].num,
            column_names=counts,
            caption="steps",
            group=len(rows),
            scale=scale,
        )
    else:
        images = [list(cells[number].images) for number in range(len(counts)) for cells in drawn]
        row_names = [f"{name}, {count}" if len(names) > 1 else count for count in counts for name in names]
        caption = "run, steps" if len(names) > 1 else "steps"
        grid = pictures.labelled_grid(images, row_names=row_names, caption=caption, group=len(rows), scale=scale)
    grid.save(path)
