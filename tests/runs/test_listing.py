"""What cannot be read in a store is named, and the rest of it is listed, found and cleaned."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny import error_of, succeed

from debiasctl import paths
from debiasctl.errors import RunError, RunNameError
from debiasctl.runs.archive import export_run, import_run
from debiasctl.runs.listing import list_runs, unfinished
from debiasctl.runs.removal import remove_run
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run, find_run, run_names
from debiasctl.specs.resolve import validate_spec


@contextmanager
def another_user() -> Iterator[None]:
    """Without root's rights, on everything that is imported already."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def make_run(name: str) -> Run:
    spec = validate_spec({"data": {"dataset": "digits"}})
    return create_run(name, spec, status=new_status(num_steps=9, dataset="digits", weighting="debiased", seed=0))


@pytest.mark.parametrize("target", ["loop", "/no/such/disk"])
def test_a_link_that_leads_nowhere_is_named_and_stands_in_nobodys_way(target: str) -> None:
    run = make_run("a")
    (paths.runs_dir() / "loop").symlink_to(target)
    assert run_names() == ["a"]
    assert find_run("a") == run
    listed = list_runs()
    assert [(one.name, one.state) for one in listed] == [("a", "created"), ("loop", "damaged")]
    assert f"it is a link that leads nowhere ({target})" in str(listed[1].problem)
    with pytest.raises(RunNameError, match="it is a link that leads nowhere"):
        find_run("loop")
    make_run("b")
    remove_run(run)
    assert run_names() == ["b"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="it gives up root's rights")
def test_a_run_that_may_not_be_read_is_named() -> None:
    make_run("open")
    closed = make_run("closed")
    for folder in (paths.home(), *paths.home().parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    closed.path.chmod(0o700)

    succeed("runs", "show", "open")  # imports all that it needs
    succeed("runs", "list")
    with another_user():
        listed = succeed("runs", "list")
        assert "cannot be read: Permission denied" in error_of("runs", "show", "closed", code=2)
    assert "open    created" in listed.out
    assert "closed  damaged" in listed.out
    assert f"{closed.path} cannot be read: Permission denied" in listed.err
    paths.runs_dir().chmod(0o700)
    with another_user():
        assert "cannot be read: Permission denied" in error_of("runs", "list", code=1)


def test_a_file_that_may_not_be_read_is_not_called_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("debiasctl.runs.store.read_text", refuse)
    with pytest.raises(
        RunError, match=r"status\.json cannot be read: Permission denied\. Make it readable: chmod u\+r \S+$"
    ):
        run.status()


def test_what_a_killed_import_left_is_mentioned_and_goes_with_the_next_write() -> None:
    make_run("a")
    left = paths.runs_dir() / ".b.999999.0123abcd.tmp"
    left.mkdir()
    (left / "spec.json").write_text("{")
    listed = succeed("runs", "list")
    assert f"{left} was left unfinished by a command that was killed" in listed.err
    assert "a     created" in listed.out
    make_run("c")
    assert not left.exists()
    left.mkdir()
    succeed("runs", "rm", "a", "--yes")
    assert not left.exists()
    assert "left unfinished" not in succeed("runs", "list").err
    assert "there is no run 'b'" in error_of("runs", "show", "b", code=2)


_KILLED = """
import os, signal, sys
from pathlib import Path
from debiasctl.runs import archive
archive._check_run = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
archive.import_run(Path(sys.argv[1]), name="b")
"""


def test_an_import_that_is_killed_leaves_nothing_for_long(tmp_path: Path) -> None:
    archive = export_run(make_run("a"), tmp_path / "a.tar")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(archive)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(unfinished()) == 1
    assert run_names() == ["a"]
    import_run(archive, name="b")
    assert sorted(path.name for path in paths.runs_dir().iterdir()) == ["a", "b"]
