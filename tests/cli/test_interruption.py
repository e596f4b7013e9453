"""A signal ends a command with one line, from its first moment on, and is acknowledged at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import OPTIONS

from debiasctl.cli import interruption
from debiasctl.compute.signals import StopSignals
from debiasctl.runs.store import Run

ENDS = {signal.SIGINT: "interrupted\n", signal.SIGTERM: "stopped by SIGTERM\n"}
# a module whose import is slow, in place of one that every command imports
SLOW = """
import time
try:
    open({mark!r}, "w").close()
    time.sleep(60)
except BaseException as error:
    raise RecursionError("as some packages say it") from error
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert path.exists()


def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "debiasctl", *arguments]
    return subprocess.Popen(
        command, env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("number", ENDS)
@pytest.mark.parametrize("module", ["typer", "accelerate"])
def test_a_signal_amid_an_import_is_one_line(module: str, number: signal.Signals, tmp_path: Path) -> None:
    mark = tmp_path / "importing"
    (tmp_path / f"{module}.py").write_text(SLOW.format(mark=str(mark)))
    with start("train", "digits", "--device", "cpu", "--steps", "1", PYTHONPATH=str(tmp_path)) as process:
        wait_for(mark)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", ENDS[number])


@pytest.mark.parametrize(
    "place", ["threading.Thread.start", "debiasctl.compute.threads.wait_briefly", "debiasctl.cli.streams.finish"]
)
def test_a_signal_before_and_after_the_command_is_one_line(place: str) -> None:
    """While signals are being prepared for, before the command's own block, and after it."""
    module, _, name = place.partition(".Thread.") if "Thread" in place else place.rpartition(".")
    holder = f"{module}.Thread" if "Thread" in place else module
    code = (
        f"import os, signal, sys, {module}\n"
        f"before = {holder}.{name}\n"
        "def patched(*arguments, **settings):\n"
        "    before(*arguments, **settings)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        f"{holder}.{name} = patched\n"
        "from debiasctl.__main__ import main\n"
        "sys.argv = ['debiasctl', '--version']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("number", ENDS)
def test_a_signal_that_a_package_turns_into_an_error_of_its_own_is_still_that_signal(
    number: signal.Signals, tmp_path: Path
) -> None:
    mark = tmp_path / "working"
    (tmp_path / "sitecustomize.py").write_text(
        "import debiasctl.runs.store as store, time\n"
        "def work(*args, **settings):\n"
        "    try:\n"
        f"        open({str(mark)!r}, 'w').close()\n"
        "        time.sleep(60)\n"
        "    except BaseException as error:\n"
        "        raise RecursionError from error\n"
        "store.find_run = work\n"
    )
    with start("runs", "show", "x", PYTHONPATH=str(tmp_path)) as process:
        wait_for(mark)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (128 + number, "", ENDS[number])


def test_a_second_signal_stops_training_at_once_and_the_last_checkpoint_stays(debiasctl_home: Path) -> None:
    site, mark = debiasctl_home / "site", debiasctl_home / "stuck"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import debiasctl.training.loop as loop, time\n"
        "original = loop.train_step\n"
        "def stuck(training, step):\n"
        "    if step == 3:\n"
        f"        open({str(mark)!r}, 'w').close()\n"
        "        time.sleep(60)\n"
        "    return original(training, step)\n"
        "loop.train_step = stuck\n"
    )
    options = (*OPTIONS, "--steps", "100000", "--checkpoint-every", "2", "--name", "run", "--device", "cpu")
    with start("train", "digits", *options, PYTHONPATH=str(site)) as process:
        wait_for(mark)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = ""
        while "stopping" not in said:
            said = process.stderr.readline()
            assert said
        assert said == "SIGINT: stopping after this step. Ctrl-C again stops at once\n"
        time.sleep(1.1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == (
        "error: stopped at once by a second signal (SIGINT), after step 3 of 100000: the last checkpoint, of step 2, "
        "stays. Resume it: debiasctl train --resume run --device cpu\n"
    )
    run = Run(debiasctl_home / "runs" / "run")
    assert run.checkpoint_steps()[-1] == 2
    assert run.status().state == "interrupted"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give signals' numbers to the thread that acknowledges them; `_leave` is recorded in place of ending pytest."""
    monkeypatch.setattr(interruption, "_QUIET", 0.0)
    monkeypatch.setattr(interruption, "_GRACE", 0.0)

    class Ended(Exception):
        pass

    def leave(number: int, text: str) -> None:
        interruption.say(f"{number} {text}")
        raise Ended

    monkeypatch.setattr(interruption, "_leave", leave)

    def watch(*numbers: int, apart: float = 0.0) -> None:
        now = iter(range(100))
        monkeypatch.setattr(interruption.time, "monotonic", lambda: apart * next(now))
        reader, writer = os.pipe()
        os.write(writer, bytes(numbers))
        os.close(writer)
        try:
            interruption._watch(reader)
        except Ended:
            pass
        finally:
            os.close(reader)

    return watch


def test_what_is_being_finished_is_named(watched: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    with StopSignals() as stop:
        stop.work = "the evaluation of this step"
        watched(signal.SIGTERM, signal.SIGTERM)  # within a second: a terminal and a launcher may both forward one
    assert capsys.readouterr().err == (
        "SIGTERM: stopping after the evaluation of this step. A second signal stops at once\n"
    )


def test_a_second_signal_ends_what_does_not_end(
    watched: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    watched(signal.SIGINT, signal.SIGINT, apart=2.0)
    assert capsys.readouterr().err.splitlines() == [
        "SIGINT: stopping. Ctrl-C again stops at once",
        f"{int(signal.SIGINT)} stopped at once",
    ]


def test_other_signals_are_none_of_its_business(
    watched: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    watched(signal.SIGCHLD, signal.SIGALRM)
    assert capsys.readouterr().err == ""


def test_a_worker_ends_with_the_process_that_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    parents, done = iter([7, 7, 1]), []
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    monkeypatch.setattr(os, "kill", lambda *call: done.append(call))
    monkeypatch.setattr(os, "_exit", done.append)
    monkeypatch.setattr(interruption.time, "sleep", done.append)
    interruption._end_with(7)
    assert done == [0.5, 0.5, (os.getpid(), signal.SIGTERM), interruption._PATIENCE, 143]


def test_only_workers_are_told_of_their_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(interruption._PARENT, raising=False)
    with interruption.leading():
        assert os.environ[interruption._PARENT] == str(os.getpid())
        assert interruption._silent  # one of the workers acknowledges signals
    assert interruption._PARENT not in os.environ
    assert not interruption._silent
