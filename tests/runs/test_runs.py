import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO

import pytest

from debiasctl import paths
from debiasctl.errors import CheckpointError, DebiasctlError, RunBusyError, RunError, RunNameError
from debiasctl.runs.listing import list_runs
from debiasctl.runs.pins import choose_step
from debiasctl.runs.records import BinErrors, HeldoutRecord, TrainRecord
from debiasctl.runs.removal import remove_run
from debiasctl.runs.status import RunStatus, new_status
from debiasctl.runs.store import (
    Run,
    append_metrics,
    create_run,
    find_run,
    read_metrics,
    refuse_taken_name,
    run_names,
    truncate_metrics,
    validate_run_name,
)
from debiasctl.specs.resolve import validate_spec
from debiasctl.specs.sections import RunSpec

HOLDER = """
import sys, time
from pathlib import Path
from debiasctl.runs.store import Run
run = Run(Path(sys.argv[1]))
with run.lock():
    run.update_status(state="training")
    print("held", flush=True)
    time.sleep(60)
"""


def make_spec() -> RunSpec:
    return validate_spec({"data": {"dataset": "digits"}, "training": {"steps": 10}})


def make_status(**changes: object) -> RunStatus:
    return replace(new_status(num_steps=10, dataset="digits", weighting="debiased", seed=0), **changes)


def make_run(name: str | None = "a", **changes: object) -> Run:
    return create_run(name, make_spec(), status=make_status(**changes))


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def trainer(request: pytest.FixtureRequest):
    """Starts another process that holds a run's lock."""

    def start(run: Run) -> "subprocess.Popen[str]":
        process = subprocess.Popen([sys.executable, "-c", HOLDER, str(run.path)], stdout=subprocess.PIPE, text=True)
        request.addfinalizer(lambda: (process.kill(), process.communicate()))
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    return start


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["a", "0", "digits-debiased-0", "A.b_c-d", "a..b", "x" * 100])
def test_allowed_names(name: str) -> None:
    validate_run_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../a", "a/b", "/a", "a\\b", ".a", "-a", "_a", "a b", "a\n", "ä", "x" * 101, "C:a", "a\0b", "~a"],
)
def test_refused_names(name: str) -> None:
    with pytest.raises(RunNameError, match="is not a run's name: use 1 to 100"):
        validate_run_name(name)
    with pytest.raises(RunNameError, match="is not a run's name: use 1 to 100"):
        create_run(name, make_spec(), status=make_status())
    assert not paths.home().exists() or list(paths.home().iterdir()) == []


def test_automatic_names_count_up() -> None:
    assert [make_run(None).name for _ in range(3)] == [
        "digits-debiased-0",
        "digits-debiased-0-2",
        "digits-debiased-0-3",
    ]
    assert make_run(None, seed=7, weighting="min-snr:gamma=5").name == "digits-min-snr-gamma-5-7"


def test_automatic_names_of_long_paths_keep_the_seed() -> None:
    name = make_run(None, dataset="/data/" + "x" * 200, seed=12345).name
    validate_run_name(name)
    assert name.endswith("-debiased-12345")


