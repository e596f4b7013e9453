import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from debiasctl import paths
from debiasctl.cli import runs as cli
from debiasctl.errors import DebiasctlError, RunNameError, UsageError
from debiasctl.runs.records import HeldoutRecord, MonitorRecord, TrainRecord
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, append_metrics, create_run, run_names
from debiasctl.specs.resolve import validate_spec


def make_run(name: str, **changes: object) -> Run:
    status = new_status(num_steps=10, dataset="digits", weighting="debiased", seed=3)
    return create_run(name, validate_spec({"data": {"dataset": "digits"}}), status=replace(status, **changes))


def call(*arguments: str, keys: str | None = None, code: int = 0):
    result = CliRunner().invoke(cli.app, arguments, input=keys)
    if isinstance(result.exception, DebiasctlError):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_list_prints_one_line_a_run_and_damage_on_stderr() -> None:
    make_run("first", state="finished", step=10)
    make_run("second", dataset="evil\n\x1b[2Jfake")
    (make_run("third").path / "status.json").write_text("{")
    result = call("list")
    header, first, second, third = result.stdout.splitlines()
    assert header.split() == ["NAME", "STATE", "STEP", "DATASET", "WEIGHTING", "SEED", "CREATED", "(UTC)"]
    assert first.split()[:6] == ["first", "finished", "10/10", "digits", "debiased", "3"]
    assert second.split()[:3] == ["second", "created", "0/10"]
    assert third.split() == ["third", "damaged"]
    assert "status.json is damaged" in result.stderr
    listed = json.loads(call("list", "--json").stdout)["runs"]
    assert [(item["name"], item["state"]) for item in listed] == [
        ("first", "finished"), ("second", "created"), ("third", "damaged"),
    ]  # fmt: skip
    assert listed[0]["status"]["step"] == 10
    assert listed[2]["status"] is None
    assert "damaged" in listed[2]["problem"]


def test_list_of_nothing() -> None:
    result = call("list")
    assert (result.stdout, "debiasctl train digits" in result.stderr) == ("", True)
    assert json.loads(call("list", "--json").stdout) == {"json_version": 1, "runs": []}
    assert not paths.runs_dir().exists()


def test_show_tells_what_and_how_far() -> None:
    run = make_run("a", step=4, state="failed", message="loss is nan")
    train = TrainRecord(step=3, images=24, loss=0.5, grad_norm=1.5, lr=0.1, images_per_second=2.0)
    heldout = HeldoutRecord(step=4, weights="ema", bins=[])
    monitor = MonitorRecord(
        step=4, images=32, num=16, sampler="ddim", steps=9, nfe=9, weights="ema", metrics={"fd": 2.25}, floors={}
    )
    append_metrics(run, [train.model_copy(update={"step": 2, "loss": 0.7}), train, heldout, monitor])
    for folder in ("checkpoints/00000004", "evaluations"):
        (run.path / folder).mkdir(parents=True)
    (run.path / "checkpoints/00000004/manifest.json").write_text("{}")
    (run.path / "evaluations/abc.json").write_text("{}")
    text = call("show", "a").stdout
    for part in ("failed: loss is nan", "4 of 10", "digits", "debiased", "linear", "eps", "unet", "loss 0.5", "fd 2.25",
                 "abc", str(run.path)):  # fmt: skip
        assert part in text
    shown = json.loads(call("show", "a", "--json").stdout)
    assert shown["name"] == "a"
    assert shown["path"] == str(run.path)
    assert shown["status"]["message"] == "loss is nan"
    assert shown["spec"] == json.loads((run.path / "spec.json").read_text())
    assert (shown["checkpoints"], shown["evaluations"]) == ([4], ["abc"])
    last = {record.kind: record.to_json() for record in (train, heldout, monitor)}
    assert shown["metrics"] == last


def test_path_prints_the_path_only() -> None:
    run = make_run("long-name")
    assert call("path", "long").stdout == f"{run.path}\n"


def test_rm_without_a_terminal_needs_yes() -> None:
    make_run("a")
    with pytest.raises(UsageError, match=r"removing a has to be confirmed.*--yes"):
        call("rm", "a", keys="y\n")
    assert run_names() == ["a"]
    call("rm", "a", "-y")
    assert run_names() == []


@pytest.mark.parametrize("keys, code, left", [("y\n", 0, ["b"]), ("n\n", 1, ["a", "b"]), ("\n", 1, ["a", "b"])])
def test_rm_asks_on_a_terminal(monkeypatch: pytest.MonkeyPatch, keys: str, code: int, left: list[str]) -> None:
    make_run("a")
    make_run("b")
    monkeypatch.setattr(cli, "_on_terminal", lambda: True)
    result = call("rm", "a", keys=keys, code=code)
    assert "Remove a with all checkpoints" in result.stderr
    assert run_names() == left


def test_rm_names_what_stays_before_it_asks_and_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a")
    for number in range(12):
        (run.path / f"notes{number:02}.txt").touch()
    monkeypatch.setattr(cli, "_on_terminal", lambda: True)
    said = call("rm", "a", keys="y\n").stderr
    before, after = said.split("Remove a with all checkpoints")
    assert f"{run.path} will stay, because of what is not part of the run: notes00.txt, " in before
    assert f"{run.path} stays, because" in after
    assert "notes09.txt and 2 more" in before
    assert len(list(run.path.iterdir())) == 12


def test_rm_of_several_removes_none_if_one_is_unknown() -> None:
    for name in ("a", "b", "c"):
        make_run(name)
    with pytest.raises(RunNameError, match="no run 'x'"):
        call("rm", "a", "x", "b", "--yes")
    assert run_names() == ["a", "b", "c"]
    call("rm", "a", "b", "a", "--yes")
    assert run_names() == ["c"]


def test_export_and_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run("a")
    monkeypatch.chdir(tmp_path)
    assert call("export", "a").stdout == f"{tmp_path / 'a.tar'}\n"
    with pytest.raises(UsageError, match="`force=True`"):
        call("export", "a")
    call("export", "a", "--force")
    (tmp_path / "folder").mkdir()
    assert call("export", "a", "--out", "folder").stdout == f"{tmp_path / 'folder' / 'a.tar'}\n"
    assert call("import", "a.tar", "--name", "b").stdout == "b\n"
    with pytest.raises(RunNameError, match="already exists"):
        call("import", "a.tar")
    assert run_names() == ["a", "b"]


@pytest.mark.parametrize("command", ["list", "show", "rm", "path", "export", "import"])
def test_help_ends_in_examples(command: str) -> None:
    assert f"debiasctl runs {command}" in call(command, "--help").stdout.partition("Examples")[2]
