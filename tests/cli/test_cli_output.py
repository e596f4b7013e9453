import json
import math
from functools import partial
from pathlib import Path

import pytest
from tiny import make_spec, succeed

from debiasctl import registry, wording
from debiasctl.api import Pace
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
    assert json.loads(capsys.readouterr().out) == {"json_version": 1, "a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        print_json({"a": math.nan})


def test_tables_are_whole_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS")
    text = "[red]a name[/red] " + "x " * 200 + "y"
    print_table(["name", "number"], [[text, "1"], ["b", "10"]], title="What it is")
    out = capsys.readouterr().out
    assert "What it is" in out
    first, second = (next(line for line in out.splitlines() if line.startswith(mark)) for mark in (text, "b "))
    assert first.rstrip().endswith(" 1")  # numbers stand to the right
    assert second.rstrip().endswith("10")
    assert len(first.rstrip()) == len(second.rstrip())
    print_pairs({"path": "/" + "y " * 200 + "z"})
    assert "/" + "y " * 200 + "z" in capsys.readouterr().out


@pytest.mark.parametrize("seconds, text", [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600 * 27 + 61, "27:01:01")])
def test_durations(seconds: float, text: str) -> None:
    assert wording.format_duration(seconds) == text


def shown(step: int, loss: float = 0.5, *, logged: bool = False) -> Progress:
    return Progress(step=step, num_steps=100, loss=loss, images_per_step=8, images_per_second=16.0, logged=logged)


def test_progress_is_lines_at_a_steady_pace_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "Pace", partial(Pace, clock=lambda: now))
    with progress.training_progress() as show:
        show(shown(1, loss=float("nan")))
        for step in range(2, 101):
            now += 0.5
            show(shown(step, logged=True))
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        "step 1/100  0:00 elapsed",
        "step 21/100  loss 0.5000  16 images/s  0:10 elapsed, 0:40 left",
        "step 41/100  loss 0.5000  16 images/s  0:20 elapsed, 0:30 left",
        "step 61/100  loss 0.5000  16 images/s  0:30 elapsed, 0:20 left",
        "step 81/100  loss 0.5000  16 images/s  0:40 elapsed, 0:10 left",
        "step 100/100  loss 0.5000  16 images/s  0:50 elapsed, 0:00 left",
    ]
    assert captured.out == ""


def test_each_activity_is_named_and_its_progress_is_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "Pace", partial(Pace, clock=lambda: now))
    with progress.images_progress() as show:
        show("reading the data", 0, 0)
        for what in ("sampling", "sampling", "measuring"):
            for done in range(0, 101, 20):
                show(what, done, 100)
                now += 6.0
    assert capsys.readouterr().err.splitlines() == [
        "reading the data",
        *2 * ["sampling: 0/100 images", "sampling  40/100 images  3.33 images/s  0:12 elapsed, 0:18 left",
              "sampling  80/100 images  3.33 images/s  0:24 elapsed, 0:06 left",
              "sampling  100/100 images  3.33 images/s  0:30 elapsed, 0:00 left"],
        "measuring: 0/100 images", "measuring  40/100 images  3.33 images/s  0:12 elapsed, 0:18 left",
        "measuring  80/100 images  3.33 images/s  0:24 elapsed, 0:06 left",
        "measuring  100/100 images  3.33 images/s  0:30 elapsed, 0:00 left",
    ]  # fmt: skip


def test_work_that_reports_nothing_for_long_is_said_to_continue(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(progress, "Pace", partial(Pace, clock=lambda: now))
    lines = progress._Lines("images")
    lines.activity("computing the metrics", 0, 0)
    for moment in (50.0, 61.0, 62.0, 130.0):
        now = moment
        lines.break_silence()
    assert capsys.readouterr().err.splitlines() == [
        "computing the metrics",
        "computing the metrics: 1:01 elapsed",
        "computing the metrics: 2:10 elapsed",
    ]


def test_of_several_processes_the_first_shows_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with progress.images_progress() as show:
        show("sampling", 0, 10)
    assert capsys.readouterr().err == ""


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with progress.training_progress() as show:
        assert capsys.readouterr().err == ""  # there is nothing to show before the first step
        show(shown(50, loss=float("nan")))
        show(shown(100))
    captured = capsys.readouterr()
    for part in ("step 100/100", "loss 0.5000", "16 images/s", "elapsed", "left"):
        assert part in captured.err
    assert "nan" not in captured.err
    with progress.counting_progress("sampling") as count:
        count(1, 2)
    assert "sampling" in capsys.readouterr().err
    assert captured.out == ""


def test_notes_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    note("by the way")
    assert capsys.readouterr() == ("", "by the way\n")
