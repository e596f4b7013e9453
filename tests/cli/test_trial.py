"""A trial: small settings, the same for every weighting, and as many steps as this machine makes in ten minutes."""

import dataclasses
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import LOCATION, OPTIONS, debiasctl, digits, error_of, make_spec, succeed

from debiasctl.api import DatasetInfo
from debiasctl.cli.forecast import _flags, rough
from debiasctl.data.content import content_section
from debiasctl.models.build import build_network, network_without_memory
from debiasctl.runs.lock import trainer_lock
from debiasctl.runs.store import find_run
from debiasctl.specs.files import merge
from debiasctl.specs.resolve import resolve_spec, validate_spec
from debiasctl.training import speed, trial
from debiasctl.training.meters import flops_per_image
from debiasctl.training.speed import UnmeasuredError, seconds_per_step, total_flops
from debiasctl.training.trial import budget_settings, coarse_steps, is_trial, trial_settings, trial_steps

INFO = DatasetInfo(image_size=16, channels=3, classes=(), num_train=90, num_heldout=10)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Specs whose step was measured; it is said to take 2 seconds."""
    specs: list[Any] = []

    def measure(spec: Any, info: DatasetInfo, *, device: str) -> float:
        specs.append(spec)
        return 2.0

    monkeypatch.setattr("psutil.getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr(trial, "seconds_per_step", measure)
    monkeypatch.setattr(speed, "seconds_per_step", measure)
    return specs


@pytest.mark.parametrize(
    "most, steps",
    [(3, 100), (100, 100), (199, 100), (200, 200), (499, 200), (500, 500), (2e4, 20_000), (1e9, 50_000)],
)
def test_the_number_of_steps_is_coarse(most: float, steps: int) -> None:
    assert coarse_steps(most) == steps


@pytest.mark.parametrize("size", [1, 7, 12, 16, 28, 32, 96, 256])
@pytest.mark.parametrize("kind", ["cpu", "gpu"])
def test_a_network_for_any_size(size: int, kind: str) -> None:
    info = dataclasses.replace(INFO, image_size=size)
    raw = merge(trial_settings(info, kind=kind), {"data": {"dataset": "digits"}, "model": {"conditional": False}})
    spec = validate_spec(merge(raw, budget_settings(200)))
    assert spec.training.steps == 200
    with torch.device("meta"):
        network = build_network(spec, image_size=size, channels=3, num_classes=0)
    assert 10_000 < sum(parameter.numel() for parameter in network.parameters()) < 30_000_000


def test_averages_cover_the_last_tenth_and_are_those_of_the_steps() -> None:
    for steps in (100, 1000, 50_000):
        settings = budget_settings(steps)
        assert settings["ema"]["decay"] == pytest.approx(1 - 10 / steps)
        assert 0 < settings["optimizer"]["warmup_steps"] <= steps / 10


def test_what_is_measured_is_kept_and_is_the_same_for_every_weighting(measured: list[Any], tmp_path: Path) -> None:
    one, other = (make_spec(loss__weighting=name) for name in ("debiased", "constant"))
    assert trial_steps(one, digits().info, device="cpu", kind="cpu", cache_dir=tmp_path) == (200, 2.0)
    assert trial_steps(other, digits().info, device="cpu", kind="cpu", cache_dir=tmp_path) == (200, 2.0)
    assert len(measured) == 1
    bigger = make_spec(training__batch_size=16)
    trial_steps(bigger, digits().info, device="cpu", kind="cpu", cache_dir=tmp_path)
    assert len(measured) == 2
    for file in (tmp_path / "trials").iterdir():
        file.write_text('{"steps": "many"}')  # damaged: it is measured again
    assert trial_steps(one, digits().info, device="cpu", kind="cpu", cache_dir=tmp_path) == (200, 2.0)
    assert len(measured) == 3


def test_what_a_busy_machine_measures_is_noted_and_not_kept_for_quiet_hours(
    measured: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, photo_folder: Path
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    where: Any = {"device": "cpu", "kind": "cpu", "cache_dir": tmp_path}
    for load, num_measured in ((9.1, 1), (8.0, 1), (0.5, 2), (9.1, 2)):
        monkeypatch.setattr("psutil.getloadavg", lambda load=load: (load, 0.0, 0.0))
        trial_steps(make_spec(), digits().info, **where)
        assert len(measured) == num_measured
    assert speed.busy_note("gpu") is None
    said = "note: other work runs on this machine (load average 9.1 on 4 cores)"
    long = ("--backbone", "dit:hidden_size=64,depth=2,num_heads=2", "--steps", "500000")
    assert said in dry_run(photo_folder)[1]
    assert said in succeed("train", photo_folder, *long, "--dry-run", "--device", "cpu").err
    monkeypatch.setattr("psutil.getloadavg", lambda: (4.5, 0.0, 0.0))  # this process is a part of it
    assert "other work" not in dry_run(photo_folder)[1]


def test_a_training_says_at_its_start_what_shares_its_cores(
    monkeypatch: pytest.MonkeyPatch, debiasctl_home: Path
) -> None:
    command = ("train", "digits", *OPTIONS, "--steps", "1", "--device", "cpu")
    folder = debiasctl_home / "runs" / "other"
    folder.mkdir(parents=True)
    with trainer_lock(folder):
        said = succeed(*command, "--name", "one").err
        assert said.count("run 'other' is being trained on this machine too") == 1
        monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
        assert "being trained" not in succeed(*command, "--name", "two").err
    for cores, count in ((1.9, 1), (0.5, 0)):
        monkeypatch.setattr("debiasctl.compute.others.Others.num_cores", lambda self, cores=cores: cores)
        monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
        said = succeed("train", "--resume", "two", "--steps", str(round(4 - cores)), "--device", "cpu").err
        assert said.count(f"other work keeps {cores} of 2 cores busy") == count
        assert "too" not in said


def test_a_measured_step_leaves_nothing_behind() -> None:
    state = torch.random.get_rng_state()
    assert 0 < seconds_per_step(make_spec(), digits().info, device="cpu") < 60
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("available_memory", lambda device: 10**5, r"take [\d.]+ .B, and 0.1 MB of memory are free here"),
        ("_MOST_PER_CORE", 1e3, r"takes \d\.\de\+\d+ operations, which are minutes or hours on \d+ core"),
    ],
)
def test_a_step_that_this_machine_cannot_make_is_not_measured(
    name: str, value: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_step(*_: object) -> None:
        raise AssertionError("a step was made")

    monkeypatch.setattr(speed, "set_up", no_step)
    monkeypatch.setattr(speed, name, value)
    with pytest.raises(UnmeasuredError, match=why):
        seconds_per_step(make_spec(), digits().info, device="cpu")
    monkeypatch.setattr("debiasctl.cli.forecast._FEW_IMAGES", 0)
    monkeypatch.setattr("debiasctl.cli.forecast._LONG", {"cpu": 0})
    said = succeed("train", "digits", *OPTIONS, "--dry-run", "--device", "cpu").err
    assert "a step is not measured" in said
    assert "--backbone" in said
    assert "--trial" in said


def test_operations_are_those_that_training_counts() -> None:
    spec = make_spec()
    spec = spec.model_copy(update={"content": content_section(digits())})
    counted = flops_per_image(network_without_memory(spec, spec.content), spec)
    assert total_flops(spec, digits().info) == counted * spec.training.batch_size * spec.training.steps


@pytest.mark.parametrize("dataset, small", [("digits", True), ("photo-patches", True), ("cifar10", False)])
def test_small_recommended_settings_are_a_trial(dataset: str, small: bool) -> None:
    spec, info = resolve_spec([{"data": {"dataset": dataset}}], LOCATION)
    assert is_trial(spec, info) == small


def dry_run(*arguments: str | Path) -> tuple[dict[str, Any], str]:
    outcome = succeed("train", *arguments, "--trial", "--dry-run", "--json", "--device", "cpu")
    return json.loads(outcome.out)["spec"], outcome.err


def test_a_trial_of_a_folder(measured: list[Any], photo_folder: Path) -> None:
    spec, said = dry_run(photo_folder)
    assert spec["training"]["steps"] == 200
    assert spec["model"]["backbone"]["options"]["channels"] == 32
    assert "trial: a small network and a short budget: unet, 200 steps of 64 images" in said
    assert "200 steps take about 7 minutes here (2 s a step, measured)" in said
    other, _ = dry_run(photo_folder, "--weighting", "constant")
    assert {**other, "loss": None} == {**spec, "loss": None}
    assert len(measured) == 1


def test_the_same_settings_by_themselves_are_the_same_spec(measured: list[Any], photo_folder: Path) -> None:
    spec, said = dry_run(photo_folder, "--lr", "0.5")
    (flags,) = (line for line in said.splitlines() if line.startswith("the same settings elsewhere: "))
    assert "--lr" not in flags
    given = shlex.split(flags.partition(": ")[2])
    again = succeed("train", photo_folder, "--lr", "0.5", *given, "--dry-run", "--json", "--device", "cpu")
    assert json.loads(again.out)["spec"] == spec


def test_explicit_settings_win(measured: list[Any], photo_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "spec.yaml"
    file.write_text("ema: {decay: 0.5}\noptimizer: {lr: 0.25}\n")
    backbone = "dit:hidden_size=16,depth=1,num_heads=2"
    spec, said = dry_run(photo_folder, "--spec", file, "--steps", "50", "--backbone", backbone, "--prediction", "eps")
    assert (spec["training"]["steps"], spec["ema"]["decay"], spec["optimizer"]["lr"]) == (50, 0.5, 0.25)
    assert (spec["model"]["backbone"]["name"], spec["model"]["prediction"]) == ("dit", "eps")
    assert spec["training"]["batch_size"] == 64
    assert spec["optimizer"]["warmup_steps"] == 5  # what follows from the number of steps follows from this one
    assert "50 steps of 64 images" in said


def test_a_trial_of_a_small_data_set_is_its_recommended_settings(measured: list[Any]) -> None:
    spec, said = dry_run("digits")
    plain = succeed("train", "digits", "--dry-run", "--json", "--device", "cpu")
    assert spec == json.loads(plain.out)["spec"]
    assert "the data set's recommended settings, which are small" in said


def test_a_trial_trains_what_it_says(measured: list[Any], photo_folder: Path) -> None:
    options = ("--steps", "2", "--batch-size", "4", "--set", "training.heldout_images=4", "--device", "cpu")
    succeed("train", photo_folder, "--trial", *options, "--name", "run")
    spec = find_run("run").spec()
    assert (spec.training.steps, spec.model.prediction, spec.model.backbone.name) == (2, "v", "unet")


def test_a_trial_is_of_one_process(measured: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Leave --processes out" in error_of("train", "digits", "--trial", "--processes", "2", code=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "one process" in error_of("train", "digits", "--trial", code=2)
    assert "--trial" in error_of("train", "--resume", "x", "--trial", code=2)
    assert "Give --steps" in error_of("train", "digits", "--trial", "--images", "99", code=2)


def test_a_long_training_says_how_long_and_names_the_trial(measured: list[Any], photo_folder: Path) -> None:
    long = ("--backbone", "dit:hidden_size=64,depth=2,num_heads=2", "--steps", "500000")
    outcome = succeed("train", photo_folder, *long, "--dry-run", "--device", "cpu")
    assert "500,000 steps take about 12 days here (2 s a step, measured), until " in outcome.err
    assert f"debiasctl train {photo_folder} --device cpu --trial" in outcome.err
    short = succeed("train", photo_folder, "--steps", "20", "--dry-run", "--device", "cpu")
    assert "measured" not in short.err
    assert len(measured) == 1


def test_the_trial_that_is_named_has_the_options_that_were_given(
    measured: list[Any], photo_folder: Path, tmp_path: Path
) -> None:
    kept = ["--weighting", "min-snr:gamma=3", "--image-size", "8", "--seed", "3", "--name", "mine", "--device", "cpu"]
    more = ["--deterministic", "--set", "optimizer.lr=0.5"]
    large = ["--backbone", "dit:hidden_size=64,depth=2,num_heads=2", "--set", "training.steps=900000"]
    file = tmp_path / "my spec.yaml"
    file.write_text("ema: {decay: 0.5}\n")
    said = succeed("train", photo_folder, *kept, *more, *large, "--spec", file, "--dry-run").err
    (line,) = (line for line in said.splitlines() if " --trial" in line)
    words = shlex.split(line[line.index("debiasctl train") :])
    assert words[:3] == ["debiasctl", "train", str(photo_folder)]
    assert words[-1] == "--trial"
    pairs = list(itertools.pairwise(words))
    assert set(zip(kept[::2], kept[1::2], strict=True)) <= set(pairs)
    assert {("--spec", str(file)), ("--set", "optimizer.lr=0.5")} <= set(pairs)
    assert "--deterministic" in words
    assert not {"--backbone", "--dry-run", "training.steps=900000"} & set(words)
    spec, _ = dry_run(*words[2:-1])
    assert (spec["training"]["seed"], spec["data"]["dataset"]["options"]["image_size"]) == (3, 8)
    file.write_text("training: {steps: 800000}\n")  # the file chooses what a trial would choose
    assert " --trial" not in succeed("train", photo_folder, *large[:2], "--spec", file, "--dry-run").err


def test_flags_leave_out_what_the_user_gave() -> None:
    advice = {"model": {"backbone": "unet"}, "training": {"steps": 5, "log_every": 1}, "ema": {"warmup": True}}
    given = {"model": {"backbone": {"name": "dit"}}, "training": {"log_every": 3}}
    assert _flags(advice, given) == ["--steps", "5", "--set", "ema.warmup=true"]


@pytest.mark.parametrize(
    "seconds, text",
    [(0.2, "2 seconds"), (90, "90 seconds"), (150, "2 minutes"), (7300, "2 hours"), (86400 * 47, "47 days")],
)
def test_rough_times(seconds: float, text: str) -> None:
    assert rough(seconds) == text


def test_help_offers_it() -> None:
    assert "--trial" in debiasctl("train", "--help").out