def test_automatic_names_are_never_shared() -> None:
    spec, made, barrier = make_spec(), [], threading.Barrier(8)

    def work() -> None:
        barrier.wait()
        made.extend(create_run(None, spec, status=make_status()).name for _ in range(5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == len(made) == 40
    assert run_names() == sorted(made)


# ---------------------------------------------------------------- creating


def test_created_run_reads_back() -> None:
    status = make_status()
    run = create_run("a", make_spec(), status=status)
    assert run.path == paths.runs_dir() / "a"
    assert run.spec() == make_spec()
    assert json.loads((run.path / "spec.json").read_text()) == make_spec().model_dump(mode="json")
    assert run.status() == status
    assert run.checkpoint_steps() == []
    assert run.evaluation_keys() == []


def test_taken_name_is_refused_with_both_ways_on() -> None:
    run = make_run("a")
    before = snapshot(run.path)
    said = r"'a' already exists. Choose another `name`; .*: debiasctl train --resume a$"
    with pytest.raises(RunNameError, match=said):
        make_run("a")
    assert snapshot(run.path) == before


def test_empty_folder_of_that_name_is_not_replaced() -> None:
    (paths.runs_dir() / "a").mkdir(parents=True)
    with pytest.raises(RunNameError, match="exists and is not a run"):
        make_run("a")


def test_creation_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, value: object) -> None:
        if path.name == "status.json":
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("debiasctl.runs.store.write_json", full)
    with pytest.raises(DebiasctlError, match="the disk is full"):
        make_run("a")
    assert list(paths.runs_dir().iterdir()) == []


def test_name_taken_while_creating_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = make_spec()

    class SlowSpec:
        def model_dump(self, mode: str) -> object:
            (paths.runs_dir() / "a").mkdir()
            (paths.runs_dir() / "a" / "spec.json").write_text("theirs")
            return real.model_dump(mode=mode)

    with pytest.raises(RunNameError, match="already exists"):
        create_run("a", SlowSpec(), status=make_status())  # type: ignore[arg-type]
    assert (paths.runs_dir() / "a" / "spec.json").read_text() == "theirs"
    assert [path.name for path in paths.runs_dir().iterdir()] == ["a"]


# ---------------------------------------------------------------- finding


def test_find_by_name_and_unique_prefix() -> None:
    for name in ("digits", "digits-b", "photo"):
        make_run(name)
    assert find_run("digits").name == "digits"
    assert find_run("ph").name == "photo"
    with pytest.raises(RunNameError, match=r"several runs' names: digits, digits-b\. Write"):
        find_run("dig")
    with pytest.raises(
        RunNameError, match=r"there is no run 'fhoto'\. Did you mean 'photo'\? See: debiasctl runs list"
    ):
        find_run("fhoto")


def test_find_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a")
    elsewhere = tmp_path / "b"
    run.path.rename(elsewhere)
    monkeypatch.chdir(tmp_path)
    for text in ("./b", "b/", str(elsewhere), f"{tmp_path}/x/../b"):
        assert find_run(text) == Run(elsewhere.resolve())
    monkeypatch.chdir(elsewhere)
    assert find_run(".") == Run(elsewhere.resolve())
    with pytest.raises(RunNameError, match="there is no run 'b'"):
        find_run("b")


@pytest.mark.parametrize("text", ["a/../../x", "./nothing", "..", "/", "a/", "~nobody-here/x", "a/\0"])
def test_paths_that_hold_no_run(text: str) -> None:
    with pytest.raises(RunNameError, match=r"is not a run's folder|cannot be read as a path"):
        find_run(text)


def test_a_run_is_named_in_a_command_so_that_it_can_be_pasted(tmp_path: Path) -> None:
    run = make_run("a")
    copy = shutil.copytree(run.path, tmp_path / "a copy" / "b")
    assert [one.typed for one in (run, find_run(f"{run.path}"), find_run(f"{copy}"))] == ["a", "a", f"'{copy}'"]
    with pytest.raises(CheckpointError, match=re.escape(f"debiasctl train --resume '{copy}'")):
        choose_step(find_run(f"{copy}"), None)


def test_folders_without_a_run_are_not_found() -> None:
    (paths.runs_dir() / "stray").mkdir(parents=True)
    (paths.runs_dir() / ".hidden").mkdir()
    with pytest.raises(RunNameError, match="stray is not a run: it holds neither"):
        find_run("stray")
    assert list_runs() == []


# ---------------------------------------------------------------- status and listing


def test_list_is_sorted_by_creation() -> None:
    assert list_runs() == []
    make_run("b", created="2025-01-01T00:00:00.000+00:00")
    make_run("c", created="2025-01-03T00:00:00.000+00:00")
    make_run("a", created="2025-01-02T00:00:00.000+00:00")
    assert [summary.name for summary in list_runs()] == ["b", "a", "c"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        json.dumps({**asdict(make_status()), "state": "dancing"}).encode(),
        json.dumps({**asdict(make_status()), "step": "3"}).encode(),
        json.dumps({**asdict(make_status()), "step": -1}).encode(),
        json.dumps({**asdict(make_status()), "created": "yesterday"}).encode(),
        json.dumps({**asdict(make_status()), "created": "2025-01-01T00:00:00"}).encode(),
        json.dumps({**asdict(make_status()), "dataset": None}).encode(),
        json.dumps({**asdict(make_status()), "message": 3}).encode(),
        json.dumps({**asdict(make_status()), "extra": 3}).encode(),
        json.dumps({**asdict(make_status()), "schema_version": 2}).encode(),
        None,
    ],
)
def test_damaged_status_is_reported_and_left_alone(content: bytes | None) -> None:
    make_run("good")
    run = make_run("bad")
    file = run.path / "status.json"
    file.unlink() if content is None else file.write_bytes(content)
    before = snapshot(run.path)
    with pytest.raises(RunError, match=r"status\.json"):
        run.status()
    with pytest.raises(RunError, match=r"status\.json"):
        run.update_status(step=3)
    good, bad = list_runs()
    assert (good.name, good.state, good.problem) == ("good", "created", None)
    assert (bad.name, bad.state, bad.status) == ("bad", "damaged", None)
    assert bad.problem is not None
    assert "status.json" in bad.problem
    assert snapshot(run.path) == before


