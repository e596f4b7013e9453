"""Evaluations, comparisons and runs in Python are what the commands print and draw."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from tiny import OPTIONS, debiasctl, succeed
from toy_parts import toys

import debiasctl as python_api
from debiasctl.analysis.parts import catalogue
from debiasctl.api import UsageError
from debiasctl.compute.device import forget_computation
from debiasctl.errors import DebiasctlError, RunNameError
from debiasctl.runs.store import read_metrics


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two tiny runs, which differ in the weighting alone."""
    folder = tmp_path_factory.mktemp("api")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(folder))
        for name in ("constant", "debiased"):
            succeed("train", "digits", *OPTIONS, "--steps", "3", "--weighting", name, "--name", name)
    forget_computation()
    return folder


@pytest.fixture(autouse=True)
def in_home(home: Path, debiasctl_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(home))


def printed(*arguments: str) -> dict[str, Any]:
    found = debiasctl(*arguments, "--json")
    assert found.code == 0, found.err
    value: dict[str, Any] = json.loads(found.out)
    return value


def test_a_run_is_read_and_sampled_as_by_the_commands() -> None:
    run = python_api.run("debiased")
    assert (run.name, run.path.name, run.spec.loss.weighting.name) == ("debiased", "debiased", "debiased")
    assert run.spec.training.steps == 3
    metrics = run.metrics()
    assert list(metrics) == [record.to_json() for record in read_metrics(run._stored)]
    assert {row["kind"] for row in metrics.rows()} == {record["kind"] for record in metrics}
    images = run.sample(5, steps=2, seed=3)
    assert (images.dtype, images.shape, images.device.type) == (torch.uint8, (5, 1, 8, 8), "cpu")
    described = printed("sample", "debiased", "--num", "5", "--steps", "2", "--seed", "3")
    assert described["reused"]
    with np.load(Path(described["folder"]) / "images.npz") as stored:
        assert np.array_equal(stored["images"].transpose(0, 3, 1, 2), images.numpy())
    assert repr(run) == "debiasctl.run('debiased')"


def test_its_network_is_what_other_software_takes() -> None:
    run = python_api.run("debiased")
    model, spec = run.model(weights="raw"), run.spec
    network = run.denoiser(weights="raw", device="cpu").network  # type: ignore[attr-defined]
    assert model.weights.keys() == network.state_dict().keys()
    assert all(torch.equal(model.weights[name], one) for name, one in network.state_dict().items())
    assert (model.backbone, dict(model.backbone_options)) == (spec.model.backbone.name, spec.model.backbone.options)
    assert (model.schedule, dict(model.schedule_options)) == (
        spec.diffusion.schedule.name, spec.diffusion.schedule.options
    )  # fmt: skip
    assert (model.image_size, model.channels, model.prediction) == (8, 1, spec.model.prediction)
    assert any(not torch.equal(one, model.weights[name]) for name, one in run.model().weights.items())  # the average
    assert run.autoencoder(device="cpu") is None
    with pytest.raises(UsageError, match="choose ema"):
        run.model(weights="best")
    with pytest.warns(UserWarning, match="had no training"):
        run.model(checkpoint=0)


def test_the_callers_process_is_left_as_it_was() -> None:
    """Its random numbers, and Accelerate's state, of which there is one a process."""
    forget_computation()
    before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    run = python_api.run("debiased")
    python_api.evaluate(run.sample(24, steps=2, seed=11), reference="digits")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numbers)  # type: ignore[index]
    assert not AcceleratorState._shared_state


def test_a_checkpoint_that_is_not_the_end_is_warned_of() -> None:
    run = python_api.run("debiased")
    assert torch.equal(run.sample(2, steps=2, class_name=3), run.sample(2, steps=2, class_name="3"))
    with pytest.warns(UserWarning, match="checkpoint 0 of run 'debiased' has had no training"):
        run.sample(2, steps=2, checkpoint=0)


