"""Existence, on data whose best denoiser is known: it has no bias and no excess loss; known biases are recovered."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from known_networks import SHAPE, subject_of
from torch import Tensor

from debiasctl.analysis.book import Book
from debiasctl.analysis.parts.existence.part import Existence
from debiasctl.analysis.parts.part import Choices, Found
from debiasctl.analysis.record import Series
from debiasctl.analysis.subject import Subject

PART = Existence()
WAYS = [
    ("eps", "linear"), ("eps", "cosine"), ("eps", "linear:num_timesteps=50"),
    ("x0", "linear:zero_terminal_snr=true"), ("x0", "flow"), ("v", "cosine"), ("v", "cosine:continuous=true"),
    ("v", "linear:zero_terminal_snr=true"), ("edm", "edm"), ("edm", "linear"), ("flow", "flow"),
    ("flow", "linear:zero_terminal_snr=true"),
]  # fmt: skip
GREEN, DOG, WAVE, WEAK = 0.05, -0.03, 0.04, -0.1


def measured(subject: Subject, folder: Path, num: int = 64) -> Found:
    settings = PART.settings(subject, [], Choices(num=num))
    return PART.measure(subject, [], settings, Book(folder / "book", identity="one"))


def series(found: Found, name: str) -> Series:
    return next(one for one in found.series if one.name == name)


def rounding(log_snr: float) -> float:
    """Float32, divided by alpha."""
    return 1e-6 * math.exp(-min(log_snr, 0.0) / 2)


def biased(x0: Tensor, labels: Tensor | None) -> Tensor:
    """Brighter in green, darker for one class, with a wave of two cycles, and weak in its finest structures."""
    frequencies = torch.fft.fft2(x0)
    cycles = torch.fft.fftfreq(SHAPE[1], dtype=torch.float64) * SHAPE[1]
    radius = (cycles[:, None].square() + cycles.square()).sqrt().round()
    x0 = torch.fft.ifft2(frequencies * torch.where(radius >= 4, 1 + WEAK, 1.0)).real
    x0 = x0 + WAVE * torch.cos(2 * torch.pi * 2 * torch.arange(SHAPE[2], dtype=torch.float64) / SHAPE[2])
    x0 = x0 + GREEN * torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)[:, None, None]
    return x0 if labels is None else x0 + DOG * (labels == 1).double()[:, None, None, None]


@pytest.mark.parametrize(("prediction", "schedule"), WAYS)
def test_the_ideal_denoiser_is_unbiased_and_has_no_excess_loss(prediction: str, schedule: str, tmp_path: Path) -> None:
    found = measured(subject_of(tmp_path, prediction=prediction, schedule=schedule), tmp_path)
    for name in ("excess_x0", "excess_v", "systematic_x0", "rest_x0"):
        one = series(found, name)
        for low, high in zip(one.low or [], one.high or [], strict=True):
            assert low is not None
            assert high is not None
            assert low <= 0 <= high, name
    for name in ("mean_error", "mean_error[g]", "mean_error[class dog]"):
        one = series(found, name)
        for value, x in zip(one.value, one.x, strict=True):
            assert value is not None
            assert abs(value) <= rounding(x), name
    error, least = series(found, "error_x0"), series(found, "irreducible_x0")
    assert 10 <= len(error.x) <= 17
    assert error.value == pytest.approx(least.value, rel=1e-3)
    if "zero_terminal" in schedule:
        terminal = {one.name: one.value for one in found.quantities if "terminal" in one.name}
        assert abs(terminal["excess_x0[terminal]"]) < 1e-9
        assert abs(terminal["mean_error[terminal]"]) < 1e-6


@pytest.mark.parametrize(("prediction", "schedule"), WAYS)
def test_a_known_bias_is_recovered(prediction: str, schedule: str, tmp_path: Path) -> None:
    subject = subject_of(tmp_path, prediction=prediction, schedule=schedule, change=biased)
    found = measured(subject, tmp_path)
    share = float((subject.data.heldout.labels(torch.arange(0, 200, 200 / 64).long()) == 1).double().mean())  # type: ignore[union-attr]
    expected = {
        "mean_error[g]": GREEN + share * DOG, "mean_error[r]": share * DOG,
        "mean_error_size[2-3 cycles]": WAVE / math.sqrt(2), "amplitude_error[4+ cycles]": WEAK,
    }  # fmt: skip
    for name, truth in expected.items():
        one = series(found, name)
        for value, x in zip(one.value, one.x, strict=True):
            if value is None:
                assert name.startswith("amplitude"), name
            else:
                assert value == pytest.approx(truth, rel=0.02, abs=rounding(x)), (name, x)
    dog, cat = series(found, "mean_error[class dog]"), series(found, "mean_error[class cat]")
    between = np.array(dog.value, dtype=float) - np.array(cat.value, dtype=float)
    assert between.tolist() == pytest.approx([DOG] * len(between), rel=0.02, abs=2 * rounding(min(dog.x)))