def test_newer_status_says_so() -> None:
    run = make_run("a")
    (run.path / "status.json").write_text(json.dumps({"schema_version": 2, "unheard": "of"}))
    with pytest.raises(RunError, match="written by a newer version"):
        run.status()


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", None])
def test_damaged_spec_is_reported(content: bytes | None) -> None:
    run = make_run("a")
    file = run.path / "spec.json"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(RunError, match=r"spec\.json"):
        run.spec()


def test_update_status_keeps_the_rest() -> None:
    run = make_run("a", updated="2020-01-01T00:00:00+00:00", created="2020-01-01T00:00:00+00:00")
    new = run.update_status(step=4, state="finished", message="done")
    assert run.status() == new
    assert (new.step, new.state, new.message, new.created) == (4, "finished", "done", "2020-01-01T00:00:00+00:00")
    assert new.updated > "2025"


def test_checkpoints_are_the_complete_ones() -> None:
    run = make_run("a")
    for name in ("00000010", "00000002", "123456789"):
        (run.path / "checkpoints" / name).mkdir(parents=True)
        (run.path / "checkpoints" / name / "manifest.json").write_text("{}")
    (run.path / "checkpoints" / "00000020").mkdir()
    (run.path / "checkpoints" / ".00000030.1.tmp").mkdir()
    (run.path / "checkpoints" / ".00000030.1.tmp" / "manifest.json").write_text("{}")
    assert run.checkpoint_steps() == [2, 10, 123456789]
    assert run.checkpoint_path(10) == run.path / "checkpoints" / "00000010"
    assert run.checkpoint_path(123456789).is_dir()


# ---------------------------------------------------------------- the lock


def test_lock_is_exclusive_and_free_afterwards() -> None:
    run = make_run("a")
    assert not run.is_training()
    with run.lock():
        assert run.is_training()
        with pytest.raises(RunBusyError, match=rf"run 'a' is being trained by another process \(pid {os.getpid()} on"):
            run.lock().__enter__()
        assert run.is_training()
    assert not run.is_training()
    assert sorted(path.name for path in run.path.iterdir()) == [".lock", "spec.json", "status.json"]
    with run.lock():
        pass


def test_reading_creates_and_changes_nothing() -> None:
    run = make_run("a", state="training")
    before = snapshot(paths.home())
    assert not run.is_training()
    assert list_runs()[0].state == "interrupted"
    assert run.status().state == "interrupted"
    assert read_metrics(run) == run.checkpoint_steps() == run.evaluation_keys() == []
    assert find_run("a") == run
    assert snapshot(paths.home()) == before


