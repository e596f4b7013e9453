"""What `debiasctl train digits` promises: samples that are hard to tell from real digits, and no copies of them."""

import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "digits_quality.py"


@pytest.fixture
def quality():
    spec = importlib.util.spec_from_file_location("digits_quality", BENCHMARK)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_samples_of_the_recommended_run_are_hard_to_tell_from_real_digits(quality, monkeypatch):
    from debiasctl.cli.app import main

    monkeypatch.setattr(sys, "argv", ["debiasctl", "train", "digits", "--name", "default"])
    with pytest.raises(SystemExit) as exit_info:
        main()
    assert exit_info.value.code == 0
    found = quality.report(quality.samples_of("default"))
    assert found["accuracy"] <= 0.80
    assert found["nearest_training"] >= 0.9 * found["nearest_training_heldout"]
    assert all(0.04 <= share <= 0.20 for share in found["shares"])


def test_nearest_neighbour_accuracy_is_half_for_two_halves_of_one_set_and_one_for_noise(quality):
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits().data[np.random.default_rng(1).permutation(1797)]
    assert quality.nearest_neighbour_accuracy(digits[:800], digits[800:1600]) == pytest.approx(0.5, abs=0.06)
    noise = np.random.default_rng(0).integers(0, 17, size=(800, 64)).astype(float)
    assert quality.nearest_neighbour_accuracy(noise, digits[:800]) > 0.99
