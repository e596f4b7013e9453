"""What pruning frees, and what it leaves: the last checkpoint, what is in use, and what is not the run's."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from debiasctl import paths, temporaries
from debiasctl.errors import RunBusyError, RunError
from debiasctl.runs import pruning
from debiasctl.runs.pins import pinned
from debiasctl.runs.pruning import Choice, Plan, plan_pruning, prune
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run
from debiasctl.specs.resolve import validate_spec

KEY = "0123456789abcdef"


def make_checkpoint(run: Run, step: int) -> None:
    folder = run.checkpoint_path(step)
    folder.mkdir(parents=True)
    content = {"model.safetensors": b"raw", "ema.safetensors": b"ema", "state.pt": b"state"}
    for name, data in content.items():
        (folder / name).write_bytes(data)
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    (folder / "manifest.json").write_text(json.dumps({"step": step, "run": run.identity(), "sha256": sums}))


@pytest.fixture
def run() -> Run:
    return make_run("a")


def make_run(name: str, **training: Any) -> Run:
    spec = validate_spec({"data": {"dataset": "digits"}, "training": training, "provenance": {"run": "0a"}})
    made = create_run(name, spec, status=new_status(num_steps=9, dataset="digits", weighting="debiased", seed=0))
    for step in (0, 3, 6, 9):
        make_checkpoint(made, step)
    for file, size in ((f"samples/{KEY}/images.npz", 100), (f"samples/{KEY}/request.json", 10),
                       (f"samples/.{KEY}.partial/000000000-000000010.npz", 1000), (f"samples/.{KEY}.lock", 0),
                       (f"evaluations/{KEY}.features.npz", 500), (f"evaluations/{KEY}.json", 50),
                       (f"analyses/.{KEY}.partial/group-1.npz", 300), (f"analyses/{KEY}.json", 40),
                       (f"analyses/{KEY}.npz", 60), ("grids/00000004.png", 20)):  # fmt: skip
        (made.path / file).parent.mkdir(parents=True, exist_ok=True)
        (made.path / file).write_bytes(b"x" * size)
    return made


def files(run: Run) -> set[str]:
    return {file.relative_to(run.path).as_posix() for file in run.path.rglob("*") if file.is_file()}


def paths_of(plan: Plan) -> set[str]:
    return {item.path for item in plan.items}


def test_everything_that_can_be_made_again_goes_but_the_last_checkpoint(run: Run) -> None:
    before = files(run)
    plan = plan_pruning(run, Choice())
    assert files(run) == before
    assert paths_of(plan) == {
        f"samples/{KEY}", f"samples/.{KEY}.partial", f"evaluations/{KEY}.features.npz",
        "checkpoints/00000000", "checkpoints/00000003", "checkpoints/00000006", f"analyses/.{KEY}.partial",
    }  # fmt: skip
    gone = {file for file in before if any(file.startswith(path) for path in paths_of(plan))}
    size = sum((run.path / file).stat().st_size for file in gone)
    assert prune(plan) == plan.size == size
    assert files(run) - {".lock"} == before - gone
    assert run.checkpoint_steps() == [9]
    assert not plan_pruning(run, Choice()).items


@pytest.mark.parametrize(
    ("choice", "parts", "steps"),
    [
        (Choice(analyses=False, checkpoints=False, features=False), {"samples"}, [0, 3, 6, 9]),
        (Choice(analyses=False, samples=False, checkpoints=False), {"evaluations"}, [0, 3, 6, 9]),
        (Choice(samples=False, checkpoints=False, features=False), {"analyses"}, [0, 3, 6, 9]),
        (Choice(analyses=False, samples=False, features=False, keep_last=3), {"checkpoints"}, [3, 6, 9]),
        (Choice(analyses=False, samples=False, features=False, keep_last=9), set(), [0, 3, 6, 9]),
        (Choice(analyses=False, samples=False, features=False, keep_last=0), {"checkpoints"}, [9]),
    ],
)
def test_what_is_chosen_goes(run: Run, choice: Choice, parts: set[str], steps: list[int]) -> None:
    plan = plan_pruning(run, choice)
    assert {item.part for item in plan.items} == parts
    prune(plan)
    assert run.checkpoint_steps() == steps


def test_named_checkpoints_stay_unless_they_are_given_up() -> None:
    run = make_run("b", keep_steps=[3, 9])
    plan = plan_pruning(run, Choice(analyses=False, samples=False, features=False))
    assert paths_of(plan) == {"checkpoints/00000000", "checkpoints/00000006"}
    assert plan.kept == ["the checkpoints that training.keep_steps names: 3"]
    assert len(plan_pruning(run, Choice(analyses=False, samples=False, features=False, keep_named=False)).items) == 3


@pytest.mark.parametrize("part", ["samples", "checkpoints", "evaluations", "analyses"])
def test_nothing_is_removed_behind_a_link(run: Run, tmp_path: Path, part: str) -> None:
    outside = tmp_path / "scratch"
    (run.path / part).rename(outside)
    (run.path / part).symlink_to(outside)
    before = {file for file in outside.rglob("*") if file.is_file()}
    plan = plan_pruning(run, Choice())
    assert plan.kept == [f"what is in {part}/, because that is a link to {outside}"]
    assert part not in {item.part for item in plan.items}
    assert plan.foreign == []
    prune(plan)
    assert {file for file in outside.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize("damage", ["model.safetensors", "state.pt", "manifest.json"])
def test_where_the_last_checkpoint_is_damaged_all_stay(run: Run, damage: str) -> None:
    (run.checkpoint_path(9) / damage).write_bytes(b"{}")
    plan = plan_pruning(run, Choice())
    assert not any(item.part == "checkpoints" for item in plan.items)
    assert "earlier checkpoints, which a resume needs" in plan.kept[0]
    assert "damaged" in plan.kept[0]


def test_another_runs_checkpoint_is_no_last_one(run: Run) -> None:
    manifest = run.checkpoint_path(9) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"0a"', '"0b"'))
    assert not any(item.part == "checkpoints" for item in plan_pruning(run, Choice()).items)


def test_a_run_in_training_keeps_everything(run: Run) -> None:
    plan = plan_pruning(run, Choice())
    with run.lock():
        assert plan_pruning(run, Choice()).items == []
        before = files(run)
        with pytest.raises(RunBusyError):
            prune(plan)
        assert files(run) == before


def test_a_run_that_is_read_keeps_everything(run: Run) -> None:
    plan, before = plan_pruning(run, Choice()), files(run)
    with pinned(run, 3):
        now = plan_pruning(run, Choice())
        assert (now.items, "another process reads it" in now.kept[0]) == ([], True)
        with pytest.raises(RunError, match="is being read by another process by now"):
            prune(plan)
    assert files(run) - before <= {".lock"}
    assert before <= files(run)
    with pinned(run, 9):
        assert plan_pruning(run, Choice()).items == []


def test_checkpoints_that_went_since_the_plan_are_missed(run: Run) -> None:
    plan = plan_pruning(run, Choice())
    temporaries.discard(run.checkpoint_path(9))
    with pytest.raises(RunError, match="has lost checkpoints meanwhile"):
        prune(plan)
    assert run.checkpoint_steps() == [0, 3, 6]


def test_what_is_not_the_runs_stays_and_is_named(run: Run, tmp_path: Path) -> None:
    (run.samples_dir / KEY / "notes.txt").write_text("mine")
    (run.samples_dir / "my pictures").mkdir()
    (run.samples_dir / "link").symlink_to(tmp_path)
    (run.checkpoint_path(3) / "sub").mkdir()
    (run.evaluations_dir / "link.features.npz").symlink_to(tmp_path / "mine")
    (tmp_path / "mine").write_text("mine")
    plan = plan_pruning(run, Choice())
    assert plan.foreign == [f"samples/{KEY}/notes.txt", "checkpoints/00000003/sub"]
    prune(plan)
    assert run.checkpoint_steps() == [3, 9]
    assert (tmp_path / "mine").exists()
    assert {entry.name for entry in run.samples_dir.iterdir()} == {KEY, "my pictures", "link", f".{KEY}.lock"}
    assert (run.samples_dir / KEY / "images.npz").exists()


def test_a_link_to_a_run_is_left(run: Run) -> None:
    link = Run(paths.runs_dir() / "link")
    link.path.symlink_to(run.path)
    plan = plan_pruning(link, Choice())
    assert plan.items == []
    assert "it is a link to" in plan.kept[0]


def test_what_a_killed_pruning_left_is_removed_by_the_next(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(hidden: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pruning.temporaries, "delete", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(plan_pruning(run, Choice()))
    monkeypatch.undo()
    assert run.checkpoint_steps() == [9]  # everything disappeared at once
    assert any(".tmp/" in file for file in files(run))
    make_checkpoint(run, 3)
    prune(plan_pruning(run, Choice()))
    assert not any(".tmp" in file for file in files(run))