@pytest.fixture
def other_reader():
    """Looks at a run's lock from another descriptor, as `is_training` does, until it is closed."""
    fcntl = pytest.importorskip("fcntl")

    def look(run: Run) -> IO[bytes]:
        stream = os.fdopen(os.open(run.path / ".lock", os.O_RDONLY), "rb")
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return stream

    return look


def test_readers_do_not_take_one_another_for_trainers(other_reader) -> None:
    run = make_run("a")
    with run.lock():
        pass
    with other_reader(run):
        assert not run.is_training()


def test_a_glance_at_the_lock_stops_no_trainer(other_reader) -> None:
    run = make_run("a")
    with run.lock():
        pass
    glance = other_reader(run)
    threading.Timer(0.05, glance.close).start()
    with run.lock():
        assert glance.closed


def test_trainer_that_finishes_during_the_look_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run("a", state="training")

    def finish(self: Run) -> bool:
        self.write_status(make_status(state="finished"))
        return False

    monkeypatch.setattr(Run, "is_training", finish)
    assert run.status().state == "finished"


def test_living_and_killed_trainers(trainer) -> None:
    run = make_run("a")
    process = trainer(run)
    assert run.is_training()
    assert run.status().state == list_runs()[0].state == "training"
    with pytest.raises(RunBusyError, match=rf"pid {process.pid}"), run.lock():
        pass
    with pytest.raises(RunBusyError, match=rf"pid {process.pid}"):
        remove_run(run)
    assert run.status().state == "training"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not run.is_training()
    assert run.status().state == list_runs()[0].state == "interrupted"
    with run.lock():
        assert run.update_status(step=1).state == "training"


def test_lock_of_a_removed_run_makes_no_folder() -> None:
    run = make_run("a")
    remove_run(run)
    with pytest.raises(RunNameError, match="there is no run 'a'"), run.lock():
        pass
    assert not run.path.exists()


# ---------------------------------------------------------------- removing


def test_removed_run_is_gone() -> None:
    keep, run = make_run("keep"), make_run("a")
    (run.path / "checkpoints" / "00000001").mkdir(parents=True)
    assert remove_run(run) == []
    assert [path.name for path in paths.runs_dir().iterdir()] == ["keep"]
    assert keep.status().state == "created"


def test_removal_cut_short_hides_the_run_and_is_finished_later(monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = make_run("a"), make_run("b")

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("debiasctl.temporaries.shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_run(run)
    assert run_names() == ["b"]
    assert len(list(paths.runs_dir().iterdir())) == 2
    remove_run(other)
    assert list(paths.runs_dir().iterdir()) == []


def test_outside_the_store_only_what_is_part_of_a_run_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    make_run("a").path.rename(folder)
    (folder / "thesis.tex").write_text("years of work")
    checkpoint = folder / "checkpoints" / "00000004"
    checkpoint.mkdir(parents=True)
    for name in ("ema.safetensors", "manifest.json", "notes.txt"):
        (checkpoint / name).write_text(name)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "00000001.png").write_text("mine")
    (folder / "grids").symlink_to(tmp_path / "elsewhere")
    (folder / "evaluations" / "mine").mkdir(parents=True)
    (folder / "samples" / ".0123456789abcdef.partial").mkdir(parents=True)
    (folder / "samples" / ".0123456789abcdef.partial" / "000000000-000000008.npz").write_text("half")
    (folder / ".status.json.1.0123abcd.tmp").write_text("half")
    (folder / "trackers").mkdir()
    (folder / "trackers" / "latest").symlink_to(tmp_path / "elsewhere")
    left = remove_run(find_run(str(folder)))
    assert left == ["checkpoints/00000004/notes.txt", "evaluations/mine", "grids", "thesis.tex"]
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")) == [
        "checkpoints",
        "checkpoints/00000004",
        *["checkpoints/00000004/notes.txt", "evaluations", "evaluations/mine", "grids", "thesis.tex"],
    ]
    assert (tmp_path / "elsewhere" / "00000001.png").read_text() == "mine"


