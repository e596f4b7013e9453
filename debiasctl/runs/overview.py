"""What an overview shows of a run beside its status: the newest figures of its training, its best distance, its size.

Everything is read from the small part of a file that holds it, without torch, and only when it is asked for.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from debiasctl.errors import RunError
from debiasctl.reading.documents import parse_json
from debiasctl.reading.regular import open_regular, read_bytes
from debiasctl.runs.filters import Facts
from debiasctl.runs.labels import Labels
from debiasctl.runs.listing import RunSummary
from debiasctl.runs.parts import EVALUATIONS, METRICS, folder_size
from debiasctl.runs.status import RUN
from debiasctl.runs.store import Run

_TAILS = (2**14, 2**17, 2**20)  # bytes from the end of the metrics in which the last record of training is sought
_HEAD = 4096  # bytes of an evaluation, in which its first metric stands
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"
_BEST = re.compile(
    rf'^  "metrics": \{{\s*"(?P<metric>fid|fd_[^"\\]+)": \{{\s*"value": (?P<value>{_NUMBER}),\s*"num": [0-9]+,'
    rf'\s*"corrected": (?P<corrected>{_NUMBER}|null),',
    re.MULTILINE,
)
_PIXELS = "fd_pixels"
_ROUNDING = 1e-6  # of a distance of equal sets


@dataclass(frozen=True)
class Latest:
    """The last record of training: its step, and the means and the speed that it states."""

    step: int
    images: int
    loss: float
    images_per_second: float


@dataclass(frozen=True)
class Best:
    """The lowest distance of a run's evaluations, corrected for the number of images where it can be."""

    metric: str
    value: float
    steps: int | None
    checkpoint: int | None
    evaluation: str  # its key


class Overview(Facts):
    """A line of a listing, with what else is known of the run, each read when it is first asked."""

    def __init__(self, summary: RunSummary) -> None:
        super().__init__(Run(summary.path), summary.status)
        self.summary = summary
        self.problems: list[str] = [] if summary.problem is None else [summary.problem]

    @property
    def is_damaged(self) -> bool:
        """Whether nothing but the name can be told."""
        return self.summary.status is None

    @cached_property
    def shown_labels(self) -> Labels:
        """The run's tags and note; none where they cannot be read, which `problems` then says."""
        try:
            return self.labels
        except RunError as error:
            self.problems.append(str(error))
            return Labels()

    @cached_property
    def latest(self) -> Latest | None:
        """The newest figures of training; None where there are none, or where they are not this run's."""
        return None if self.is_damaged else _latest(self)

    @cached_property
    def best(self) -> Best | None:
        """The lowest distance in features, or else in pixels, of the evaluations that are this run's."""
        return None if self.is_damaged else _best(self)

    @cached_property
    def disk(self) -> int:
        """The bytes in the run's folder."""
        return folder_size(self.run.path)

    @property
    def step(self) -> int | None:
        """How far the run is: while it is trained, its figures are newer than its status."""
        if self.is_damaged:
            return None
        running = self.latest if self.status.state == "training" else None
        return self.status.step if running is None else max(self.status.step, running.step)

    @property
    def seconds_left(self) -> float | None:
        """How long the training will take at the speed of its last record; None where it is not running."""
        latest = self.latest if self.summary.state == "training" else None
        if latest is None or latest.images_per_second <= 0 or latest.step <= 0:
            return None
        steps = max(0, self.status.num_steps - latest.step)
        return steps * latest.images / latest.step / latest.images_per_second


def _latest(one: Overview) -> Latest | None:
    try:
        with open_regular(one.run.path / METRICS) as stream:
            size = stream.seek(0, os.SEEK_END)
            for tail in _TAILS:
                stream.seek(max(0, size - tail))
                lines = stream.read(tail).split(b"\n")[:-1]  # what follows the last end of a line is being written
                for line in reversed(lines if tail >= size else lines[1:]):
                    if b'"train"' in line and (found := _parse_latest(line, one)) is not None:
                        return found
                if tail >= size:
                    return None
    except (OSError, ValueError):
        pass  # `runs show` and a resume say what is wrong with it
    return None


def _parse_latest(line: bytes, one: Overview) -> Latest | None:
    raw = parse_json(line)
    if not isinstance(raw, dict) or raw.get("kind") != "train" or raw.get(RUN, one.identity) != one.identity:
        return None
    step, images = _count(raw.get("step")), _count(raw.get("images"))
    loss, speed = _real(raw.get("loss")), _real(raw.get("images_per_second"))
    if step is None or images is None or loss is None or speed is None:
        return None
    return Latest(step, images, loss, speed)


def _best(one: Overview) -> Best | None:
    found = [best for name in _evaluations(one.run) if (best := _distance(one, name)) is not None]
    found = [best for best in found if best.metric != _PIXELS] or found
    return min((best for best in found if best.metric == found[0].metric), key=lambda one: one.value, default=None)


def _evaluations(run: Run) -> list[str]:
    """The names of the records, the newest first."""
    try:
        with os.scandir(run.path / EVALUATIONS) as entries:
            named = [entry for entry in entries if entry.name.endswith(".json") and not entry.name.startswith(".")]
            dated = sorted((-entry.stat(follow_symlinks=False).st_mtime_ns, entry.name) for entry in named)
    except OSError:
        return []
    return [name for _, name in dated]


def _distance(one: Overview, name: str) -> Best | None:
    """The first distance of a record: from its beginning as `evaluate` writes it, or else from the whole of it."""
    path = os.path.join(one.run.path, EVALUATIONS, name)
    try:
        with open_regular(path) as stream:
            head = stream.read(_HEAD).decode("utf-8", errors="replace")
        match = _BEST.search(head)
        raw = {} if match is None else parse_json(head[: match.start()].rstrip().removesuffix(",") + "}")
        if match is not None and {"run_identity", "checkpoint", "measured"} <= raw.keys():
            figure = {name: parse_json(match[name]) for name in ("value", "corrected")}
            raw["metrics"] = {match["metric"]: figure}
        else:
            raw = parse_json(read_bytes(path))
        return _best_in(raw, one, name.removesuffix(".json"))
    except (OSError, ValueError, RecursionError):
        return None  # `compare` says what is wrong with it


def _best_in(raw: Any, one: Overview, key: str) -> Best | None:
    if not isinstance(raw, dict) or raw.get("run_identity") != one.identity:
        return None
    measured, metrics = raw.get("measured"), raw.get("metrics")
    if not isinstance(measured, Mapping) or not isinstance(metrics, Mapping):
        return None
    checkpoint, steps = raw.get("checkpoint"), measured.get("steps")
    for metric, figure in metrics.items():
        if (metric == "fid" or metric.startswith("fd_")) and isinstance(figure, Mapping):
            measured_value, value = _real(figure.get("value")), _real(figure.get("corrected"))
            if measured_value is None or measured_value < -_ROUNDING:
                continue  # no distance is below 0, but for rounding; only a corrected one may be
            return Best(metric, measured_value if value is None else value, _count(steps), _count(checkpoint), key)
    return None


def _count(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None


def _real(value: Any) -> float | None:
    return float(value) if type(value) is float or _count(value) is not None else None
