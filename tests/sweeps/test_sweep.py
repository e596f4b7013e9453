"""Sweeps from the command line: rounds, resuming, extending, failures, signals, and what is refused."""

import json
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from here import installed
from tiny import OPTIONS, Outcome, assert_same_end, debiasctl, error_of, succeed

from debiasctl.cli.sweep import _commands
from debiasctl.errors import RunError, UsageError
from debiasctl.paths import runs_dir, sweeps_dir
from debiasctl.runs.store import find_run
from debiasctl.sweeps import conduct, prepare, progress, work
from debiasctl.sweeps.answer import Answer, answer_of
from debiasctl.sweeps.store import find_sweep

TINY = (*OPTIONS, "--steps", "3", "--checkpoint-every", "1")
MEASURED = ("--num", "8", "--evaluate-steps", "2", "--features", "pixels:dimension=4")
SWEEP = ("sweep", "digits", *TINY, *MEASURED, "--engine", "here")
TWO = (*SWEEP, "--weighting", "constant,p2", "--seeds", "2")
RUNS = ["digits-constant-s0", "digits-p2-s0", "digits-constant-s1", "digits-p2-s1"]


def states(name: str = "digits") -> dict[str, str]:
    return {run["name"]: run["state"] for run in json.loads(succeed("sweep", "show", name, "--json").out)["runs"]}


def records(run: str) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(find_run(run).evaluations_dir.glob("*.json"))]


def stamps() -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in sorted(runs_dir().rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def _two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome, list[str]]:
    home = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch, installed(home / "site", patch) as order:
        patch.setenv("DEBIASCTL_HOME", str(home))
        outcome = succeed(*TWO, "--json")
        return home, outcome, list(order)


