"""Stored parts state the run and the request that they are of, and those of others are refused."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import error_of, make_spec, resume, succeed, train

from debiasctl.errors import ArchiveError, CheckpointError, ForeignPartError, RunError
from debiasctl.models.checkpoint_files import prune_checkpoints, verify
from debiasctl.models.ema_snapshots import snapshots
from debiasctl.models.posthoc_ema import store_average
from debiasctl.runs.archive import export_run, import_run
from debiasctl.runs.pins import pinned
from debiasctl.runs.store import Run, find_run
from debiasctl.sampling import Samples, make_request, sample

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Two:
    """Two runs that differ in nothing but their seeds; whatever is stored of them looks alike."""

    one: Run
    other: Run


@pytest.fixture(scope="module")
def _two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(home))
        for name, seed in (("one", 0), ("other", 1)):
            spec = make_spec(
                training__seed=seed, training__steps=4, training__checkpoint_every=2, ema__kind="power",
                ema__snapshot_every=1,
            )  # fmt: skip
            draw(train(name, spec))
            store_average(find_run(name), 0.1)
            succeed("likelihood", name, "--method", "bound", "--terms", "2", "--num", "2", "--draws", "1")
            features = ["--features", "pixels:dimension=2", "--metrics", "fd_pixels"]
            succeed("evaluate", name, "--num", "4", "--steps", "2", "--seed", "0", *features)
    return home


@pytest.fixture
def two(_two: Path, debiasctl_home: Path) -> Two:
    shutil.copytree(_two, debiasctl_home, dirs_exist_ok=True)
    return Two(find_run("one"), find_run("other"))


def draw(run: Run, *, num: int = 4, seed: int = 0) -> Samples:
    spec = run.spec()
    request = make_request(run, spec, num=num, num_steps=2, sampler="ddim", seed=seed, checkpoint=None, weights="ema")
    return sample(run, spec, request, device=CPU)


def replace(path: Path, by: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    shutil.copytree(by, path) if by.is_dir() else shutil.copy2(by, path)


def folder_of_samples(run: Run) -> Path:
    (found,) = [path for path in run.samples_dir.iterdir() if not path.name.startswith(".") and _num(path) == 4]
    return found


def _num(folder: Path) -> int:
    return int(json.loads((folder / "samples.json").read_text())["num"])


def test_runs_have_identities_of_their_own_that_go_with_them(two: Two, tmp_path: Path) -> None:
    identity = two.one.identity()
    assert identity is not None
    assert identity != two.other.identity()
    resume(two.one, steps=5)
    assert two.one.identity() == identity
    imported = import_run(export_run(two.one, tmp_path / "one.tar"), name="imported")
    copied = Run(shutil.copytree(two.one.path, tmp_path / "copied"))
    for run in (imported, copied):
        assert run.identity() == identity
        assert draw(run).images.shape[0] == 4
        resume(run, steps=6)


def test_metrics_and_a_status_of_another_run_are_refused(two: Two) -> None:
    for name in ("metrics.jsonl", "status.json"):
        own = (two.one.path / name).read_bytes()
        replace(two.one.path / name, by=two.other.path / name)
        for command in (["runs", "show", "one"], ["train", "--resume", "one", "--steps", "6", "--device", "cpu"]):
            assert f"{two.one.path / name} is not that of run 'one'" in error_of(*command, code=1)
        assert (two.one.path / name).read_bytes() == (two.other.path / name).read_bytes()
        (two.one.path / name).write_bytes(own)
    resume(two.one, steps=6)
    assert {record["run"] for record in _lines(two.one)} == {two.one.identity()}


def _lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.metrics_path.read_text().splitlines()]


# ---------------------------------------------------------------- checkpoints


def test_a_checkpoint_of_another_run_is_neither_resumed_nor_read(two: Two) -> None:
    path = two.one.checkpoint_path(4)
    replace(path, by=two.other.checkpoint_path(4))
    with pytest.raises(ForeignPartError, match=r"checkpoint 4 in .* is not that of run 'one'.*is that of run"):
        verify(path, two.one)
    before = (path / "model.safetensors").read_bytes()
    for command in (
        ["sample", "one", "--num", "1", "--steps", "2", "--seed", "7"],
        ["evaluate", "one", "--num", "4", "--steps", "2", "--seed", "7", "--features", "pixels:dimension=2"],
        ["likelihood", "one", "--num", "2", "--steps", "2"],
        ["train", "--resume", "one", "--steps", "6"],
        ["train", "digits", "--init-from", "one", "--backbone", "dit:hidden_size=16,depth=1,num_heads=2"],
    ):
        assert "is not that of run 'one'" in error_of(*command, "--device", "cpu", code=1)
    assert (path / "model.safetensors").read_bytes() == before
    assert two.one.checkpoint_steps() == [2, 4]


def test_runs_of_older_versions_without_an_identity_are_read(two: Two) -> None:
    spec = json.loads((two.one.path / "spec.json").read_text())
    del spec["provenance"]["run"]
    (two.one.path / "spec.json").write_text(json.dumps(spec))
    for manifest in two.one.path.glob("checkpoints/*/manifest.json"):
        raw = json.loads(manifest.read_text())
        del raw["run"]
        manifest.write_text(json.dumps(raw))
    for description in two.one.path.glob("ema/*.json"):
        raw = json.loads(description.read_text())
        del raw["run"]
        description.write_text(json.dumps(raw))
    lines = [{key: value for key, value in record.items() if key != "run"} for record in _lines(two.one)]
    two.one.metrics_path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    two.one.write_status(two.one.status())
    assert "run" not in json.loads((two.one.path / "status.json").read_text())
    shutil.rmtree(two.one.samples_dir)
    assert two.one.identity() is None
    succeed("runs", "show", "one")
    draw(two.one)
    assert draw(two.one).reused
    resume(two.one, steps=5)
    replace(two.one.checkpoint_path(4), by=two.other.checkpoint_path(4))
    with pytest.raises(CheckpointError, match="is not that of run 'one'"):
        verify(two.one.checkpoint_path(4), two.one)


def test_snapshots_of_averages_of_another_run_are_refused(two: Two) -> None:
    for ending in ("json", "safetensors"):
        replace(two.one.path / "ema" / f"00000003.{ending}", by=two.other.path / "ema" / f"00000003.{ending}")
    with pytest.raises(ForeignPartError, match=r"the average in .*00000003\.safetensors is not that of run 'one'"):
        snapshots(two.one)


# ---------------------------------------------------------------- samples


def _whole_set(one: Path, other: Path) -> None:
    replace(one, by=other)


def _images(one: Path, other: Path) -> None:
    replace(one / "images.npz", by=other / "images.npz")


@pytest.mark.parametrize(
    "swap, message",
    [
        (_whole_set, r"the set of samples in .* is not that of run 'one'"),
        (_images, r"images\.npz is not the file that samples\.json describes"),
    ],
)
def test_samples_of_another_run_are_not_measured_as_this_runs(
    two: Two, swap: Callable[[Path, Path], None], message: str
) -> None:
    swap(folder_of_samples(two.one), folder_of_samples(two.other))
    with pytest.raises(RunError, match=message):
        draw(two.one)
    measure = ["evaluate", "one", "--num", "4", "--steps", "2", "--features", "pixels:dimension=2", "--device", "cpu"]
    assert re.search(message, error_of(*measure, code=1))
    draw(two.one, num=5)  # a longer set takes nothing from the foreign one
    folder = folder_of_samples(two.other)
    assert not torch.equal(Samples(folder, draw(two.other).description, True).images, draw(two.one, num=5).images[:4])


def test_samples_of_another_request_are_refused(two: Two) -> None:
    own, later = draw(two.one), draw(two.one, seed=1)
    replace(own.folder, by=later.folder)
    with pytest.raises(ForeignPartError, match=r"was drawn for another request \(checkpoint 4, ema weights, .* seed 1"):
        draw(two.one)


def test_parts_of_an_unfinished_request_of_another_run_are_drawn_again(two: Two, caplog) -> None:
    from debiasctl.sampling.image_files import save_npz

    expected = draw(two.one, seed=3).images
    series = draw(two.one, seed=3).description.series
    shutil.rmtree(draw(two.one, seed=3).folder)
    folder = two.one.samples_dir / f".{series}.partial"
    folder.mkdir()
    save_npz(
        folder / "000000000-000000002.npz", [255 - expected[:2]], None, num=2, nfe=2,
        identity=f"{two.other.identity()}/{series}",
    )  # fmt: skip
    assert torch.equal(draw(two.one, seed=3).images, expected)
    assert "images 0 to 1 cannot be used (it is of another run or request)" in caplog.text


# ---------------------------------------------------------------- records


@pytest.mark.parametrize("kind", ["fd_pixels", "bits_per_dim"])
def test_records_of_another_run_are_not_compared(two: Two, kind: str) -> None:
    def records(run: Run) -> Path:
        (found,) = [path for path in run.evaluations_dir.glob("*.json") if kind in path.read_text()]
        return found

    succeed("compare", "one", "other")
    replace(records(two.one), by=records(two.other))
    message = error_of("compare", "one", "other", code=1)
    assert "the record in" in message
    assert "is not that of run 'one'" in message


def test_a_record_of_another_measurement_is_not_compared(two: Two) -> None:
    path = next(path for path in two.one.evaluations_dir.glob("*.json") if "fd_pixels" in path.read_text())
    path.rename(path.with_name("0123456789abcdef.json"))
    assert "is that of another measurement" in error_of("compare", "one", "other", code=1)


# ---------------------------------------------------------------- pins


def test_pruning_leaves_a_checkpoint_that_is_being_read(two: Two) -> None:
    settings = two.one.spec().training.model_copy(update={"keep_last": 1})
    with pinned(two.one, 2), ExitStack():
        prune_checkpoints(two.one, settings, newest=4)
        assert two.one.checkpoint_steps() == [2, 4]
        verify(two.one.checkpoint_path(2), two.one)
    prune_checkpoints(two.one, settings, newest=4)
    assert two.one.checkpoint_steps() == [4]


def test_what_is_measured_stays_until_the_command_ends(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training goes on while a likelihood is measured, and prunes: the checkpoint stays, and is not called damaged."""
    from debiasctl.evaluation.likelihood import likelihood

    load = likelihood.load_named_weights

    def prune_first(run: Run, *arguments: object, **options: object) -> str:
        settings = run.spec().training.model_copy(update={"keep_last": 1})
        prune_checkpoints(run, settings, newest=4)
        return load(run, *arguments, **options)

    monkeypatch.setattr(likelihood, "load_named_weights", prune_first)
    measure = ["likelihood", "one", "--checkpoint", "2", "--method", "bound", "--terms", "2", "--num", "2"]
    assert "checkpoint 2" in succeed(*measure, "--device", "cpu").out
    assert two.one.checkpoint_steps() == [2, 4]


