"""What is said where an average still holds much of the weights that training started from."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import OPTIONS, debiasctl, make_spec, train

SLOW = ["--set", "ema.decay=0.9999", "--set", "ema.warmup=false"]
STEPS = 4
HELD = 0.9999**STEPS


def plan(*options: str) -> tuple[dict[str, Any], str]:
    found = debiasctl("train", "digits", *OPTIONS, *options, "--dry-run", "--json")
    assert found.code == 0, found.err
    return json.loads(found.out), found.err


def test_train_says_it_before_the_first_step(debiasctl_home: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = make_spec(ema__decay=0.9999, ema__warmup=False, training__steps=2)
    said: list[bool] = []
    train("a", spec, on_progress=lambda _: said.append("after 2 steps 100% of the averaged weights" in caplog.text))
    assert said[0]
    caplog.clear()
    train("b", make_spec(training__steps=9))
    assert "averaged weights" not in caplog.text


def test_sample_evaluate_and_likelihood_say_it_of_the_checkpoint(debiasctl_home: Path) -> None:
    trained = debiasctl("train", "digits", *OPTIONS, *SLOW, "--steps", str(STEPS), "--name", "a", "--json")
    assert trained.code == 0, trained.err
    assert json.loads(trained.out)["ema_initial_share"] == pytest.approx(HELD)

    reached = "at step 4 100% of the averaged weights are still the initial ones"
    drawn = debiasctl("sample", "a", "--num", "64", "--steps", "2", "--json")
    assert reached in drawn.err
    assert json.loads(drawn.out)["ema_initial_share"] == pytest.approx(HELD)
    raw = debiasctl("sample", "a", "--num", "4", "--steps", "2", "--weights", "raw", "--json")
    assert "initial ones" not in raw.err
    assert json.loads(raw.out)["ema_initial_share"] is None

    measured = debiasctl("evaluate", "a", "--num", "64", "--steps", "2", "--features", "pixels", "--json")
    (record,) = json.loads(measured.out)["evaluations"]
    assert sum(reached in text for text in record["notes"]) == 1
    bits = debiasctl("likelihood", "a", "--num", "4", "--terms", "2", "--json")
    assert all(any(reached in text for text in found["notes"]) for found in json.loads(bits.out)["likelihoods"])
    assert f"note: {reached}" in debiasctl("likelihood", "a", "--num", "4", "--terms", "2").err


def test_train_says_it_of_the_averaged_weights_that_it_starts_from(debiasctl_home: Path) -> None:
    for name, options in (("slow", SLOW), ("short", ["--set", "ema.decay=0.1"])):
        assert debiasctl("train", "digits", *OPTIONS, *options, "--steps", str(STEPS), "--name", name).code == 0
    said = "of its averaged weights at step 4, which this training starts from, are still the initial ones"
    begun = ["train", "digits", *OPTIONS, "--steps", "2", "--dry-run", "--init-from"]
    assert f"note: run 'slow': 100% {said}" in debiasctl(*begun, "slow").err
    assert said not in debiasctl(*begun, "short").err


def test_a_plan_says_it_too_and_nothing_where_the_average_is_short() -> None:
    slow, _ = plan(*SLOW, "--steps", "300")
    assert slow["ema_initial_share"] == pytest.approx(0.9999**300)
    assert "97% of the averaged weights" in slow["notes"][0]
    warm, _ = plan("--set", "ema.decay=0.9999", "--steps", "300")
    assert warm["ema_initial_share"] < 1e-9
    assert warm["notes"] == []
    shown = debiasctl("train", "digits", *OPTIONS, *SLOW, "--steps", "300", "--dry-run")
    assert "note: after 300 steps 97% of the averaged weights" in shown.err


@pytest.mark.parametrize("weighting, mean", [("debiased", 17.8), ("constant", 1.0)])
def test_a_plan_says_what_normalisation_does_to_the_bounds_balance(weighting: str, mean: float) -> None:
    settings = ["--weighting", weighting, "--prediction", "eps", "--schedule", "linear"]
    learned = [*settings, "--set", "model.learned_variance=true"]
    found, _ = plan(*learned)
    assert found["mean_weight"] == pytest.approx(mean, rel=3e-3)
    said = [text for text in found["notes"] if f"counts {mean:.3g} times as much" in text]
    assert len(said) == (weighting == "debiased")
    assert not said or "--normalize none" in said[0]
    assert not said or said[0].startswith("the network also learns how much noise its sampling steps add")
    assert not any("published balance" in text for text in plan(*settings)[0]["notes"])
    assert not any("published balance" in text for text in plan(*learned, "--normalize", "none")[0]["notes"])
