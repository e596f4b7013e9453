"""The live overview of a sweep: a table on a terminal, and lines at a steady pace elsewhere."""

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from debiasctl.api.pace import Pace
from debiasctl.cli.output import note
from debiasctl.wording import format_duration, format_rate, printable

if TYPE_CHECKING:
    from debiasctl.sweeps.progress import RunProgress

_ROWS = 16  # runs that a table shows at most, those that something happens to first
_REDRAW = 0.5  # seconds between two tables
_STYLES = {"training": "cyan", "measuring": "magenta", "done": "green", "failed": "red", "interrupted": "yellow"}
_ORDER = ("training", "measuring", "failed", "interrupted", "waiting", "done")


@contextlib.contextmanager
def overview(name: str, *, at_once: Callable[[], int]) -> Iterator[Callable[[Sequence["RunProgress"]], None]]:
    """Shows every run: its state, step, speed and time left, and the time left of all."""
    if not sys.stderr.isatty():
        lines = _Lines(name, at_once)
        yield lines.show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4, transient=True) as live:
        last = 0.0

        def show(runs: Sequence["RunProgress"]) -> None:
            nonlocal last
            if time.monotonic() - last >= _REDRAW:
                live.update(_table(name, runs, at_once()))
                last = time.monotonic()

        yield show


class _Lines:
    """A line now and then, and one whenever a run begins to train, is done or stops."""

    def __init__(self, name: str, at_once: Callable[[], int]) -> None:
        self._name, self._at_once = name, at_once
        self._pace, self._states = Pace(), dict[str, str]()

    def show(self, runs: Sequence["RunProgress"]) -> None:
        for one in runs:
            before = self._states.get(one.run.name)
            self._states[one.run.name] = one.state
            if before is not None and before != one.state and one.state in ("done", "interrupted"):
                note(f"{one.run.name}: {one.state} ({_done(runs)})")
                self._pace.reported()
        if self._pace.due():
            active = ", ".join(
                f"{one.run.name} {one.doing or f'step {one.step}/{one.num_steps}'}"
                for one in runs
                if one.state in ("training", "measuring")
            )
            parts = [_done(runs), *([active] if active else []), *_left(runs, self._at_once())]
            note(f"sweep '{self._name}': {'; '.join(parts)}")


def _done(runs: Sequence["RunProgress"]) -> str:
    return f"{sum(one.state == 'done' for one in runs)} of {len(runs)} runs done"


def _left(runs: Sequence["RunProgress"], at_once: int) -> list[str]:
    from debiasctl.sweeps.progress import seconds_left

    left = seconds_left(list(runs), at_once=at_once)
    return [] if left is None else [f"about {format_duration(left[0])} {'left' if left[1] else 'of training left'}"]


def _table(name: str, runs: Sequence["RunProgress"], at_once: int) -> Any:
    from rich.table import Table
    from rich.text import Text

    counts = Counter[str](one.state for one in runs)
    table = Table(box=None, title=f"sweep '{name}'", title_justify="left", caption_justify="left", pad_edge=False)
    for head in ("RUN", "STATE", "STEP", "IMAGES/S", "LEFT", ""):
        table.add_column(head, justify="right" if head in ("STEP", "IMAGES/S", "LEFT") else "left", no_wrap=True)
    shown = sorted(runs, key=lambda one: _ORDER.index(one.state))[:_ROWS]
    for one in [one for one in runs if one in shown]:
        left = one.seconds_left
        table.add_row(
            Text(printable(one.run.name)),
            Text(one.state, style=_STYLES.get(one.state, "")),
            f"{one.step}/{one.num_steps}",
            format_rate(one.images_per_second) if one.images_per_second > 0 and one.state == "training" else "",
            format_duration(left) if left and one.state == "training" else "",
            Text(printable(one.doing or (one.reason or "")[:60])),
        )
    others = f", {len(runs) - len(shown)} not shown" if len(shown) < len(runs) else ""
    states = ", ".join(f"{counts[state]} {state}" for state in _ORDER if counts[state])
    table.caption = "  ".join([f"{states}{others}", *_left(runs, at_once)])
    return table


def described(one: "RunProgress") -> dict[str, Any]:
    """A run of a sweep as JSON."""
    return {
        "name": one.run.name,
        "arm": one.arm,
        "seed": one.seed,
        "state": one.state,
        "step": one.step,
        "num_steps": one.num_steps,
        "images_per_second": one.images_per_second or None,
        "reason": one.reason,
        "failures": one.failures,
    }
