"""Existence, on data whose best denoiser is known: it has no bias and no excess loss; known biases are recovered."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known_networks import SHAPE, drawn, mixture, subject_of
from tiny import digits, make_spec, train
from torch import Tensor

from debiasctl.analysis.analyze import analyze, network_of, read_images
from debiasctl.analysis.book import Book
from debiasctl.analysis.ideal import image_set
from debiasctl.analysis.parts.existence.measure import Images
from debiasctl.analysis.parts.existence.part import Existence
from debiasctl.analysis.parts.existence.statistics import MIN_IMAGES, SquaredMean
from debiasctl.analysis.parts.part import Choices, Found
from debiasctl.analysis.record import AnalysisRecord, Series
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit
from debiasctl.errors import UsageError
from debiasctl.sampling.request import make_request

PART = Existence()
WAYS = [
    ("eps", "linear"), ("eps", "cosine"), ("x0", "linear:zero_terminal_snr=true"), ("v", "cosine:num_timesteps=20"),
    ("v", "cosine:continuous=true"), ("edm", "edm"), ("edm", "linear"), ("flow", "flow"),
    ("flow", "linear:zero_terminal_snr=true"),
]  # fmt: skip
GREEN, DOG, WAVE, WEAK = 0.05, -0.03, 0.04, -0.1


def measured(subject: Subject, folder: Path, num: int = 64) -> Found:
    settings = PART.settings(subject, [], Choices(num=num))
    return PART.measure(subject, [], settings, Book(folder / "book", identity="one"))


def record_of(subject: Subject, found: Found, num: int = 64) -> AnalysisRecord:
    return AnalysisRecord(
        debiasctl="0", part=PART.name, network=network_of(subject), content_hash="0",
        settings=PART.settings(subject, [], Choices(num=num)), quantities=found.quantities, series=found.series,
        images=sorted(found.images), notes=found.notes,
    )  # fmt: skip


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


def dogs(subject: Subject, num: int = 64) -> float:
    """The share of class 1 in the images that are measured."""
    labels = Images.of(subject, num).labels
    assert labels is not None
    return float(labels.double().mean())


@pytest.mark.parametrize(("prediction", "schedule"), WAYS[::2])
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
    assert error.value == pytest.approx(least.value, rel=1e-3)
    if "zero_terminal" in schedule:
        terminal = {one.name: one.value for one in found.quantities if "terminal" in one.name}
        assert abs(terminal["excess_x0[terminal]"]) < 1e-9
        assert abs(terminal["mean_error[terminal]"]) < 1e-6


@pytest.mark.parametrize(("prediction", "schedule"), WAYS)
def test_a_known_bias_is_recovered(prediction: str, schedule: str, tmp_path: Path) -> None:
    subject = subject_of(tmp_path, prediction=prediction, schedule=schedule, change=biased)
    found = measured(subject, tmp_path)
    share = dogs(subject)
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


def test_a_squared_mean_has_no_bias_by_noise_and_its_interval_covers_it() -> None:
    band, mean = torch.arange(12) % 2, torch.linspace(-0.3, 0.3, 12, dtype=torch.float64)
    generator = torch.Generator().manual_seed(3)
    truths = [float(mean[band == number].square().sum()) for number in range(2)] + [0.0, 0.0]
    found: list[list[float]] = []
    covered = np.zeros(4)
    for _ in range(150):
        noise = torch.randn(60, 12, generator=generator, dtype=torch.float64)
        squared = [SquaredMean.of(noise + shift, band, num_bands=2) for shift in (mean, 0 * mean)]
        figures = [one.figure(number) for one in squared for number in range(2)]
        found.append([one.value for one in figures])
        covered += [one.low <= truth <= one.high for one, truth in zip(figures, truths, strict=True)]
        total = squared[0].sum().figure()
        assert total.value == pytest.approx(figures[0].value + figures[1].value)
    values = np.array(found)
    errors = values.std(axis=0, ddof=1) / math.sqrt(len(values))
    assert (np.abs(values.mean(axis=0) - truths) < 4 * errors).all()  # the bias of a plain square would be 0.1
    assert (covered / len(values) >= 0.9).all()


def test_where_few_training_images_count_the_images_themselves_are_compared_with(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, change=biased, known=False, num=400)
    found = measured(subject, tmp_path, num=200)
    neighbours, excess, green = (series(found, name) for name in ("neighbours", "excess_v", "mean_error[g]"))
    known = [count is not None and count >= 10 for count in neighbours.value]
    assert known[0]
    assert not known[-1]
    assert [value is not None for value in excess.value] == known
    assert series(found, "ideal_used").value[-1] == 0
    truth = GREEN + dogs(subject, 200) * DOG
    for value, se in zip(green.value, green.se or [], strict=True):
        assert value is not None
        assert se is not None
        assert abs(value - truth) < 4 * se + 0.02 * truth
    assert "it would be that of fewer than 10 images" in found.notes[1]


def test_what_a_part_of_the_training_images_cannot_tell_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = subject_of(tmp_path, change=biased, known=False)
    subject = replace(subject, data=replace(subject.data, train=drawn(mixture(), 1000, 15)))
    monkeypatch.setattr(image_set, "MOST_VALUES", 500 * math.prod(SHAPE))
    found = measured(subject, tmp_path, num=20)
    used, excess = series(found, "ideal_used"), series(found, "excess_v")
    assert used.value[0] == 1
    assert used.value[-1] == 0
    assert [value is not None for value in excess.value] == [value == 1 for value in used.value]
    assert "a random part of the training images" in found.notes[1]
    assert "the part has too few neighbours of the noisy images, so that" in found.notes[1]


def test_a_network_that_is_not_told_the_class_is_no_worse_for_it(tmp_path: Path) -> None:
    # against the images, even the ideal's estimates of one class are off towards the other
    (tmp_path / "a").mkdir()
    found = measured(subject_of(tmp_path, conditional=False), tmp_path / "a")
    values = series(found, "mean_error[class dog]").value
    assert values == pytest.approx([0.0] * len(values), abs=rounding(-20))
    unknown = measured(subject_of(tmp_path, conditional=False, known=False), tmp_path)
    classes, excess = series(unknown, "mean_error[class dog]").value, series(unknown, "excess_v").value
    assert [value is not None for value in classes] == [value is not None for value in excess]


def test_what_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    subject = subject_of(tmp_path)
    first = measured(subject, tmp_path)
    forwards = subject.denoiser.nfe
    again = measured(subject, tmp_path)
    assert subject.denoiser.nfe == forwards > 0
    assert again.series == first.series
    assert again.quantities == first.quantities


def test_images_of_alternating_classes_are_measured_in_their_proportions(tmp_path: Path) -> None:
    subject = subject_of(tmp_path, num=200)
    split = subject.data.heldout
    assert isinstance(split, ArraySplit)
    alternating = ArraySplit(split.array, torch.arange(200) % 2)
    subject = replace(subject, data=replace(subject.data, heldout=alternating))
    assert 0.35 < dogs(subject, 100) < 0.65  # every second image is a dog
    assert 0.3 < dogs(subject, 50) < 0.7


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the data set has 5"):
        PART.settings(subject_of(tmp_path, num=5), [], Choices())
    with pytest.raises(UsageError, match=f"`num={MIN_IMAGES - 1}` is too few"):
        PART.settings(subject_of(tmp_path), [], Choices(num=MIN_IMAGES - 1))


def test_findings_name_the_bias_and_are_silent_without_one(tmp_path: Path) -> None:
    for name in ("fair", "unfair"):
        (tmp_path / name).mkdir()
    fair, unfair = subject_of(tmp_path), subject_of(tmp_path, change=biased)
    text = " ".join(PART.findings(record_of(unfair, measured(unfair, tmp_path / "unfair"))))
    assert "too bright in green" in text
    assert "the estimates of 'dog' are furthest off" not in text  # the cats' are, by the green
    assert "its root mean square is 0.02828 (0.02828 to 0.02828) at 2 to 3 cycles" in text
    assert "4 or more cycles are 10.0" in text
    assert "too weak" in text
    text = " ".join(PART.findings(record_of(fair, measured(fair, tmp_path / "fair"))))
    assert "errors of the estimate's brightness or colour in one direction can be told from 0, allowing" in text
    assert "cannot be told from 0" in text
    assert " too " not in text


def test_a_run_is_analysed_over_its_checkpoints_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path))
    run = train("one", make_spec(training__keep_steps=[0], model__learned_variance=True))
    spec = run.spec()
    request = make_request(run, spec, num=1, num_steps=2, sampler="ddim", seed=0, checkpoint=None, weights="ema")
    subject = Subject.of(run, spec, request, digits(), arm="constant", device=torch.device("cpu"))
    record = analyze(PART, subject, [], Choices(num=24))
    images = read_images(run.path / "analyses", record)
    curve = record.series_of("excess_v_in_training[noisy]")
    assert curve is not None
    assert curve.x == [8.0 * step for step in run.checkpoint_steps()]
    assert all(value is not None and value > 0 for value in curve.value)
    assert PART.findings(record)
    # a second seed of the arm, and another arm
    others = [
        record.network.model_copy(update={"run": name, "arm": arm})
        for name, arm in (("two", "constant"), ("three", "p2"))
    ]
    records = [record, *(record.model_copy(update={"network": network}) for network in others)]
    for pictures in (PART.pictures(records[:1], [images]), PART.pictures(records, [images] * 3)):
        assert [one.name.removeprefix("existence-") for one in pictures] == [
            "split", "mean-error", "bands", "excess", "training", "one-step",
        ]  # fmt: skip
        for one in pictures:
            one.draw("column")