def test_a_denoiser_estimates_x0_with_the_weights_that_are_asked_for() -> None:
    run = python_api.run("debi")
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([3, 4])
    with torch.no_grad():
        found = {weights: run.denoiser(weights=weights)(x_t, 500.0, labels).x0 for weights in ("ema", "raw")}
        with pytest.warns(UserWarning, match="has had no training"):
            start = run.denoiser(weights="raw", checkpoint=0)(x_t, 500.0, labels).x0
    assert all(estimate.shape == x_t.shape for estimate in found.values())
    assert not torch.equal(found["ema"], found["raw"])
    assert not torch.equal(found["raw"], start)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda run: python_api.run("nothing"), "there is no run 'nothing'"),
        (lambda run: run.sample(0), "`num=0`: draw at least one image"),
        (lambda run: run.sample(2, sampler="ddmi"), "unknown sampler 'ddmi'"),
        (lambda run: run.sample(2, checkpoint=77), "has no checkpoint '77'"),
        (lambda run: run.sample(2, weights="emma"), "`weights=emma`: choose ema"),
        (lambda run: run.sample(2, device="gpu"), "unknown device 'gpu'"),
        (lambda run: run.sample(2, steps=2.5), "`steps=2.5` must be a whole number"),
        (lambda run: python_api.run(run), "given by its name or its path, not by a Run"),
        (lambda run: python_api.compare(["a", "b"]), "a list names no run"),
        (lambda run: python_api.evaluate(run, reference="digits"), r"are measured by run.evaluate\(\)"),
        (lambda run: python_api.evaluate("a", reference=np.zeros(4)), "`reference` is a ndarray: name a data set"),
        (lambda run: run.denoiser()(torch.zeros(1, 1, 8, 8), 5000), "t = 5000: timesteps run from 0 to 999"),
        (lambda run: run.denoiser()(torch.zeros(2, 1, 8, 8), torch.ones(2)), "t is a Tensor: give one number"),
        (lambda run: run.evaluate(features="pixles"), "unknown feature extractor 'pixles'"),
    ],
)
def test_what_a_run_does_not_have_is_refused(call: Any, message: str) -> None:
    with pytest.raises((UsageError, RunNameError), match=message):
        call(python_api.run("debiased"))