@pytest.fixture
def two(_two: tuple[Path, Outcome, list[str]], order: list[str], debiasctl_home: Path) -> Outcome:
    """A finished sweep."""
    shutil.copytree(_two[0], debiasctl_home, dirs_exist_ok=True)
    return _two[1]


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are trained alone, where the claim is not about measuring."""
    monkeypatch.setattr(work, "_measure", lambda *args, **settings: None)
    monkeypatch.setattr(progress, "_gone", lambda *args: [])
    monkeypatch.setattr(conduct, "answer_of", lambda *args, **settings: Answer("nothing", is_settled=False))


def test_rounds_have_all_arms_with_the_first_seed_before_the_next(_two: tuple[Path, Outcome, list[str]]) -> None:  # noqa: PT019
    assert _two[2] == RUNS


def test_a_sweep_trains_samples_and_measures_every_arm_with_every_seed(two: Outcome) -> None:
    found = json.loads(two.out)
    assert [run["name"] for run in found["runs"]] == RUNS
    assert "fd_pixels at 2 steps" in found["answer"]
    study = json.loads((sweeps_dir() / "digits" / "study.json").read_text())
    assert study["answer"] == found["answer"]
    assert [arm["name"] for arm in study["arms"]] == ["constant", "p2"]
    report = (sweeps_dir() / "digits" / "report.html").read_text()
    assert found["report"].endswith("/sweeps/digits/report.html")
    assert "debiasctl compare digits-constant-s0 digits-p2-s0 digits-constant-s1 digits-p2-s1 --primary" in report
    assert {run["state"] for run in found["runs"]} == {"done"}
    for name in RUNS:
        (record,) = records(name)
        seed = int(name[-1])
        assert find_run(name).spec().training.seed == seed
        assert (record["measured"]["seed"], record["measured"]["steps"], record["measured"]["num"]) == (seed, 2, 8)
    succeed("train", "digits", *TINY, "--weighting", "p2", "--seed", "1", "--device", "cpu", "--name", "alone")
    assert_same_end(find_run("digits-p2-s1"), find_run("alone"))


def test_the_same_command_again_runs_nothing(two: Outcome, order: list[str]) -> None:
    before = stamps()
    for command in (TWO, ("sweep", "--resume", "digits")):
        again = json.loads(succeed(*command, "--json").out)
        assert again["runs"] == json.loads(two.out)["runs"]
    assert order == []
    assert stamps() == before


def test_seeds_arms_and_sampling_steps_are_added(two: Outcome, order: list[str]) -> None:
    before = stamps()
    order.clear()
    succeed("sweep", "--resume", "digits", "--seeds", "3")
    assert order == ["digits-constant-s2", "digits-p2-s2"]
    order.clear()
    succeed(*SWEEP, "--weighting", "debiased,constant", "--seeds", "1")
    assert order == ["digits-debiased-s0", "digits-debiased-s1", "digits-debiased-s2"]
    assert find_sweep("digits").stored().reference == "constant"
    assert before.items() <= stamps().items()
    order.clear()
    more = tuple(
        "2,3" if word == "2" and TWO[place - 1] == "--evaluate-steps" else word for place, word in enumerate(TWO)
    )
    succeed(*more)
    assert len(order) == 9  # measured again, and trained no further
    assert sorted(record["measured"]["steps"] for record in records("digits-p2-s0")) == [2, 3]
    checkpoints = {file: stamp for file, stamp in before.items() if "checkpoints" in file.parts}
    assert checkpoints.items() <= stamps().items()


@pytest.mark.parametrize(
    "change, message",
    [
        (("--lr", "0.5"), "arms constant, p2: optimizer.lr (0.5, there "),
        (("--backbone", "unet"), "arms constant, p2: model.backbone.name (unet, there dit). "),
        (("--num", "9"), "how runs are measured (num 9, "),
        (("--margin", "0.2"), "the margin (0.2, there 0.05)"),
        (("--reference", "p2"), "the reference (p2, there constant)"),
        (("--threads", "7"), "the threads of a run (7, there "),
        (("--until-decided",), "the numbers of seeds at which it is decided"),
        (("--primary", "kd_pixels"), "the primary metric (kd_pixels, there fd_pixels@2)"),
    ],
)
def test_a_sweep_is_not_made_another_one(two: Outcome, order: list[str], change: tuple[str, ...], message: str) -> None:
    before, stored = stamps(), (sweeps_dir() / "digits" / "sweep.json").read_bytes()
    order.clear()
    error = error_of(*TWO, *change, code=2)
    assert "sweep 'digits' is there already, and this asks for another one" in error
    assert message in error
    assert (order, stamps(), (sweeps_dir() / "digits" / "sweep.json").read_bytes()) == ([], before, stored)


def failing(monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: Exception) -> None:
    """Let the measuring of a run fail so many times."""
    left, measure = [times], work._measure

    def fails(run, *args: Any, **settings: Any) -> None:
        if run.name == name and left[0]:
            left[0] -= 1
            raise error
        measure(run, *args, **settings)

    monkeypatch.setattr(work, "_measure", fails)


@pytest.mark.usefixtures("unmeasured")
def test_a_run_that_fails_once_is_tried_again(order: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RUNS[1], 1, RunError("out of luck"))
    outcome = succeed(*TWO, "--json")
    assert "run 'digits-p2-s0' failed: out of luck. It will be tried again" in outcome.err
    assert order == [*RUNS, RUNS[1]]
    (run,) = [run for run in json.loads(outcome.out)["runs"] if run["failures"]]
    assert (run["state"], run["failures"]) == ("done", ["out of luck"])


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("error, tries", [(RunError("no luck"), 3), (UsageError("cannot be"), 1)])
def test_a_run_that_fails_for_good_is_listed_and_the_others_go_on(
    order: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception, tries: int
) -> None:
    failing(monkeypatch, RUNS[1], 1000, error)
    outcome = debiasctl(*TWO)
    assert outcome.code == 1
    assert f"failed: digits-p2-s0 ({error})" in outcome.err
    assert "1 of 4 runs failed. Try them again: debiasctl sweep --resume digits" in outcome.err
    assert order.count(RUNS[1]) == tries
    assert states() == dict.fromkeys(RUNS, "done") | {RUNS[1]: "failed"}
    monkeypatch.undo()


@pytest.mark.usefixtures("unmeasured")
def test_what_failed_is_tried_again_by_resuming(order: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, RUNS[1], 1, RunError("no luck"))
    assert debiasctl(*TWO, "--retries", "0").code == 1
    order.clear()
    succeed("sweep", "--resume", "digits")
    assert order == [RUNS[1]]
    assert set(states().values()) == {"done"}


def test_arms_may_differ_in_precision(order: list[str]) -> None:
    """How long a step takes, training, sampling and measuring share one process here."""
    succeed(*SWEEP, "--precision", "fp32,bf16", "--seeds", "1", "--threads", "1")
    assert set(states().values()) == {"done"}
    assert [find_run(name).spec().compute.precision for name in order] == ["fp32", "bf16"]


@pytest.mark.usefixtures("unmeasured")
def test_ctrl_c_keeps_what_was_trained_and_says_how_to_resume(
    order: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = conduct.RunProgress.finish

    def interrupt(self):
        finish(self)
        if len(order) == 2:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(conduct.RunProgress, "finish", interrupt)
    outcome = debiasctl(*TWO)
    assert outcome.code == 130
    assert "stopped by SIGINT with 2 of 4 runs done" in outcome.err
    assert "Resume it: debiasctl sweep --resume digits" in outcome.err
    assert order == RUNS[:2]
    succeed("sweep", "--resume", "digits")
    assert order == RUNS


def test_a_run_that_is_there_already_is_used_if_it_is_the_same(order: list[str]) -> None:
    train = ("train", "digits", *TINY, "--weighting", "constant", "--device", "cpu", "--name", RUNS[0])
    succeed(*train)
    checkpoint = find_run(RUNS[0]).checkpoint_path(3) / "model.safetensors"
    before = checkpoint.stat().st_mtime_ns
    succeed(*TWO)
    assert checkpoint.stat().st_mtime_ns == before
    error = error_of(*SWEEP, "--weighting", "constant,p2", "--lr", "0.3", "--name", "other", "--resume", "x", code=2)
    assert "--resume runs a sweep as it is" in error


def test_a_run_of_that_name_with_other_settings_is_not_touched(order: list[str]) -> None:
    succeed("train", "digits", *TINY, "--weighting", "debiased", "--device", "cpu", "--name", RUNS[0])
    error = error_of(*TWO, code=2)
    assert (
        f"run '{RUNS[0]}' is there already, with other settings: loss.weighting.name (constant, there debiased)"
        in error
    )
    assert order == []
    assert not sweeps_dir().exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("sweep", "digits", "--weighting", "constant,debias"), "unknown weighting 'debias'. Did you mean 'debiased'?"),
        (("sweep", "digits", "--weighting", "constant,"), "a value is empty"),
        (("sweep", "digits", "--steps", "5", "--images", "7"), "--steps and --images are two ways"),
        (("sweep", "digits", "--set", "optimizer.lr"), "write section.field=value"),
        (("sweep", "digits", "--max-seeds", "5"), "--max-seeds says when --until-decided stops"),
        (("sweep", "digits", "--until-decided", "--seeds", "9", "--max-seeds", "4"), "is less than the 9 seeds"),
        (("sweep", "digits", "--primary", "fd_loca"), "unknown metric 'fd_loca'"),
        (("sweep", "digits", "--primary", "fd_local@9"), "the runs are sampled in 50 steps"),
        (("sweep", "digits", "--metrics", "recall", "--primary", "fd_local"), "it is not among the metrics"),
        (("sweep", "digits", "--reference", "p2"), "'p2' is no arm"),
        (("sweep", "digits", "--evaluate-steps", "0"), "--evaluate-steps '0': give whole numbers"),
        (("sweep", "digits", "--evaluate-steps", "5000"), "arm 'debiased': "),
        (("sweep", "digits", "--sampler", "dim"), "unknown sampler 'dim'"),
        (("sweep", "digits", "--engine", "cloud"), "unknown engine 'cloud'"),
        (("sweep", "digits", "--name", "a/b"), "'a/b' is not a sweep's name"),
        (("sweep", "digits", "--margin", "1.5"), "margin: input should be less than 1"),
        (("sweep", "./none"), "there is no folder or archive './none'"),
        (("sweep", "none.yaml"), "study file none.yaml cannot be read: No such file"),
        (("sweep", "--weighting", "p2"), "name a data set or a study file"),
        (("sweep", "--resume", "none"), "there is no sweep 'none'"),
        (("sweep", "--resume", "none", "--device", "cuda:x"), "unknown device 'cuda:x'"),
        (("sweep", "show", "none"), "there is no sweep 'none'"),
        (("sweep", "shwo", "x"), "'shwo' is no command. Did you mean 'show'?"),
        (("sweep", "digits", "--batch-size", "100000000"), "arm 'debiased': "),
        (("sweep", "digits", "--precision", "fp32,fp16", "--device", "cpu"), "arm 'fp16': "),
        (("sweep", "digits", "--precision", "fp16", "--device", "cpu", "--engine", "ray"), "needs a CUDA GPU"),
        (("sweep", "digits", "--set", "model.sigma_data=0.3,0.4"), "has no effect"),
        (("sweep", "digits", "--weighting", ",".join(["p2"] * 2)), "train the same"),
    ],
)  # fmt: skip
def test_misuse_is_refused_before_anything_starts(
    debiasctl_home: Path, arguments: tuple[str, ...], message: str
) -> None:
    assert message in error_of(*arguments, code=2)
    assert not (debiasctl_home / "runs").exists()
    assert not sweeps_dir().exists()


def test_a_dry_run_says_what_would_be_run_and_runs_nothing(debiasctl_home: Path) -> None:
    command = ("sweep", "digits", *TINY, *MEASURED, "--weighting", "constant,p2,debiased", "--seeds", "4", "--dry-run")
    text = succeed(*command).out
    assert "12 (3 arms x 4 seeds), 0 of them done" in text
    assert "p2, debiased against constant" in text
    found = json.loads(succeed(*command, "--json", "--jobs", "2").out)
    assert len(found["runs"]) == found["most_runs"] == 12
    assert found["at_once"] == 2
    assert found["hours"] > 0
    assert found["disk"] > 12 * 8 * 64
    assert [arm["name"] for arm in found["arms"]] == ["constant", "p2", "debiased"]
    assert not (debiasctl_home / "runs").exists()
    assert not sweeps_dir().exists()


@pytest.mark.parametrize("engine", ["slurm:gpus=1", "ray"])
def test_what_jobs_need_elsewhere_need_not_be_here(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"ray": "ray"}.get(engine, "submitit"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ("sweep", "digits", *OPTIONS, "--engine", engine, "--device", "cuda", "--precision", "fp16", "--dry-run")
    assert json.loads(succeed(*command, "--json").out)["sweep"]["arms"][0]["spec"]["compute"]["precision"] == "fp16"
    assert "unknown device 'cude'" in error_of(*command, "--device", "cude", code=2)


@pytest.mark.parametrize(
    "device, jobs, runs, threads",
    [("cuda", None, 9, 4), ("cuda:1", None, 9, 16), ("cuda", 8, 9, 2), ("cuda", None, 2, 8), ("cpu", None, 9, 1)],
)
def test_runs_at_once_share_the_cores(
    device: str, jobs: int | None, runs: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "num_cores", lambda: 16)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("debiasctl.compute.device.choose_device", torch.device)
    assert prepare.threads_of_run(runs, device=device, jobs=jobs) == threads


def test_a_study_file_is_a_sweep(order: list[str], tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        """
dataset: digits
settings: {backbone: "dit:hidden_size=16,depth=1,num_heads=2", batch_size: 8, steps: 3, training.heldout_images: 4}
arms:
- weighting: constant
- {name: heavy, weighting: p2}
seeds: [4]
evaluate: {steps: 2, num: 8, features: "pixels:dimension=4"}
engine: here
"""
    )
    succeed("sweep", file)
    assert order == ["two-constant-s4", "two-heavy-s4"]
    assert "a study file says what is trained and compared; --lr cannot" in error_of("sweep", file, "--lr", "1", code=2)
    file.write_text(file.read_text().replace("p2}", "p3}"))
    assert f"{file}, line 6: unknown weighting 'p3'" in error_of("sweep", file, code=2)


@pytest.mark.parametrize(
    "line, message",
    [
        ("engine: cloud", "line 2: unknown engine 'cloud'"),
        ("name: a/b", "line 2: 'a/b' is not a sweep's name"),
        ("reference: x", "line 2: --reference: 'x' is no arm"),
        ("primary: fd_loca", "line 2: --primary fd_loca: unknown metric 'fd_loca'"),
        ("evaluate:\n  sampler: dim", "line 3: unknown sampler 'dim'"),
        ("evaluate:\n  features: x", "line 3: unknown feature extractor 'x'"),
        ("evaluate:\n  metrics: [x]", "line 3: unknown metric 'x'"),
        ("evaluate:\n  steps: [5000]", "line 3: arm 'debiased': 5000 sampling steps"),
        ("seeds: 5\nuntil_decided: {max_seeds: 3}", "line 3: --max-seeds 3 is less than the 5 seeds"),
    ],
)
def test_what_a_study_file_asks_wrongly_is_named_with_its_line(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(f"dataset: digits\n{line}\n")
    assert f"{file}, {message}" in error_of("sweep", file, code=2)


def test_so_many_seeds_are_refused(two: Outcome, tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("dataset: digits\n")
    for command in ((tmp_path / "study.yaml",), ("--resume", "digits")):
        assert "at most 1,000 seeds" in error_of("sweep", *command, "--seeds", "1000000", code=2)


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("settled_at, expected", [(2, 2), (3, 3), (9, 4)])
def test_seeds_are_added_until_the_verdict_is_clear(
    order: list[str], monkeypatch: pytest.MonkeyPatch, settled_at: int, expected: int
) -> None:
    looks: list[int] = []

    def answer(sweep, stored, runs):
        looks.append(len(stored.seeds))
        return Answer(f"{len(runs)} runs", is_settled=len(stored.seeds) >= settled_at)

    monkeypatch.setattr(conduct, "answer_of", answer)
    command = (*SWEEP, "--weighting", "constant,p2", "--seeds", "1", "--until-decided", "--max-seeds", "4")
    succeed(*command)
    stored = find_sweep("digits").stored()
    assert stored.looks == [2, 3, 4]
    assert len(stored.seeds) == expected
    assert len(order) == 2 * expected
    assert [look for look in looks if look > 1] == list(range(2, expected + 1))
    order.clear()
    more = "is decided at 2, 3, 4 seeds, as was declared; at 9 seeds no verdict would keep the error rate"
    assert more in error_of("sweep", "--resume", "digits", "--seeds", "9", code=2)
    assert more in error_of(*SWEEP, "--weighting", "constant,p2", "--seeds", "9", code=2)
    assert order == []
    past = answer_of(find_sweep("digits"), stored.model_copy(update={"seeds": list(range(9))}), [])
    assert past.study is None
    assert "and has 9, where no verdict keeps the error rate" in past.text


def test_sweeps_are_listed_shown_and_removed(two: Outcome, order: list[str]) -> None:
    (found,) = json.loads(succeed("sweep", "list", "--json").out)["sweeps"]
    assert (found["name"], found["state"], found["runs"], found["done"]) == ("digits", "done", 4, 4)
    assert "digits-p2-s1" in succeed("sweep", "show", "digits").out
    assert "4/4" in succeed("sweep", "list").out
    assert "there is no terminal to ask on" in error_of("sweep", "rm", "digits", code=2)
    succeed("sweep", "rm", "digits", "--yes")
    assert find_run(RUNS[0])
    succeed(*TWO)
    succeed("sweep", "rm", "digits", "--runs", "--yes")
    assert list(runs_dir().iterdir()) == []
    assert "There are no sweeps yet" in succeed("sweep", "list").err


def test_an_evaluation_that_is_gone_is_said_and_measured_again(two: Outcome, order: list[str]) -> None:
    for file in find_run("digits-p2-s1").evaluations_dir.glob("*.json"):
        file.unlink()
    assert states() == dict.fromkeys(RUNS[:3], "done") | {"digits-p2-s1": "interrupted"}
    shown = succeed("sweep", "show", "digits")
    assert "its evaluation in 2 steps is gone" in shown.out
    assert "1 of 4 runs are not done. Resume it: debiasctl sweep --resume digits" in shown.err
    assert "3/4" in succeed("sweep", "list").out
    order.clear()
    succeed("sweep", "--resume", "digits")
    assert order == ["digits-p2-s1"]
    assert set(states().values()) == {"done"}


def test_a_reports_commands_give_its_verdicts() -> None:
    """With looks, intervals are wider than those of `compare`."""
    study: Any = SimpleNamespace(primary="fd_local@50", reference="constant", margin=0.05)
    again, drawing = _commands(study, ["a-s0", "b-s0"], decided=None)
    assert again == "debiasctl compare a-s0 b-s0 --primary fd_local@50 --reference constant --margin 0.05"
    assert drawing("verdicts") == f"{again} --picture verdicts --plot verdicts.svg"
    decided, drawing = _commands(study, ["a-s0", "b-s0"], decided="digits")
    assert decided == "debiasctl sweep --resume digits"
    assert drawing("verdicts") == f"{again} --picture verdicts --plot verdicts.svg  # of one look: narrower intervals"
    assert drawing("steps") == f"{again} --picture steps --plot steps.svg"


def test_a_damaged_sweep_is_named_and_harms_no_other(two: Outcome) -> None:
    (sweeps_dir() / "bad").mkdir()
    (sweeps_dir() / "bad" / "sweep.json").write_text("{")
    listed = json.loads(succeed("sweep", "list", "--json").out)["sweeps"]
    assert [(one["name"], one["state"]) for one in listed] == [("bad", "damaged"), ("digits", "done")]
    assert "is damaged" in error_of("sweep", "--resume", "bad", code=1)
    succeed("sweep", "rm", "bad", "--yes")
