"""`runs list`, `watch`, `tag`, `note` and `prune` as their users see them."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from records import figure_json, record
from tiny import Outcome, debiasctl, error_of, make_spec, resume, stored_state, succeed, train

from debiasctl.cli import runs_watch
from debiasctl.cli.app import main
from debiasctl.cli.tables import text_width
from debiasctl.files import write_json
from debiasctl.runs.labels import change_labels
from debiasctl.runs.records import TrainRecord
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, append_metrics, create_run, find_run
from debiasctl.specs.resolve import validate_spec

HOSTILE = '\x1b[31mred\u202e | a & b, "quoted"\nsecond line 漢字 =1+1'
LONG = "cifar10-debiased-with-a-name-as-long-as-runs-may-have-which-is-a-hundred-letters-and-not-one-more-012345"[:100]


def make_run(name: str, *, best: float | None = None, speed: float | None = None, **changes: Any) -> Run:
    settings = changes.pop("settings", {})
    spec = validate_spec({"data": {"dataset": "digits"}, "provenance": {"run": "0a"}} | settings)
    status = new_status(num_steps=100, dataset="digits", weighting=spec.loss.weighting.name, seed=spec.training.seed)
    run = create_run(name, spec, status=status)
    run.update_status(**changes)
    if best is not None:
        run.evaluations_dir.mkdir()
        metrics = {"fd_local": figure_json(best)}
        write_json(run.evaluations_dir / "e.json", record(metrics, run_identity="0a").to_json())
    if speed is not None:
        log(run, step=10, speed=speed)
    return run


def log(run: Run, *, step: int, speed: float) -> None:
    line = TrainRecord(step=step, images=8 * step, loss=1 / step, grad_norm=1.0, lr=0.1, images_per_second=speed)
    append_metrics(run, [line])


@pytest.fixture
def store() -> None:
    make_run("a-10", best=0.5, state="finished", step=100, settings={"optimizer": {"lr": 1e-3}})
    make_run("a-9", best=0.25, speed=50.0, state="failed", settings={"loss": {"weighting": "constant"}})
    make_run("b", settings={"optimizer": {"lr": 0.5}, "training": {"seed": 7}})
    change_labels(find_run("b"), add=["paper", "x"], note=HOSTILE)


def names(*arguments: str) -> list[str]:
    return [one["name"] for one in json.loads(succeed("runs", "list", "--json", *arguments).out)["runs"]]


def test_runs_are_chosen_sorted_and_counted(store: None) -> None:
    assert names() == ["a-10", "a-9", "b"]
    assert names("--sort", "name") == ["a-9", "a-10", "b"]
    assert names("--sort", "-name") == ["b", "a-10", "a-9"]
    assert names("--sort", "best") == ["a-9", "a-10", "b"]  # what has no value is last
    assert names("--sort", "-best") == ["a-10", "a-9", "b"]
    assert names("--sort=-speed", "--top", "1") == ["a-9"]
    assert names("--sort", "lr") == ["a-9", "a-10", "b"]
    assert names("--sort", "state") == ["b", "a-9", "a-10"]
    assert names("--sort", "disk")[-1] == names("--sort", "-disk")[0]
    assert names("a*", "--sort", "-created") == ["a-9", "a-10"]
    assert names("--where", "weighting=debiased and lr<0.1") == ["a-10"]
    assert names("--where", "tag=paper", "--where", "seed=7") == ["b"]
    assert names("b", "a-9") == ["a-9", "b"]


def test_what_is_known_of_a_run_is_in_its_json(store: None) -> None:
    finished, failed, other = json.loads(succeed("runs", "list", "--json", "--all").out)["runs"]
    best = {"metric": "fd_local", "value": 0.5, "steps": 50, "checkpoint": 6, "evaluation": "e"}
    assert (finished["best"], finished["latest"]) == (best, None)
    assert failed["latest"] == {"step": 10, "images": 80, "loss": 0.1, "images_per_second": 50.0}
    assert (other["tags"], other["note"], other["seconds_left"]) == (["paper", "x"], HOSTILE, None)
    assert other["disk"] > 1000
    assert json.loads(succeed("runs", "list", "--json").out)["runs"][0]["disk"] is None


def test_columns_say_what_is_asked_for(store: None) -> None:
    header, *rows = succeed("runs", "list").out.splitlines()
    assert header.split() == [
        "NAME", "STATE", "STEP", "DATASET", "WEIGHTING", "SEED", "BEST", "METRIC", "TAGS", "CREATED", "(UTC)",
    ]  # fmt: skip
    assert rows[1].split()[:8] == ["a-9", "failed", "0/100", "digits", "constant", "0", "0.25", "fd_local@50"]
    header, first, *_ = succeed("runs", "list", "--columns", "name,lr,loss.weighting,loss,disk").out.splitlines()
    assert header.split() == ["NAME", "LR", "LOSS.WEIGHTING", "LOSS", "DISK"]
    assert first.split()[:3] == ["a-10", "0.001", "debiased"]
    header = succeed("runs", "list", "--all").out.splitlines()[0]
    assert "NOTE" in header
    assert "DISK" in header


def test_other_programs_get_values_and_no_control_characters(store: None) -> None:
    rows = list(csv.DictReader(io.StringIO(succeed("runs", "list", "--csv").out, newline="")))
    assert [row["name"] for row in rows] == ["a-10", "a-9", "b"]
    assert (rows[1]["best"], rows[1]["metric"], rows[1]["speed"]) == ("0.25", "fd_local@50", "50.0")
    assert (rows[2]["note"], rows[2]["tags"], rows[2]["best"]) == (HOSTILE, "paper x", "")
    lines = succeed("runs", "list", "--md", "--all").out.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("| ") and line.isprintable() for line in lines)
    terminal = succeed("runs", "list", "--all").out
    assert "\x1b" not in terminal
    assert "\u202e" not in terminal
    assert len(terminal.splitlines()) == 4


@pytest.mark.parametrize("width", ["60", "80", "120", "200"])
def test_a_listing_fits_its_terminal(store: None, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    lines = succeed("runs", "list").out.splitlines()
    assert max(map(text_width, lines)) <= int(width)
    assert len(lines) == 4  # a line a run
    make_run(LONG, best=1.0, state="failed", message="x")
    change_labels(find_run(LONG), add=["t" * 60])
    outcome = succeed("runs", "list")
    lines = outcome.out.splitlines()
    assert len(lines) == 6  # its name has a line of its own, and the others keep their columns
    assert max(text_width(line) for line in lines if line != LONG) <= int(width)
    assert "0/100" in outcome.out
    assert LONG in lines
    assert ("not fit" in outcome.err) == ("CREATED" not in outcome.out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--columns", "name,spede"],
            "--columns: there is no column 'spede'. Did you mean 'speed'? Known: name, state",
        ),
        (["--columns", "name,,"], "--columns 'name,,': give names of columns"),
        (["--sort", "lrr"], "--sort: there is no column 'lrr'. Did you mean 'lr'?"),
        (["--sort", "-"], "there is no column ''"),
        (["--json", "--csv"], "are ways to print one table. Give one of them"),
        (["--json", "--columns", "name"], "--columns is for the other forms"),
        (["--all", "--columns", "name"], "--all shows every column"),
        (["--where", "lr<fast"], "--where: 'lr<fast': optimizer.lr is a number, and 'fast' is none"),
        (["--where", "weigthing=a"], "--where: unknown field 'weigthing'. Did you mean 'weighting'?"),
        (["x*"], "no run's name matches 'x*'"),
        (["none"], "there is no run 'none'"),
    ],
)
def test_misuse_of_the_list_is_said(store: None, arguments: list[str], message: str) -> None:
    assert message in error_of("runs", "list", *arguments, code=2)


def test_nothing_that_matches_is_no_error_of_a_list(store: None) -> None:
    outcome = succeed("runs", "list", "--where", "weighting=p2")
    assert outcome.out == ""
    assert (
        "none of the 3 runs matches --where 'weighting=p2'. In them, loss.weighting is constant, debiased."
        in outcome.err
    )


def test_damage_is_named_and_the_rest_is_listed(store: None) -> None:
    run = find_run("a-9")
    (run.path / "spec.json").write_text("{")
    (find_run("b").path / "labels.json").write_text("{")
    (make_run("c").path / "status.json").write_text("{")
    outcome = succeed("runs", "list", "--columns", "name,state,lr,tags")
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["NAME", "a-10", "a-9", "b", "c"]
    for name in ("a-9/spec.json", "b/labels.json", "c/status.json"):
        assert outcome.err.count(name) >= 1
    outcome = succeed("runs", "list", "--where", "lr<1")
    assert "a-9" not in outcome.out
    assert "whether run 'a-9' matches cannot be said" in outcome.err


def test_metrics_that_differ_are_not_ranked_in_silence(store: None) -> None:
    run = make_run("p")
    run.evaluations_dir.mkdir()
    write_json(run.evaluations_dir / "e.json", record({"fd_pixels": figure_json(0.1)}, run_identity="0a").to_json())
    outcome = succeed("runs", "list", "--sort", "best")
    assert "fd_local, fd_pixels cannot be ranked against one another" in outcome.err


def test_data_sets_that_differ_are_not_ranked_in_silence(store: None) -> None:
    for name, dataset, value in (("p", "mnist", 1e-3), ("q", "mnist", 1e3)):
        run = make_run(name)
        run.update_status(dataset=dataset)
        run.evaluations_dir.mkdir()
        figures = {"fd_local": figure_json(value)}
        write_json(run.evaluations_dir / "e.json", record(figures, run_identity="0a").to_json())
    outcome = succeed("runs", "list", "--sort", "best", "--columns", "name")
    assert "digits, mnist cannot be ranked against one another" in outcome.err
    assert [name for name in outcome.out.split() if name in "pq"] == ["p", "q"]


# ---------------------------------------------------------------- tags and notes


def test_tags_and_notes_are_written_and_shown(store: None) -> None:
    out = succeed("runs", "tag", "a-*", "--add", "draft", "--add", "y").out
    assert [line.split() for line in out.splitlines()[1:]] == [["a-10", "draft,", "y"], ["a-9", "draft,", "y"]]
    succeed("runs", "tag", "a-9", "--remove", "draft")
    assert json.loads(succeed("runs", "tag", "a-9", "--json").out)["runs"][0]["tags"] == ["y"]
    assert "stored" in succeed("runs", "note", "b", "two\nlines").err
    assert succeed("runs", "note", "b").out == "two\nlines\n"
    assert "two" in succeed("runs", "show", "b").out
    succeed("runs", "note", "b", "--remove")
    assert "has no note" in succeed("runs", "note", "b").err
    assert json.loads(succeed("runs", "note", "b", "--json").out)["note"] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tag", "a-9", "--add", "no tag"], "'no tag' is no tag"),
        (["tag", "a-9", "--add", "x", "--remove", "x"], "--add and --remove are both given x"),
        (["tag", "z*", "--add", "x"], "no run's name matches 'z*'"),
        (["note", "a-9", "x", "--remove"], "Give one of them"),
    ],
)
def test_misuse_of_labels_is_said(store: None, arguments: list[str], message: str) -> None:
    assert message in error_of("runs", *arguments, code=2)


def test_damaged_labels_keep_no_other_run_from_its_tags(store: None) -> None:
    (find_run("a-10").path / "labels.json").write_text("{")
    outcome = debiasctl("runs", "tag", "*", "--add", "new")
    assert outcome.code == 1
    assert outcome.err.startswith("error: run 'a-10' is left as it is: ")
    assert [line.split()[0] for line in outcome.out.splitlines()] == ["NAME", "a-9", "b"]
    assert names("--where", "tag=new") == ["a-9", "b"]


def test_runs_that_cannot_be_changed_are_one_message(store: None) -> None:
    for name in ("a-9", "b"):
        (find_run(name).path / "labels.json").write_text("{")
    message = error_of("runs", "tag", "*", "--add", "new", code=1)
    assert message.startswith("2 runs are left as they are:\n  a-9: ")
    assert "\n  b: " in message


# ---------------------------------------------------------------- watch


def test_nothing_to_watch_is_said(store: None) -> None:
    assert "No run is being trained" in succeed("runs", "watch").err


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("live", [False, True])
def test_a_training_is_watched_until_it_ends(store: None, monkeypatch: pytest.MonkeyPatch, live: bool) -> None:
    run = make_run("running", state="training", speed=40.0)
    before = {path: path.stat().st_mtime_ns for path in run.path.rglob("*")}
    outcome = watch(run, monkeypatch, live=live)
    assert outcome.code == 0
    assert "1 finished" in outcome.err
    assert "b" not in [line.split()[0] for line in outcome.out.splitlines() if line.split()]
    for text in ("10/100", "20/100", "0:18", "finished"):  # 90 steps of 8 images at 40 images/s
        assert text in outcome.out
    if not live:
        assert outcome.out.splitlines() == [
            "running  training  10/100  40 images/s  loss 0.1000  0:18 left",
            "running  training  20/100  80 images/s  loss 0.0500  0:08 left",
            "running  finished  100/100",
        ]
    assert set(run.path.rglob("*")) == set(before) | {run.path / ".lock"}


def watch(run: Run, monkeypatch: pytest.MonkeyPatch, *, live: bool) -> Outcome:
    """What `runs watch` shows while a run, which this process holds, gets further at each look."""
    lock = run.lock()
    lock.__enter__()
    steps = iter([lambda: log(run, step=20, speed=80.0), lambda: None, lambda: end()])

    def end() -> None:
        run.update_status(state="finished", step=100)
        lock.__exit__(None, None, None)

    monkeypatch.setattr(runs_watch.time, "sleep", lambda seconds: next(steps)())
    if not live:
        return debiasctl("runs", "watch")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    out, err = Terminal(), io.StringIO()
    monkeypatch.setattr(sys, "argv", ["debiasctl", "runs", "watch", "run*", "--where", "state=training"])
    with patch.object(sys, "stdout", out), patch.object(sys, "stderr", err), pytest.raises(SystemExit) as ended:
        main()
    return Outcome(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_watching_ends_with_ctrl_c_and_with_the_run_itself(store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs_watch.time, "sleep", interrupt)
    run = make_run("running", state="training")
    with run.lock():
        assert debiasctl("runs", "watch").code == 130
        monkeypatch.setattr(runs_watch.time, "sleep", lambda seconds: run.path.rename(run.path.with_name("moved.tmp")))
        assert "they were removed" in succeed("runs", "watch", "running").err


def test_a_run_that_is_removed_ends_the_watch_of_no_other(store: None, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = make_run("first", state="training"), make_run("second", state="training")
    locks = [first.lock(), second.lock()]
    for lock in locks:
        lock.__enter__()

    def end() -> None:
        second.update_status(state="finished", step=100)
        locks[1].__exit__(None, None, None)

    steps = iter([lambda: first.path.rename(first.path.with_name("moved.tmp")), lambda: None, end])
    monkeypatch.setattr(runs_watch.time, "sleep", lambda seconds: next(steps)())
    outcome = succeed("runs", "watch", "first", "second")
    assert "second  finished  100/100" in outcome.out
    assert "1 finished" in outcome.err


def test_a_time_to_look_is_within_reason(store: None) -> None:
    for every in ("0", "nan", "1e9"):
        assert "give a time from 0.1" in error_of("runs", "watch", "--every", every, code=2)


# ---------------------------------------------------------------- prune


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("DEBIASCTL_HOME", str(home))
        train("t", make_spec())
    return home


def test_a_pruned_run_is_resumed_to_the_same_end(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(trained))
    run = find_run("t")
    assert run.checkpoint_steps() == [3, 6]
    shown = succeed("runs", "prune", "--dry-run", "--keep-last", "1")
    assert "1 (0." in shown.out
    assert run.checkpoint_steps() == [3, 6]
    assert "confirmed" in error_of("runs", "prune", "t", code=2)
    assert "Freed 0." in succeed("runs", "prune", "t", "--yes").err
    assert run.checkpoint_steps() == [6]
    before = stored_state(run, 6)
    assert resume(run, steps=9) == [7, 8, 9]
    assert run.checkpoint_steps() == [6, 9]
    assert before.keys() == stored_state(run, 9).keys()


def prunable(name: str) -> Run:
    run = make_run(name)
    folder = run.samples_dir / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "images.npz").write_bytes(b"x" * 100_000)
    return run


@pytest.mark.parametrize(("keys", "code", "left"), [("y\n", 0, False), ("n\n", 1, True), ("", 1, True)])
def test_prune_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch, keys: str, code: int, left: bool) -> None:
    run = prunable("a")
    terminal = Terminal(keys)
    monkeypatch.setattr(sys, "stdin", terminal)
    outcome = debiasctl("runs", "prune")
    assert outcome.code == code
    assert "Free 0.1 MB in 1 run?" in outcome.err
    assert any(run.samples_dir.iterdir()) == left


def test_prune_says_what_it_leaves_and_goes_on() -> None:
    sound, busy, damaged = prunable("a"), prunable("b"), prunable("c")
    (damaged.path / "spec.json").write_text("{")
    (damaged.checkpoint_path(1)).mkdir(parents=True)
    with busy.lock():
        outcome = debiasctl("runs", "prune", "--yes")
    assert "run 'b' keeps everything, because it is being trained" in outcome.err
    assert not any(sound.samples_dir.iterdir())
    assert any(busy.samples_dir.iterdir())
    answer = json.loads(succeed("runs", "prune", "b", "--samples", "--yes", "--json").out)
    assert answer["freed"] == 100_000
    assert [item["path"] for item in answer["runs"][0]["items"]] == ["samples/0123456789abcdef"]


def test_prune_needs_whole_names_and_sense() -> None:
    prunable("long-name")
    assert "there is no run 'long'" in error_of("runs", "prune", "long", "--yes", code=2)
    assert "is about checkpoints" in error_of("runs", "prune", "--samples", "--keep-last", "2", "--yes", code=2)
    assert "is about checkpoints" in error_of("runs", "prune", "--samples", "--keep-steps-too", "--yes", code=2)
    assert "nothing to free" in succeed("runs", "prune", "--features", "--yes").err