def test_images_are_measured_as_by_the_command(tmp_path: Path) -> None:
    images = python_api.run("debiased").sample(40, steps=2)
    np.savez(tmp_path / "images.npz", images=images.permute(0, 2, 3, 1).numpy())
    options = ["--samples", str(tmp_path / "images.npz"), "--reference", "digits", "--features", "pixels"]
    by_command = printed("evaluate", *options)
    by_path = python_api.evaluate(tmp_path / "images.npz", reference="digits", features="pixels")
    assert by_path == by_command
    for given in (images, images.permute(0, 2, 3, 1).numpy(), images[:, 0].numpy()):
        found = python_api.evaluate(given, reference="digits", features="pixels", metrics=None)
        (mine,), (theirs,) = found["evaluations"], by_command["evaluations"]
        assert mine["metrics"] == theirs["metrics"]
        assert mine["samples"] == "images in memory"
    rows = by_path.rows()
    assert [row["metric"] for row in rows] == list(by_command["evaluations"][0]["metrics"])
    assert rows[0]["value"] == by_command["evaluations"][0]["metrics"][rows[0]["metric"]]["value"]
    assert {row["dataset"] for row in rows} == {"digits"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 1, 8, 8), "`images` are float32 .floats in .-1, 1. become"),
        (torch.zeros(4, 8, 8, 1, dtype=torch.uint8), r"have the shape \[4, 8, 8, 1\]"),
        (np.zeros((4, 1, 8, 8), dtype=np.uint8), r"have the shape \[4, 1, 8, 8\]"),
        (torch.zeros(4, 1, 8, 9, dtype=torch.uint8), r"have the shape \[4, 1, 8, 9\]"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), r"have the shape \[0, 1, 8, 8\]"),
        (torch.zeros(4, 8, 8, dtype=torch.uint8), r"have the shape \[4, 8, 8\]"),
        (np.zeros(4, dtype=np.uint8), r"have the shape \[4\]"),
        ([1, 2], "`images` is a list. Give a path"),
        ("nowhere", "`samples=nowhere` does not exist"),
    ],
)
def test_images_of_another_form_are_refused(images: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        python_api.evaluate(images, reference="digits", features="pixels")


def test_runs_are_compared_as_by_the_command(tmp_path: Path) -> None:
    for name in ("constant", "debiased"):
        found = python_api.run(name).evaluate(num=40, steps=[2, 3], features="pixels")
        again = printed("evaluate", name, "--num", "40", "--steps", "2,3", "--features", "pixels")
        assert found == again
        assert [record["measured"]["steps"] for record in found["evaluations"]] == [2, 3]
    by_command = printed("compare", "constant", "debiased", "--primary", "fd_pixels@2")
    compared = python_api.compare("constant", python_api.run("debiased"), primary="fd_pixels@2")
    assert compared == by_command
    assert compared == python_api.compare("*", primary="fd_pixels@2")
    rows = compared.rows()
    assert len(rows) == 2 * len(compared["cells"])
    words = [(one["arm"], one["word"]) for one in compared["verdicts"]]
    assert [(row["arm"], row["word"]) for row in rows if row["arm"] != compared["reference"]] == words

    figures = tmp_path / "figures.csv"
    lines = [f"{arm},{seed},fid,{value + seed}" for arm, value in (("a", 1), ("b", 9)) for seed in range(3)]
    figures.write_text("\n".join(["arm,seed,metric,value", *lines]))
    assert python_api.compare(figures=figures) == printed("compare", "--figures", str(figures))
    np.savez(tmp_path / "ours-0.npz", images=python_api.run("constant").sample(40, steps=2).permute(0, 2, 3, 1).numpy())
    arms = {"ours": tmp_path / "ours-*", "theirs": tmp_path / "ours-0*"}
    with pytest.raises(UsageError, match="stands in the arms 'ours' and 'theirs'"):
        python_api.compare(arms=arms, against="digits", features="pixels")
    arms = {"ours": tmp_path / "ours-*"}
    alone = python_api.compare(arms=arms, against="digits", features="pixels")
    options = ["--arm", f"ours={tmp_path}/ours-*", "--against", "digits", "--features", "pixels"]
    assert alone == printed("compare", *options)


@pytest.mark.parametrize(
    ("runs", "arguments", "message"),
    [
        ((), {}, "give two or more different runs"),
        (("constant",), {}, "one run alone is nothing to compare"),
        ((), {"arms": {"a": "x*"}}, "say `against` what"),
        (("constant", "debiased"), {"against": "digits"}, "and none are given"),
        (("constant",), {"figures": "f.csv"}, "Leave out runs"),
        (("constant", "debiased"), {"margin": 2}, "`margin=2` must be from 0 to 1"),
    ],
)
def test_comparisons_that_make_no_sense_are_refused(runs: Any, arguments: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        python_api.compare(*runs, **arguments)


def test_records_become_frames_where_pandas_is(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = python_api.run("constant").metrics()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(DebiasctlError, match=r"to_frame\(\) needs pandas, which is not installed: pip install pandas"):
        metrics.to_frame()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=lambda rows: ("frame", rows)))
    frame: Any = metrics.to_frame()
    assert frame == ("frame", metrics.rows())


def test_an_analysis_is_that_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "PARTS", toys())
    found = python_api.analyze("constant", python_api.run("debiased"), num=6, steps=3, only=["existence", "impact"])
    assert found == printed("analyze", "constant", "debiased", "--num", "6", "--steps", "3", "--only",
                            "existence,impact")  # fmt: skip
    assert found["parts"][0]["records"][0]["options"] == ["--num", "6", "--steps", "3"]
    rows = found.rows()
    assert {(row["part"], row["arm"]) for row in rows} >= {("existence", "constant"), ("existence", "debiased")}
    first = found["parts"][0]["arms"][0]["figures"][0]
    assert (rows[0]["figure"], rows[0]["value"], rows[0]["seeds"]) == (first["name"], first["value"], 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: python_api.analyze(), "name one run or more"),
        (lambda: python_api.analyze(3), "names no run. Give names"),
        (lambda: python_api.analyze("constant", only=[]), "`only` names no part. Choose from existence"),
        (lambda: python_api.analyze("constant", only="existnce"), "Did you mean 'existence'"),
        (lambda: python_api.analyze("constant", num=1), "at least 2 images"),
        (lambda: python_api.analyze("constant", trajectories=[2, "3"]), "whole numbers of steps"),
        (lambda: python_api.analyze("constant", trajectories=[0]), "0 is no number of steps"),
        (lambda: python_api.analyze("constant", counterfactual=["debias"]), "unknown weighting 'debias'"),
        (lambda: python_api.analyze("constant", reference="debiased"), "is no arm"),
        (lambda: python_api.analyze("constant", checkpoint=77), "has no checkpoint '77'"),
        (lambda: python_api.analyze("constant", validation=1), "Give True or False"),
    ],
)
def test_an_analysis_that_cannot_be_is_refused(call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call()
