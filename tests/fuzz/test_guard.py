"""The guard of the fuzzed cases notices what it is there for."""

import io
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import guard
import pytest
from guard import Broken, call, check, watched
from tiny import Outcome

from debiasctl.errors import UsageError


def test_one_message_and_nothing_else_is_let_through() -> None:
    check(Outcome(0, "done\n", "a note\n"))
    check(Outcome(2, "", "a note\nerror: there is no run 'x'\n"))
    check(Outcome(2, "", "Usage: debiasctl\n╭─ Error ─╮\n│ no │\n"))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(3, "", "error: x\n"),
        Outcome(-1, "", "Traceback (most recent call last):\n"),
        Outcome(1, "", "error: KeyError: 3\nThis looks like a bug\n"),
        Outcome(1, "", ""),
        Outcome(1, "", "error: one\nerror: two\n"),
        Outcome(1, "", "error: \n"),
        Outcome(1, "", "error: " + "x" * 5_000),
        Outcome(0, "", "a\x1b[31m"),
        Outcome(0, "", "Exception ignored in: <file>\n"),
    ],
)
def test_other_ends_are_not(outcome: Outcome) -> None:
    with pytest.raises(Broken):
        check(outcome)


def test_an_error_of_ours_is_a_message_and_any_other_breaks_the_property() -> None:
    def refuse() -> None:
        raise UsageError("no")

    assert call(lambda: 3) == (3, "")
    assert call(refuse) == (None, "no")
    with pytest.raises(Broken, match="ZeroDivisionError"):
        call(lambda: 1 / 0)


def test_writes_outside_are_seen_and_those_inside_are_not(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    with watched(inside):
        (inside / "a").write_text("x")
        (inside / "a").rename(inside / "b")
        Path(__file__).read_bytes()
    for write in (
        lambda: outside.write_text("x"),
        lambda: (tmp_path / "folder").mkdir(),
        lambda: (inside / "b").rename(outside),
        lambda: os.symlink("x", tmp_path / "link"),
        lambda: (inside / ".." / "other").write_text("x"),
    ):
        with pytest.raises(Broken, match="outside"), watched(inside):
            write()


def test_code_that_a_file_brings_is_seen() -> None:
    data = pickle.dumps(Outcome(0, "", ""))
    with pytest.raises(Broken, match="find_class"), watched():
        pickle.load(io.BytesIO(data))


def test_time_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "WALL_SECONDS", 0.05)
    with pytest.raises(Broken, match="more than"), watched():
        time.sleep(5)
    monkeypatch.setattr(guard, "WALL_SECONDS", 300)
    monkeypatch.setattr(guard, "CPU_SECONDS", 0.05)
    with pytest.raises(Broken, match="computing"), watched():
        sum(iter(lambda: 1, 0))
    monkeypatch.setattr(guard, "CPU_SECONDS", 30)
    assert signal.getitimer(signal.ITIMER_PROF)[0] == 0


def test_memory_is_limited_in_a_process_whose_own_does_not_hide_it() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import guard; guard.MEMORY = 50 * 2**20\n"
        "with guard.watched():\n    bytearray(b'x') * (400 * 2**20)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code, str(here), str(here.parent)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "it took 0.4 GiB" in done.stderr
