"""What an overview shows of a run: read from small parts of its files, and nothing where they are damaged."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from records import figure_json, record

from debiasctl.files import write_json
from debiasctl.runs import overview
from debiasctl.runs.listing import list_runs
from debiasctl.runs.overview import Latest, Overview
from debiasctl.runs.parts import folder_size
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run
from debiasctl.specs.resolve import validate_spec

TRAIN = {"kind": "train", "step": 3, "images": 24, "loss": 0.5, "images_per_second": 8.0, "run": "0a"}


@pytest.fixture
def run() -> Run:
    spec = validate_spec({"data": {"dataset": "digits"}, "provenance": {"run": "0a"}})
    return create_run("a", spec, status=new_status(num_steps=9, dataset="digits", weighting="debiased", seed=0))


def look() -> Overview:
    return Overview(list_runs()[0])


def write_metrics(run: Run, *records: Any, end: bytes = b"") -> None:
    lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in records]
    run.metrics_path.write_bytes(b"".join(line + b"\n" for line in lines) + end)


def test_the_newest_figures_are_those_of_the_last_whole_record_of_training(run: Run) -> None:
    assert look().latest is None
    later = TRAIN | {"step": 4, "images": 32, "loss": 0.25}
    heldout = {"kind": "heldout", "step": 4, "bins": ["x" * 20_000], "weights": "train"}
    write_metrics(run, TRAIN, later, heldout, end=json.dumps(TRAIN | {"step": 5}).encode())
    assert look().latest == Latest(4, 32, 0.25, 8.0)


def test_only_the_end_of_the_metrics_is_read(run: Run) -> None:
    write_metrics(run, b"\xff" * 3_000_000, TRAIN)
    assert look().latest == Latest(3, 24, 0.5, 8.0)
    write_metrics(run, TRAIN, *[{"kind": "heldout", "step": 3, "x": "y" * 100_000}] * 20)
    assert look().latest is None  # too far from the end


@pytest.mark.parametrize(
    "line",
    [
        {"run": "0b"}, {"step": "3"}, {"images": -1}, {"loss": None}, {"loss": True}, {"images_per_second": "fast"},
        {"step": 2**64}, {"loss": 10**350}, b'{"kind": "train", "loss": NaN}', b'["train"]', b"\xfftrain\"train\"",
        b'{"kind": "train", "kind": "train"}', b'{"kind": "train", "loss": 1e999}', b"[" * 5000 + b'"train"',
    ],
)  # fmt: skip
def test_damaged_or_foreign_figures_are_none(run: Run, line: Any) -> None:
    write_metrics(run, line if isinstance(line, bytes) else TRAIN | line)
    assert look().latest is None


def test_metrics_that_are_no_file_are_none(run: Run) -> None:
    os.mkfifo(run.metrics_path)
    assert look().latest is None


def test_the_time_left_is_that_of_a_run_in_training(run: Run) -> None:
    write_metrics(run, TRAIN)
    run.update_status(state="training")
    assert look().seconds_left is None  # its process is dead
    assert look().step == 0
    with run.lock():
        assert look().seconds_left == 6 * 24 / 3 / 8.0
        assert look().step == 3
        write_metrics(run, TRAIN | {"images_per_second": 0.0})
        assert look().seconds_left is None


def evaluate(run: Run, key: str, metrics: dict[str, Any], **changes: Any) -> Path:
    path = run.evaluations_dir / f"{key}.json"
    path.parent.mkdir(exist_ok=True)
    write_json(path, record(metrics, **{"run_identity": "0a", **changes}).to_json())
    return path


def test_the_best_distance_is_the_lowest_corrected_one(run: Run) -> None:
    assert look().best is None
    evaluate(run, "a", {"precision": figure_json(0.1), "fd_local": figure_json(3.0), "fd_other": figure_json(0.1)})
    evaluate(run, "b", {"fd_local": figure_json(4.0, corrected=2.5)}, measured={"steps": 10}, checkpoint=3)
    evaluate(run, "c", {"fd_local": figure_json(2.75)})
    evaluate(run, "d", {"fd_pixels": figure_json(0.01)})
    evaluate(run, "e", {"kd_local": figure_json(0.01)})
    evaluate(run, "f", {"fd_local": figure_json(0.02)}, run_identity="0b")  # copied from another run
    best = look().best
    assert best is not None
    assert (best.metric, best.value, best.steps, best.checkpoint, best.evaluation) == ("fd_local", 2.5, 10, 3, "b")


def test_pixels_are_better_than_nothing_and_fid_is_a_distance(run: Run) -> None:
    evaluate(run, "a", {"fd_pixels": figure_json(0.5)})
    best = look().best
    assert best is not None
    assert best.metric == "fd_pixels"
    evaluate(run, "b", {"fid": figure_json(7.0)})
    best = look().best
    assert best is not None
    assert (best.metric, best.value) == ("fid", 7)


def test_the_beginning_of_a_record_says_the_same_as_the_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = evaluate(run, "a", {"fd_local": figure_json(1.5), "kd_local": figure_json(2.0, description="x" * 9000)})
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(raw))  # in one line, as no version of ours writes it
    whole = look().best
    assert whole is not None
    evaluate(run, "a", {"fd_local": figure_json(1.5), "kd_local": figure_json(2.0, description="x" * 9000)})
    monkeypatch.setattr(overview, "read_bytes", None)
    assert look().best == whole


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff" * 5000, b'{"metrics": {"fd_local": {"value": NaN}}}'])
def test_damaged_evaluations_are_none(run: Run, content: bytes) -> None:
    evaluate(run, "a", {"fd_local": figure_json(1.5)}).write_bytes(content)
    (run.evaluations_dir / "x.json").mkdir()
    assert look().best is None


@pytest.mark.parametrize(("written", "name"), [("1.5", "1e999"), ("1.5", "NaN"), ('"value"', '"valu"')])
def test_figures_that_are_no_numbers_are_none(run: Run, written: str, name: str) -> None:
    path = evaluate(run, "a", {"fd_local": figure_json(1.5)})
    path.write_text(path.read_text().replace(written, name))
    assert look().best is None


def test_what_is_no_record_hides_no_other(run: Run) -> None:
    evaluate(run, "a", {"fd_local": figure_json(1.5)})
    (run.evaluations_dir / "x.json").symlink_to("nowhere")
    (run.evaluations_dir / "y.json").symlink_to("y.json")
    best = look().best
    assert best is not None
    assert best.value == 1.5


@pytest.mark.parametrize("compact", [False, True])
def test_an_impossible_distance_is_none_and_a_corrected_one_may_be_negative(run: Run, compact: bool) -> None:
    for written, found in (('"value": -5.0', None), ('"value": 1.5', -0.25)):
        path = evaluate(run, "a", {"fd_local": figure_json(1.5, corrected=-0.25)})
        text = path.read_text().replace('"value": 1.5', written)
        path.write_text(json.dumps(json.loads(text)) if compact else text)
        best = look().best
        assert (best and best.value) == found


def test_a_folders_size_is_that_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 1000)
    (tmp_path / "d").write_bytes(b"x" * 10)
    before = folder_size(tmp_path)
    (tmp_path / "loop").symlink_to(tmp_path)
    assert before == 1010
    assert folder_size(tmp_path) - before == (tmp_path / "loop").lstat().st_size
    assert folder_size(tmp_path / "none") == 0