def test_outside_the_store_a_run_with_nothing_else_goes_as_a_whole(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    make_run("a").path.rename(folder)
    (folder / "checkpoints" / ".00000004.tmp").mkdir(parents=True)
    assert remove_run(find_run(str(folder))) == []
    assert list(tmp_path.iterdir()) == []


def test_in_the_store_too_what_is_not_part_of_a_run_stays() -> None:
    run = make_run("a")
    (run.path / "checkpoints" / "00000001").mkdir(parents=True)
    (run.path / "notes.txt").write_text("why I did this")
    assert remove_run(run) == ["notes.txt"]
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]
    assert list_runs() == []
    with pytest.raises(RunNameError, match=r"exists and is not a run\. Move it away, or choose another name"):
        make_run("a")


def test_linked_run_is_not_removed(tmp_path: Path) -> None:
    make_run("a").path.rename(tmp_path / "big-disk")
    (paths.runs_dir() / "a").symlink_to(tmp_path / "big-disk")
    with pytest.raises(RunError, match="is a link to"):
        remove_run(find_run("a"))
    assert (tmp_path / "big-disk" / "spec.json").exists()


# ---------------------------------------------------------------- metrics


def logged(step: int, loss: float = 0.5) -> TrainRecord:
    return TrainRecord(step=step, images=8 * step, loss=loss, grad_norm=None, lr=0.1, images_per_second=2.0)


def logged_line(step: int, loss: float = 0.5) -> bytes:
    line = f'{{"kind": "train", "step": {step}, "images": {8 * step}, "loss": {loss}, "grad_norm": null, "lr": 0.1, '
    return (line + '"images_per_second": 2.0}\n').encode()


def test_metrics_append_and_read() -> None:
    run = make_run("a")
    assert read_metrics(run) == []
    append_metrics(run, [logged(1), logged(2, 0.25)])
    append_metrics(run, [])
    bins = [BinErrors(log_snr=(None, -8.0), num=3, eps=0.5, x0=1.0, v=2.0)]
    last = HeldoutRecord(step=3, weights="e\nm", bins=bins)
    append_metrics(run, [last])
    assert read_metrics(run) == [logged(1), logged(2, 0.25), last]
    assert run.metrics_path.read_bytes() == logged_line(1) + logged_line(2, 0.25) + (
        b'{"kind": "heldout", "step": 3, "weights": "e\\nm", '
        b'"bins": [{"log_snr": [null, -8.0], "num": 3, "eps": 0.5, "x0": 1.0, "v": 2.0}]}\n'
    )


STORED = (
    '{"kind": "train", "step": 4, "images": 32, "loss": 0.5, "grad_norm": null, "lr": 0.1, "images_per_second": 2.5}',
    '{"kind": "train", "step": 4, "images": 32, "loss": 0.5, "grad_norm": 1.5, "lr": 0.1, "skipped_steps": 0, '
    '"loss_shares": [{"log_snr": [null, -8.0], "share": null}, {"log_snr": [-8.0, -6.0], "share": 0.25}], '
    '"images_per_second": 2.5, "flops_per_image": 1000, "flops_per_second": 2500.0, "peak_memory": 123456}',
    '{"kind": "heldout", "step": 4, "weights": "ema", "bins": [{"log_snr": [8.0, null], "num": 3, "eps": 1.5, '
    '"x0": 2.5, "v": 0.5}]}',
    '{"kind": "evaluation", "step": 4, "images": 32, "num": 16, "sampler": "ddim", "steps": 2, "nfe": 2, '
    '"weights": "ema", "metrics": {"fd": 1.5, "mmd": 0.5}, "floors": {"fd": 0.5, "mmd": null}}',
)


@pytest.mark.parametrize("line", STORED)
def test_a_stored_record_is_written_again_as_it_was(line: str) -> None:
    run = make_run("a")
    run.metrics_path.write_text(f"{line}\n")
    records = read_metrics(run)
    run.metrics_path.unlink()
    append_metrics(run, records)
    assert run.metrics_path.read_text() == f"{line}\n"


