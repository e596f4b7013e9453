"""The folder by which a sweep's process and the hosts of its jobs talk; every machine has to see it."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from debiasctl.api import JobEvent
from debiasctl.api.files import parse_json

Wish = Literal["runs", "stop", "kill"]

_ALIVE = "alive"  # a word of four letters, written again and again while the sweep's process lives
_BEAT = 5.0  # seconds between two beats
_PATIENCE = 300.0  # seconds without a beat after which the sweep's process is taken for dead
_LAG = 10.0  # seconds until a new folder has reached every machine


@dataclass(frozen=True)
class Letters:
    """What has happened to a job since, and where the next reading begins."""

    events: list[JobEvent]
    offset: int


class Post:
    """A folder with the sweep's wish, and a file for each job in which its host writes events."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._beaten = 0.0

    @classmethod
    def open(cls, place: Path, name: str) -> "Post":
        """Make a folder; those of processes that have died are removed, and hosts that are left then stop."""
        for old in place.glob(f"{name}-*"):
            shutil.rmtree(old, ignore_errors=True)
        post = cls(Path(tempfile.mkdtemp(prefix=f"{name}-", dir=place.absolute())))
        post.ask("runs")
        return post

    def ask(self, wish: Wish) -> None:
        """Say what all hosts are to do. The file is overwritten in place: under NFS, a new one could be missed."""
        file = os.open(self.folder / _ALIVE, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.write(file, wish.encode())
            os.utime(file)
            os.fsync(file)
        finally:
            os.close(file)
        self._beaten = time.monotonic()

    def beat(self, wish: Wish) -> None:
        """Say it again if it is time to; the sweep's process lives."""
        if time.monotonic() - self._beaten >= _BEAT:
            self.ask(wish)

    def read(self, number: int, offset: int) -> Letters:
        """The events of a job from an offset on, in whole lines."""
        try:
            with open(self._file(number), "rb") as stream:
                stream.seek(offset)
                data = stream.read()
        except FileNotFoundError:
            return Letters([], offset)
        whole = data[: data.rfind(b"\n") + 1]
        return Letters([JobEvent(**parse_json(line)) for line in whole.splitlines()], offset + len(whole))

    def is_silent(self, number: int) -> bool:
        """Whether a job's host, which looks at the sweep's wish every second, has not done so for minutes."""
        try:
            heard, beaten = self._file(number).stat().st_mtime, (self.folder / _ALIVE).stat().st_mtime
        except OSError:  # it has not begun; or of the network, and the next look decides
            return False
        return beaten - heard > _PATIENCE

    # what a host does

    def is_seen(self) -> bool:
        """Whether this machine sees the folder; a new one may need a moment to reach it."""
        deadline = time.monotonic() + _LAG
        while not (self.folder / _ALIVE).is_file():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.5)
        return True

    def write(self, number: int, event: JobEvent) -> None:
        """Add an event of a job; where the folder is gone, nobody reads it."""
        with suppress(OSError), open(self._file(number), "ab", buffering=0) as stream:
            stream.write(json.dumps(vars(event)).encode() + b"\n")

    def wish(self, number: int) -> Wish:
        """What the sweep's process wants: "stop" too if it has died, as the file system's own clock says."""
        try:
            with open(self.folder / _ALIVE, "rb") as stream:
                word, beaten = stream.read().decode(), os.fstat(stream.fileno()).st_mtime
            self._file(number).touch()
            if self._file(number).stat().st_mtime - beaten > _PATIENCE:
                return "stop"
        except FileNotFoundError:
            return "stop"
        except OSError:  # of the network, perhaps; the next look decides
            return "runs"
        return "kill" if word == "kill" else "stop" if word == "stop" else "runs"

    def _file(self, number: int) -> Path:
        return self.folder / f"job-{number}.jsonl"


def outcome_of(answer: Mapping[str, Any]) -> "Outcome":
    """What a host returned."""
    event = answer["event"]
    return Outcome(None if event is None else JobEvent(**event), answer["unfit"])


@dataclass(frozen=True)
class Outcome:
    """How a job ended on another machine: its event, or why no job of the sweep can run on that machine.

    There is neither if it was not begun, because the sweep's process asked hosts to stop or has died.
    """

    event: JobEvent | None = None
    unfit: str | None = None

    def answer(self) -> dict[str, Any]:
        """The outcome as a host returns it."""
        return {"event": None if self.event is None else vars(self.event), "unfit": self.unfit}
