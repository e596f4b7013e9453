"""A display that cannot be written never ends work, and results that are lost are an error."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import OPTIONS, write_distribution

from debiasctl.cli.streams import Display, OutputError, Results

TINY = ("train", "digits", "--device", "cpu", "--name", "run", *OPTIONS, "--steps", "2")


def shell(redirection: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = f'{sys.executable} -m debiasctl "$@" {redirection}'
    return subprocess.run(["sh", "-c", command, "-", *arguments], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    "redirection",
    [
        pytest.param("2>/dev/full", marks=pytest.mark.slow),  # what is written there: below, without a training
        "<&- 2>&-",
    ],
)
def test_training_needs_no_stderr(redirection: str, debiasctl_home: Path) -> None:
    done = shell(redirection, *TINY)
    assert done.returncode == 0
    assert done.stdout.startswith("run 'run' is finished at step 2")
    assert done.stderr == ""


def test_a_training_that_cannot_print_its_result_is_finished_all_the_same(debiasctl_home: Path) -> None:
    done = shell(">/dev/full", *TINY)
    assert done.returncode == 1
    assert done.stderr.endswith("error: the results cannot be written to stdout: No space left on device\n")
    assert '"finished"' in (debiasctl_home / "runs" / "run" / "status.json").read_text()


@pytest.mark.parametrize("command", [["plugins", "list"], ["plugins", "list", "--json"], ["--help"]])
@pytest.mark.parametrize(
    "redirection, reason", [(">/dev/full", "No space left on device"), (">&-", "Bad file descript")]
)
def test_results_that_cannot_be_written_are_one_error(command: list[str], redirection: str, reason: str) -> None:
    done = shell(redirection, *command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: the results cannot be written to stdout: {reason}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["plugins list", "plugins list --json"])
def test_a_reader_that_has_enough_is_left_in_peace(command: str) -> None:
    code = "import sys; sys.exit(0)"  # reads nothing at all
    script = f"({sys.executable} -m debiasctl {command}; echo $? >&2) | {sys.executable} -c '{code}'"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=300)
    assert done.stderr in ("1\n", "0\n")  # the latter where the pipe's buffer took it all before it was closed


def test_no_file_takes_the_number_of_a_closed_stream() -> None:
    done = shell("<&- >&- 2>&-", "plugins", "list")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_display_drops_what_it_cannot_write() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    text = io.TextIOWrapper(Display(full), write_through=True)  # type: ignore[type-var]
    print("lost", file=text, flush=True)
    os.close(full)
    print("lost too", file=text, flush=True)
    text.close()


def test_results_report_it_once_and_drop_the_rest() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    results = io.BufferedWriter(Results(writer))
    results.write(b"lost")
    with pytest.raises(BrokenPipeError):
        results.flush()
    results.close()
    os.close(writer)
    closed = io.BufferedWriter(Results(os.open(os.devnull, os.O_RDONLY)))
    closed.write(b"lost")
    with pytest.raises(OutputError, match="cannot be written to stdout"):
        closed.flush()
    closed.close()


def test_results_wait_for_a_reader_of_a_pipe_that_does_not_block() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    program = "import sys, time; time.sleep(0.2); print(len(sys.stdin.buffer.read()))"
    with subprocess.Popen([sys.executable, "-c", program], stdin=reader, stdout=subprocess.PIPE, text=True) as process:
        os.close(reader)
        results = io.BufferedWriter(Results(writer))
        results.write(bytes(10**6))
        results.close()
        os.close(writer)
        assert process.communicate()[0] == "1000000\n"


LOUD = """
import os, subprocess, sys
from debiasctl.api import Weighting
os.write(1, b"at import\\n")
class Loud(Weighting):
    "Writes wherever it can, and closes it."
    space = "eps"
    def __call__(self, snr):
        subprocess.run(["echo", "a child"])
        sys.stdout.close()
        sys.stderr.close()
        return snr
"""


def test_what_plugins_write_past_python_is_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"debiasctl.weightings": {"loud": "loud:Loud"}}
    write_distribution(tmp_path, name="loud", version="1.0", entry_points=points, modules={"loud": LOUD})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = shell("", "weightings", "table", "loud", "--json")
    assert done.returncode == 0, done.stderr
    assert "json_version" in json.loads(done.stdout)
    assert {"at import", "a child"} <= set(done.stderr.splitlines())


def test_a_notebooks_backend_of_plots_is_none_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPLBACKEND", "nope")
    done = shell("", "weightings", "plot", "debiased", "--out", str(tmp_path / "x.svg"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.svg").is_file()
