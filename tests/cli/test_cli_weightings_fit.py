"""`debiasctl weightings fit`: what it prints and writes, and what it refuses."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import OPTIONS, debiasctl, error_of, make_spec, succeed, train

from debiasctl import registry
from debiasctl.analysis import fit_files
from debiasctl.analysis.fit_weighting import RULES
from debiasctl.cli import weightings_fit
from debiasctl.errors import DebiasctlError
from debiasctl.runs.store import Run

SETTINGS = {
    "training__steps": 2,
    "training__heldout_images": 32,
    "diffusion__schedule": "cosine",
    "model__prediction": "v",
}


@pytest.fixture
def run(debiasctl_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    return train("a", make_spec(**SETTINGS, loss__weighting="min-snr", loss__timesteps="importance:base=laplace"))


def test_the_commands_rules_are_those_of_the_library() -> None:
    assert tuple(RULES) == weightings_fit._RULES
    assert all(rule.startswith("loss-") is (about.column == "factor") for rule, about in RULES.items())


@pytest.mark.parametrize("rule", RULES)
def test_the_next_command_trains_with_what_was_fitted(run: Run, rule: str, tmp_path: Path) -> None:
    found = succeed("weightings", "fit", "a", "--rule", rule, "--out", "my fit.csv", "--snippet", "fit.py")
    assert found.out.splitlines()[-2:] == ["my fit.csv", "fit.py"]
    assert (tmp_path / "fit.py").is_file()
    (line,) = [line for line in found.err.splitlines() if line.startswith("next: debiasctl train ")]
    command = shlex.split(line.removeprefix("next: debiasctl "))
    assert command[-1] == f"a-{rule}"
    outcome = json.loads(succeed(*command, "--dry-run", "--json").out)
    loss = outcome["spec"]["loss"]
    if RULES[rule].column == "weight":
        assert loss["weighting"]["name"] == "table"
        assert loss["weighting"]["options"]["space"] == "v"
        assert loss["timesteps"]["name"] == "importance"
    else:
        assert loss["weighting"]["name"] == "min-snr"
        assert loss["timesteps"]["name"] == "table"
        base = registry.as_ref(loss["timesteps"]["options"]["base"])
        assert base.name == "laplace"


def test_what_is_printed_says_what_was_fitted_and_how_sure_it_is(run: Run) -> None:
    found = succeed("weightings", "fit", "a", "--rule", "uncertainty")
    assert "EDM2, arXiv 2312.02696" in found.out
    assert "a at step 2" in found.out
    assert "32 images" in found.out
    assert found.out.splitlines()[-1] == "uncertainty.csv"
    assert "cubic spline" in found.err
    assert "and nothing else" in found.err
    content = json.loads(succeed("weightings", "fit", "a", "--rule", "uncertainty", "--json").out)
    assert all(one["value"] * one["error"] == pytest.approx(1, rel=0.15) for one in content["bins"])
    assert all(0 < one["error_se"] < one["error"] for one in content["bins"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rule", "uncertanty"], "there is no such rule. Did you mean 'uncertainty'?"),
        (["--rule", "uncertainty", "--weighting", "p2"], "--weighting has no effect with --rule uncertainty"),
        (["--rule", "loss-variance", "--num", "5"], "--num has no effect with --rule loss-variance"),
        (["--rule", "uncertainty", "--out", "fit.txt"], "--out fit.txt: the ending says what is written"),
        (["--rule", "uncertainty", "--snippet", "fit.csv"], "--snippet fit.csv: the ending says what is written"),
        (["--rule", "loss-variance", "--weighting", "uncertainty"], "the weighting is learned"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], message: str, tmp_path: Path) -> None:
    assert message in error_of("weightings", "fit", "a", *arguments, code=2)
    assert not list(tmp_path.glob("*.csv"))


def test_a_table_without_its_snippet_is_not_left(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> str:
        raise DebiasctlError("the disk is full")

    monkeypatch.setattr(fit_files, "module_text", fails)
    error_of("weightings", "fit", "a", "--rule", "uncertainty", "--out", "a.csv", "--snippet", "a.py", code=1)
    assert not [*Path().glob("a.*")]


def test_a_run_without_measurements_is_told_how_to_get_them(run: Run) -> None:
    lines = [line for line in run.metrics_path.read_text("utf-8").splitlines() if '"heldout"' not in line]
    run.metrics_path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    message = error_of("weightings", "fit", "a", "--rule", "uncertainty", code=2)
    assert "has no held-out errors yet" in message
    assert "debiasctl train --resume a" in message


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda bins: bins.reverse(), "do not ascend"),
        (lambda bins: bins[1].update(log_snr=[5, -5]), "do not ascend"),
        (lambda bins: bins[0].update(v=1e300), "which no training ends with"),
    ],
)
def test_bins_that_no_run_writes_are_damage(run: Run, damage: Callable[[list[Any]], Any], message: str) -> None:
    *before, last = run.metrics_path.read_text("utf-8").splitlines()
    record = json.loads(last)
    assert record["kind"] == "heldout"
    damage(record["bins"])
    run.metrics_path.write_text("\n".join([*before, json.dumps(record), ""]), encoding="utf-8")
    assert message in error_of("weightings", "fit", "a", "--rule", "loss-variance", code=1)


def test_runs_of_different_losses_have_no_loss_to_draw_for(run: Run) -> None:
    train("b", make_spec(**SETTINGS))
    message = error_of("weightings", "fit", "a", "b", "--rule", "loss-variance", code=2)
    assert "loss.weighting" in message
    found = debiasctl("weightings", "fit", "a", "b", "--rule", "loss-variance", "--weighting", "debiased")
    assert found.code == 0
    assert "mean of different models' errors" in found.err


def test_one_seed_counts_once(run: Run) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "x", "--weighting", "p2")
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "y", "--weighting", "p2")
    found = succeed("weightings", "fit", "x", "y", "--rule", "uncertainty")
    assert "x alone counts" in found.err
    assert "run x at step 1" in found.out