@pytest.mark.parametrize("partial", [b'{"st', logged_line(2).rstrip(), b"x" * 10_000, b"x" * 4096])
@pytest.mark.parametrize("first", [[], [logged(1)]])
def test_partial_last_line_is_ignored_then_cut_off(first: list[TrainRecord], partial: bytes) -> None:
    run = make_run("a")
    append_metrics(run, first)
    before = run.metrics_path.read_bytes()
    run.metrics_path.write_bytes(before + partial)
    assert read_metrics(run) == first
    assert run.metrics_path.read_bytes() == before + partial
    append_metrics(run, [logged(2, 1.0)])
    assert run.metrics_path.read_bytes() == before + logged_line(2, 1.0)


@pytest.mark.parametrize(
    "line",
    [b"{", b"", b"3", b'{"loss": 1}', b'{"step": "1"}', logged_line(1)[:-2] + b', "x": NaN}', b"\xff"],
)
def test_damaged_middle_line_is_reported_and_left_alone(line: bytes) -> None:
    run = make_run("a")
    content = logged_line(1) + line + b"\n" + logged_line(2)
    run.metrics_path.write_bytes(content)
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged in line 2"):
        read_metrics(run)
    with pytest.raises(RunError, match=r"metrics\.jsonl is damaged in line 2"):
        truncate_metrics(run, 1)
    assert run.metrics_path.read_bytes() == content


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"step": 1}', "'kind' is missing"),
        (b'{"kind": "dream", "step": 1}', "Input tag 'dream' .* 'train', 'heldout', 'evaluation'"),
        (logged_line(1).replace(b'"lr": 0.1, ', b""), r"train\.lr: Field required"),
        (logged_line(1).replace(b"0.5", b'"low"'), r"train\.loss: Input should be a valid number"),
        (logged_line(1)[:-2] + b', "luck": 7}', r"train\.luck: Extra inputs are not permitted"),
    ],
)
def test_a_line_that_is_no_record_is_damage(line: bytes, cause: str) -> None:
    run = make_run("a")
    run.metrics_path.write_bytes(logged_line(1) + line.rstrip() + b"\n")
    with pytest.raises(RunError, match=rf"metrics\.jsonl is damaged in line 2: {cause}.*\. Restore it from a copy"):
        read_metrics(run)


def test_numbers_that_json_cannot_say_are_refused_before_writing() -> None:
    run = make_run("a")
    with pytest.raises(ValueError, match="JSON"):
        append_metrics(run, [logged(1), logged(2, float("nan"))])
    assert read_metrics(run) == []


def test_truncate_drops_later_steps_only() -> None:
    run = make_run("a")
    truncate_metrics(run, 0)
    assert not run.metrics_path.exists()
    records = [logged(step, step / 3) for step in (0, 5, 10, 10, 15)]
    append_metrics(run, records)
    truncate_metrics(run, 15)
    assert read_metrics(run) == records
    truncate_metrics(run, 10)
    assert read_metrics(run) == records[:4]
    truncate_metrics(run, 4)
    assert read_metrics(run) == records[:1]


# ---------------------------------------------------------------- imports


def test_listing_imports_nothing_heavy() -> None:
    make_run("a", state="training")
    code = (
        "import sys; from debiasctl.runs.listing import list_runs; assert [r.name for r in list_runs()] == ['a']; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'filelock', 'rich') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_what_cannot_be_undone_asks_for_the_whole_name() -> None:
    make_run("two")
    assert find_run("tw").name == "two"
    with pytest.raises(RunNameError, match=r"there is no run 'tw'\. Did you mean 'two'"):
        find_run("tw", exact=True)
    assert find_run("two", exact=True).name == "two"


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_lies_in_the_store_and_is_no_run_is_named_so(kind: str) -> None:
    make_run("other")
    path = paths.runs_dir() / "stray"
    path.mkdir() if kind == "folder" else path.write_text("")
    with pytest.raises(RunNameError, match=r"stray is not a run: it holds neither .* Move it away"):
        find_run("stray")
    with pytest.raises(RunNameError, match=r"stray exists and is not a run. Move it away, or choose another name"):
        refuse_taken_name("stray")
    with pytest.raises(RunNameError, match="exists and is not a run"):
        make_run("stray")
