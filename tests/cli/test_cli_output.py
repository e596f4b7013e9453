import json
import math
import os
from pathlib import Path

import pytest
from tiny import make_spec, succeed

from debiasctl import registry
from debiasctl.cli import progress
from debiasctl.cli.completion import complete_kind, complete_plugin, complete_run
from debiasctl.cli.locations import data_location
from debiasctl.cli.output import note, print_json, print_pairs, print_table
from debiasctl.errors import UsageError
from debiasctl.runs.status import new_status
from debiasctl.runs.store import create_run
from debiasctl.training.loop import Progress


def test_run_names_are_completed() -> None:
    for name in ("alpha", "alps", "beta"):
        create_run(name, make_spec(), status=new_status(num_steps=1, dataset="d", weighting="w", seed=0))
    assert complete_run("al") == ["alpha", "alps"]
    assert complete_run("") == ["alpha", "alps", "beta"]
    assert complete_run("x") == []


def test_runs_are_completed_where_there_is_no_store(debiasctl_home: Path) -> None:
    assert complete_run("") == []
    assert list(debiasctl_home.iterdir()) == []


def test_plugin_names_are_completed() -> None:
    assert complete_plugin("weightings")("") == [record.name for record in registry.records("weightings")]
    assert complete_plugin("weightings")("deb") == ["debiased", "debiased-clamped"]
    assert complete_plugin("datasets")("di") == ["digits"]
    assert complete_kind("s") == ["schedules", "samplers"]


def test_the_shell_is_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    create_run("alpha", make_spec(), status=new_status(num_steps=1, dataset="d", weighting="w", seed=0))
    monkeypatch.setenv("_DEBIASCTL_COMPLETE", "complete_bash")

    def completed(line: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        return succeed().out.split()

    assert completed("debiasctl sam") == ["sample"]
    assert completed("debiasctl sample al") == ["alpha"]
    assert completed("debiasctl train --weighting min") == ["min-snr"]
    assert completed("debiasctl train --checkpoint") == ["--checkpoint-every"]
    assert completed("debiasctl plugins describe weig") == ["weightings"]


def test_where_data_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, debiasctl_home: Path) -> None:
    assert data_location(None).data_dir is None
    assert data_location(None).cache_dir == debiasctl_home / "cache"
    (tmp_path / "variable").mkdir()
    monkeypatch.setenv("DEBIASCTL_DATA", str(tmp_path / "variable"))
    assert data_location(None).data_dir == tmp_path / "variable"
    assert data_location(tmp_path).data_dir == tmp_path
    monkeypatch.chdir(tmp_path)
    assert data_location(Path("variable")).data_dir == tmp_path / "variable"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is not a folder"):
        data_location(tmp_path / "file")


def test_json_is_never_not_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, None]})
    assert json.loads(capsys.readouterr().out) == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        print_json(math.nan)


def test_tables_are_whole_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "[red]a name[/red] " + "x" * 80
    print_table(["name", "number"], [[text, "1"], ["b", "10"]], title="What it is")
    out = capsys.readouterr().out
    assert "What it is" in out
    first, second = (next(line for line in out.splitlines() if mark in line) for mark in (text, " b "))
    assert first.rstrip().endswith(" 1")  # numbers stand to the right
    assert second.rstrip().endswith("10")
    assert len(first.rstrip()) == len(second.rstrip())
    print_pairs({"path": "/" + "y" * 100})
    assert "/" + "y" * 100 in capsys.readouterr().out


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600 * 27 + 61, "27:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert progress._duration(seconds) == text


def shown(step: int, logged: bool) -> Progress:
    return Progress(step=step, num_steps=100, loss=0.5, images_per_step=8, images_per_second=16.0, logged=logged)


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.training_progress() as show:
        show(shown(9, logged=False))
        show(shown(10, logged=True))
    with progress.counting_progress("sampling") as count:
        count(1, 2)
    captured = capsys.readouterr()
    assert captured.err == "step 10/100  loss 0.5000  16 images/s  0:45 left\n"
    assert captured.out == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.training_progress() as show:
        show(shown(100, logged=False))
    captured = capsys.readouterr()
    for part in ("100/100", "loss 0.5000", "16 images/s"):
        assert part in captured.err
    with progress.counting_progress("sampling") as count:
        count(1, 2)
    assert "sampling" in capsys.readouterr().err
    assert captured.out == ""


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    assert capsys.readouterr() == ("", "by the way\n")


def test_training_goes_on_where_nobody_reads_its_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    from debiasctl.cli import progress
    from debiasctl.training.loop import Progress

    def nobody(text: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with monkeypatch.context() as patch:
        patch.setattr(progress, "note", nobody)
        patch.setattr(progress.sys, "stderr", progress.sys.stderr)  # put back afterwards
        progress._plain(Progress(1, 2, 0.5, 8, 100.0, True))
        assert progress.sys.stderr.name == os.devnull
        progress.sys.stderr.close()