def test_a_checkpoint_that_was_removed_by_hand_is_not_called_damaged(two: Two) -> None:
    shutil.rmtree(two.one.checkpoint_path(4))
    with pytest.raises(CheckpointError, match="checkpoint 4 of run 'one' is not there any more"):
        verify(two.one.checkpoint_path(4), two.one)


def test_an_archive_with_a_checkpoint_of_another_run_is_refused(two: Two, tmp_path: Path) -> None:
    replace(two.one.checkpoint_path(4), by=two.other.checkpoint_path(4))
    archive = export_run(two.one, tmp_path / "one.tar")
    with pytest.raises(ArchiveError, match="its checkpoint 4 is that of another run"):
        import_run(archive, name="imported")


@pytest.mark.parametrize("likelihood", [False, True])
def test_the_command_that_is_printed_for_a_missing_measurement_makes_it(two: Two, likelihood: bool) -> None:
    records = two.one.evaluations_dir.glob("*.json")
    (missing,) = [path for path in records if ('"terms"' in path.read_text()) == likelihood]
    (name,) = json.loads(missing.read_text())["metrics"]
    missing.unlink()
    message = error_of("compare", "other", "one", "--metric", name, code=1)
    succeed(*shlex.split(message.partition("for example: debiasctl ")[2]))
    assert missing.exists()
    succeed("compare", "other", "one", "--metric", name)
