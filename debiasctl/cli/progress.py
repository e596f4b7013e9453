"""Progress on stderr: a live bar on a terminal, plain lines otherwise."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from debiasctl.cli.output import note

if TYPE_CHECKING:
    from debiasctl.training.loop import Progress


@contextmanager
def training_progress() -> Iterator[Callable[["Progress"], None]]:
    """Shows step, loss, images/s and the time left."""
    if not sys.stderr.isatty():
        yield _plain
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("training"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TextColumn("{task.fields[speed]:,.0f} images/s"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None, loss=float("nan"), speed=0.0)

        def show(progress: "Progress") -> None:
            bar.update(
                task,
                total=progress.num_steps,
                completed=progress.step,
                loss=progress.loss,
                speed=progress.images_per_second,
            )

        yield show


def _plain(progress: "Progress") -> None:
    if progress.logged:
        left = progress.num_steps - progress.step
        seconds = left * progress.images_per_step / max(progress.images_per_second, 1e-9)
        _say(
            f"step {progress.step}/{progress.num_steps}  loss {progress.loss:.4f}  "
            f"{progress.images_per_second:,.0f} images/s  {_duration(seconds)} left"
        )


def _say(text: str) -> None:
    """Print a line to stderr; if the pipe is closed, training continues without output."""
    try:
        note(text)
    except BrokenPipeError:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it is stderr from here on


@contextmanager
def counting_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `done` of `all` of something, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, total=total, completed=done)


@contextmanager
def sampling_progress(what: str = "sampling") -> Iterator[Callable[[float, int], None]]:
    """As `images_progress`, for a single activity."""
    with images_progress() as show:
        yield lambda done, total: show(what, done, total)


@contextmanager
def images_progress() -> Iterator[Callable[[str, float, int], None]]:
    """Shows an activity, images done of all, images/s and the time left, from the first call; on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[images]} images"),
        TextColumn("{task.fields[speed]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    ]
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None, images="0", speed="")

    def show(what: str, done: float, total: int) -> None:
        bar.start()  # not before: the note on the batch size would stand in the bar's line
        if bar.tasks[0].description != what:
            bar.reset(task, description=what, images="0", speed="")
        bar.update(task, total=total, completed=done, images=f"{int(done)}/{total}")
        speed = bar.tasks[0].speed
        bar.update(task, speed=f"{speed:,.3g} images/s" if speed else "")

    try:
        yield show
    finally:
        bar.stop()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
