"""Progress on stderr: a live bar on a terminal, and lines at a steady pace elsewhere."""

import contextlib
import math
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from debiasctl.api.pace import Pace
from debiasctl.cli.launch import rank
from debiasctl.cli.output import note
from debiasctl.wording import format_duration, format_rate

if TYPE_CHECKING:
    from debiasctl.training.loop import Progress

_SILENCE = 60.0  # seconds without news, after which a line says that the work continues
_TOLD = 2.0  # seconds from which the end of an activity is worth a line


@contextlib.contextmanager
def training_progress() -> Iterator[Callable[["Progress"], None]]:
    """Shows the step, the loss once there is one, images/s, the time elapsed and the time left."""
    if not sys.stderr.isatty():
        with _lines() as lines:
            yield lines.training
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        BarColumn(bar_width=6),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed"),
        TextColumn("{task.fields[left]}"),
    ]
    bar = Bar(*columns, console=Console(stderr=True))
    task = bar.add_task("", total=None, figures="", left="")

    def show(progress: "Progress") -> None:
        figures, left = _figures(progress, is_first=not bar.tasks[0].completed)
        bar.update(task, total=progress.num_steps, completed=progress.step, figures="  ".join(figures), left=left)
        bar.start()  # not before the first step: there would be nothing to show

    try:
        yield show
    finally:
        bar.stop()


@contextlib.contextmanager
def counting_progress(what: str) -> Iterator[Callable[[float, int], None]]:
    """Shows the share of something that is done."""
    with _activities(unit="") as show:
        yield lambda done, total: show(what, done, total)


@contextlib.contextmanager
def analysis_progress() -> Iterator[Callable[[str, float, str], None]]:
    """Shows a job, what is being measured of it, the share that is done, and the time left."""
    if rank() > 0 or not sys.stderr.isatty():
        with _activities(unit="") as show:
            yield lambda what, done, text: show(what, done, 1)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    wide = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    columns = [
        TextColumn("{task.description}", table_column=wide, markup=False),
        BarColumn(bar_width=10),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    ]
    bar = Bar(*columns, console=Console(stderr=True), transient=True, expand=True)
    task = bar.add_task("", total=1, figures="", left="", what="", begun=0.0)

    def show_job(what: str, done: float, text: str) -> None:
        shown = bar.tasks[0]
        if shown.fields["what"] != what:
            bar.reset(task)
            shown.fields |= {"what": what, "begun": done}
        figures, left = _counted(done, 1, begun=shown.fields["begun"], elapsed=shown.elapsed or 0.0, unit="")
        bar.update(task, completed=done, description=f"{what}: {text}" if text else what, figures=figures, left=left)
        bar.start()

    try:
        yield show_job
    finally:
        bar.stop()


@contextlib.contextmanager
def sampling_progress(what: str = "sampling") -> Iterator[Callable[[float, int], None]]:
    """As `images_progress`, for a single activity."""
    with images_progress() as show:
        yield lambda done, total: show(what, done, total)


@contextlib.contextmanager
def images_progress() -> Iterator[Callable[[str, float, int], None]]:
    """Shows an activity, images done of all, images/s and the time left, from the first call.

    An activity without images has 0 of 0.
    """
    with _activities(unit="images") as show:
        yield show


@contextlib.contextmanager
def _activities(*, unit: str) -> Iterator[Callable[[str, float, int], None]]:
    if rank() > 0:
        yield lambda what, done, total: None
        return
    if not sys.stderr.isatty():
        with _lines(unit) as lines:
            yield lines.activity
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[figures]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed"),
        TextColumn("{task.fields[left]}"),
    ]
    bar = Bar(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task("", total=None, figures="", left="")

    def show(what: str, done: float, total: int) -> None:
        bar.start()  # not before: a note would stand in the bar's line
        shown = bar.tasks[0]
        if shown.description != what or done < shown.completed:
            bar.reset(task, description=what)
            bar.tasks[0].fields["begun"] = done
        elapsed, begun = shown.elapsed or 0.0, shown.fields.get("begun", 0.0)
        figures, left = _counted(done, total, begun=begun, elapsed=elapsed, unit=unit)
        bar.update(task, total=total or None, completed=done, figures=figures, left=left)

    try:
        yield show
    finally:
        bar.stop()


@contextlib.contextmanager
def _lines(unit: str = "") -> Iterator["_Lines"]:
    """Progress as lines, with one now and then where nothing is reported for long."""
    lines, over = _Lines(unit), threading.Event()

    def wait() -> None:
        while not over.wait(_SILENCE / 4):
            lines.break_silence()

    threading.Thread(target=wait, daemon=True).start()
    try:
        yield lines
    finally:
        over.set()


class _Lines:
    """Prints the state of the work in lines: at the beginning of each activity, at a steady pace, and at its end."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._what, self._begun, self._done = "", 0.0, -1.0
        self._pace = Pace()

    def training(self, progress: "Progress") -> None:
        """Print a step, if it is time to."""
        is_last = progress.step == progress.num_steps
        if self._what and not (self._pace.due() or is_last):
            return
        figures, left = _figures(progress, is_first=not self._what)
        self._what = f"step {progress.step}/{progress.num_steps}"
        times = [f"{format_duration(self._pace.elapsed)} elapsed", *([left] if left else [])]
        note("  ".join([self._what, *figures, ", ".join(times)]))
        self._pace.reported()

    def activity(self, what: str, done: float, total: int) -> None:
        """Print the state of an activity, if it is time to."""
        if what != self._what or done < self._done:
            self._what, self._begun, self._pace = what, done, Pace()
            note(f"{what}: {_amount(done, total, self._unit)}" if total and self._unit else what)
        elif self._pace.due() or (total and done >= total > self._done and self._pace.elapsed > _TOLD):
            elapsed = self._pace.elapsed
            figures, left = _counted(done, total, begun=self._begun, elapsed=elapsed, unit=self._unit)
            times = [f"{format_duration(elapsed)} elapsed", *([left] if left else [])]
            note("  ".join([what, *([figures] if figures else []), ", ".join(times)]))
        self._done = done

    def break_silence(self) -> None:
        """Say that the work continues, if nothing was printed for long."""
        if self._pace.silence > _SILENCE:
            self._pace.reported()
            note(f"{self._what or 'working'}: {format_duration(self._pace.elapsed)} elapsed")


def _figures(progress: "Progress", *, is_first: bool) -> tuple[list[str], str]:
    """The loss, once there is one, and the speed; and the time left, which the first step, a warm-up, does not tell."""
    figures = [] if math.isnan(progress.loss) else [f"loss {progress.loss:.4f}"]
    speed = progress.images_per_second
    if is_first or speed <= 0:
        return figures, ""
    figures.append(f"{format_rate(speed)} images/s")
    left = (progress.num_steps - progress.step) * progress.images_per_step / speed
    return figures, f"{format_duration(left)} left"


def _counted(done: float, total: int, *, begun: float, elapsed: float, unit: str) -> tuple[str, str]:
    """What is done and its speed; and the time left."""
    if not total:
        return "", ""
    speed = (done - begun) / elapsed if elapsed > 0 else 0.0
    figures = _amount(done, total, unit)
    if not speed:
        return figures, ""
    rate = f"  {speed:,.3g} {unit}/s" if unit else ""
    return f"{figures}{rate}", f"{format_duration((total - done) / speed)} left"


def _amount(done: float, total: int, unit: str) -> str:
    return f"{int(done)}/{total} {unit}" if unit else f"{100 * done / total:.0f} %"
