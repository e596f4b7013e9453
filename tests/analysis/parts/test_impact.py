"""The impact of bias, where it is known: Gaussian data, the best denoiser, and biases that are added to it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.analysis.book import Book
from debiasctl.analysis.ideal import ideal_of
from debiasctl.analysis.parts.impact import Impact, images_for
from debiasctl.analysis.parts.impact_forced import adjusted, of_adjusted
from debiasctl.analysis.parts.impact_means import extended, means_of
from debiasctl.analysis.parts.part import Choices, Found
from debiasctl.analysis.subject import Subject
from debiasctl.diffusion.grid import levels_at
from debiasctl.errors import UsageError
from tests.analysis.gaussian_subject import FromX0, gaussian_data, gaussian_subject
from tests.tiny import LOCATION

CHOICES = Choices(num=128, trajectories=(2, 5))


def measured(subject: Subject, folder: Path, choices: Choices = CHOICES) -> Found:
    part = Impact()
    return part.measure(subject, (), part.settings(subject, (), choices), Book(folder, identity="x"))


def red_below(log_snr: float) -> Tensor | float:
    """A bias of red by 0.2 where there is more noise than at log-SNR 2."""
    return torch.tensor([0.2, 0.0, 0.0]).reshape(3, 1, 1) if log_snr < 2 else 0.0


@pytest.mark.parametrize("sampler", ["ddim:clip_x0=false", "ddpm:clip_x0=false", "heun:clip_x0=false"])
def test_the_best_denoiser_has_no_bias_of_either_kind(tmp_path: Path, sampler: str) -> None:
    found = measured(gaussian_subject(sampler=sampler), tmp_path)
    biases = [one for one in found.quantities if one.name.startswith(("training_bias", "exposure_bias"))]
    ranges = 5 if sampler.startswith("heun") else 4  # in 20 steps, ddim has none between -12 and -6
    assert len(biases) == 2 * 4 * ranges
    for one in biases:
        assert one.se is not None
        assert one.se < 0.01, one
        assert abs(one.value) < 4 * one.se + 0.002, one  # the start without a signal, and steps of finite length
    assert any("adds noise at every step" in note for note in found.notes) == sampler.startswith("ddpm")


def test_a_bias_at_much_noise_is_training_bias_there_and_exposure_bias_after_it(tmp_path: Path) -> None:
    found = {one.name: one for one in measured(gaussian_subject(red_below), tmp_path).quantities}
    for where in ("log_snr below -12", "log_snr -6 to -2", "log_snr -2 to 2"):
        assert found[f"training_bias[r, {where}]"].value == pytest.approx(0.2, rel=0.02)
        assert abs(found[f"training_bias[g, {where}]"].value) < 0.004
    assert abs(found["training_bias[r, log_snr above 2]"].value) < 0.004
    error, exposure = found["estimate_error[r, log_snr above 2]"], found["exposure_bias[r, log_snr above 2]"]
    assert exposure.low is not None
    assert exposure.low > 0.01  # what was steered away stays away
    assert error.value == pytest.approx(exposure.value, abs=0.004)
    assert abs(found["exposure_bias[b, log_snr above 2]"].value) < 0.01
    shift = found["final_mean_shift[T=20, r]"]
    assert shift.low is not None
    assert shift.low > 0.01
    assert found["final_mean_shift[T=2, r]"].value == pytest.approx(0.2, abs=0.02)  # the first step's estimate stays


def test_the_series_of_a_level_is_the_sum_of_both_biases(tmp_path: Path) -> None:
    found = {one.name: one for one in measured(gaussian_subject(red_below), tmp_path).series}
    parts = [np.array(found[name].value, dtype=float) for name in ("training_bias[r]", "exposure_bias[r]")]
    assert np.allclose(sum(parts), np.array(found["estimate_error[r]"].value, dtype=float), atol=1e-5)
    assert len(found["training_bias[r]"].x) == 20
    assert found["training_bias[r]"].x == sorted(found["training_bias[r]"].x)  # from noise to image
    drift = found["estimate_drift[T=20, r]"]
    early = [value for x, value in zip(drift.x, drift.value, strict=True) if x < -6 and value is not None]
    assert early == pytest.approx([0.2] * len(early), abs=0.01)


def test_what_clipping_does_to_the_estimate_is_told_apart_from_both(tmp_path: Path) -> None:
    def beyond(log_snr: float) -> Tensor | float:
        return torch.tensor([0.9, 0.0, 0.0]).reshape(3, 1, 1) if log_snr < -6 else 0.0

    found = measured(gaussian_subject(beyond, sampler="ddim"), tmp_path)
    figures = {one.name: one for one in found.quantities}
    assert figures["training_bias[r, log_snr below -12]"].value == pytest.approx(0.9, rel=0.02)
    assert figures["sampler_shift[r, log_snr below -12]"].value == pytest.approx(1 - 1.1, rel=0.1)  # clipped at 1
    untouched = figures["sampler_shift[g, log_snr below -12]"]
    assert (untouched.value, untouched.low) == (0, None)  # no image was clipped, which is no proof that none ever is
    curves = {one.name: np.array(one.value, dtype=float) for one in found.series}
    parts = [curves[f"{name}[r]"] for name in ("training_bias", "exposure_bias", "sampler_shift")]
    assert np.allclose(sum(parts), curves["estimate_drift[T=20, r]"], atol=1e-5)


def test_more_steps_give_what_the_most_steps_do_and_the_distances_say_so(tmp_path: Path) -> None:
    found = measured(gaussian_subject(), tmp_path)
    distance = next(one for one in found.series if one.name == "image_distance")
    assert distance.x == [2.0, 5.0]  # the most steps are 20
    assert distance.value[0] > distance.value[1] > 0
    apart = next(one for one in found.quantities if one.name == "image_distance[different noises]")
    assert apart.value == pytest.approx(0.3 * 2**0.5, rel=0.15)  # few steps shrink it
    assert set(found.images) == {"same_noise_2", "same_noise_5", "same_noise_20"}
    assert found.images["same_noise_2"].shape == (12, 3, 8, 8)


@pytest.mark.parametrize(
    "schedule", ["linear", "cosine:zero_terminal_snr=true", "flow", "linear:continuous=true", "linear:num_timesteps=25"]
)
def test_every_schedule_is_measured_at_the_steps_that_it_allows(tmp_path: Path, schedule: str) -> None:
    subject = gaussian_subject(schedule=schedule, steps=10)
    part = Impact()
    settings = part.settings(subject, (), Choices(num=16))
    stated = settings["trajectories"]
    assert isinstance(stated, dict)
    allowed = {"2", "3", "4", "5", "10"} | (set() if "=25" in schedule else {"50", "100", "500", "1000"})
    assert set(stated) == allowed
    found = measured(subject, tmp_path, Choices(num=16, trajectories=(2,)))
    assert all(value is not None for one in found.series for value in one.value)


@pytest.mark.parametrize(
    "sampler",
    ["euler", "euler:s_churn=20", "heun:s_churn=20", "dpm-solver", "dpm-solver:order=3", "dpm-solver++", "unipc"],
)
def test_every_sampler_reports_what_is_looked_at(tmp_path: Path, sampler: str) -> None:
    found = measured(gaussian_subject(sampler=sampler, steps=6), tmp_path, Choices(num=16, trajectories=(3,)))
    curves = {one.name: one for one in found.series}
    assert len(curves["estimate_drift[T=6]"].x) == len(curves["training_bias"].x) == 6
    assert max(abs(value) for value in curves["training_bias"].value) < 0.03


def test_a_number_of_steps_that_was_asked_for_and_cannot_be_made_is_refused() -> None:
    subject = gaussian_subject(schedule="linear:num_timesteps=25")
    with pytest.raises(UsageError, match="30 sampling steps"):
        Impact().settings(subject, (), Choices(trajectories=(2, 30)))
    with pytest.raises(UsageError, match="at least 2 images"):
        Impact().settings(subject, (), Choices(num=1))


def test_long_trajectories_are_fewer() -> None:
    assert [images_for(steps, 256) for steps in (2, 100, 500, 1000)] == [256, 256, 64, 32]
    assert [images_for(steps, 16) for steps in (2, 1000)] == [16, 16]


def test_without_enough_held_out_images_training_images_are_forced_and_the_notes_say_so(tmp_path: Path) -> None:
    found = measured(gaussian_subject(data=gaussian_data(heldout=4)), tmp_path, Choices(num=64, trajectories=(2,)))
    assert any("training images: those the network has seen" in note for note in found.notes)


def test_the_units_do_not_depend_on_how_many_there_are_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = gaussian_subject(steps=4)
    first = measured(subject, tmp_path / "a")
    monkeypatch.setattr("debiasctl.analysis.parts.impact_paths.automatic_batch_size", lambda shape, device: 16)
    again = measured(subject, tmp_path / "b")
    assert first.quantities == again.quantities
    assert first.series == again.series


def test_means_within_classes_leave_their_differences_out() -> None:
    generator = np.random.default_rng(0)
    classes = torch.arange(40) % 2
    rows = 10.0 * classes.numpy() + generator.normal(size=40)
    within, plain = means_of(rows, classes), means_of(rows)
    assert within.value == plain.value
    assert within.se == pytest.approx(1 / 40**0.5, rel=0.3)
    assert plain.se > 4 * within.se


def test_findings_and_pictures_say_and_draw_what_was_measured(tmp_path: Path) -> None:
    from debiasctl.analysis.record import AnalysisRecord, Network

    part = Impact()
    subject = gaussian_subject(red_below)
    settings = part.settings(subject, (), CHOICES)
    found = measured(subject, tmp_path)
    network = Network(run="a", run_identity=None, arm="constant", checkpoint=1, weights="ema", weights_sha256="0")
    record = AnalysisRecord(
        schema_version=1, debiasctl="0", part="impact", network=network, content_hash="h", settings=settings,
        quantities=found.quantities, series=found.series, images=sorted(found.images), notes=found.notes,
    )  # fmt: skip
    text = " ".join(part.findings(record))
    assert "At log SNR below −12 (95 % intervals in brackets): training bias mean +0.067 (" in text
    assert ", red +0.2 (" in text
    assert "exposure bias (mean, red, green, blue: " in text
    assert "In 2 steps, the finished images' mean pixel differs" in text
    other = record.model_copy(update={"network": network.model_copy(update={"arm": "debiased"})})
    for records in ([record], [record, other], [record, record]):
        pictures = part.pictures(records, [found.images] * len(records))
        names = ["impact-drift", "impact-spectrum", "impact-steps", "impact-bias", "impact-noise"]
        assert [one.name for one in pictures] == names
        for one in pictures:
            one.draw("column")


def test_the_intervals_of_training_bias_cover_it_and_regression_narrows_them() -> None:
    generator, trials, hits, widths = np.random.default_rng(0), 400, 0, []
    for _ in range(trials):
        image = 0.1 + 0.3 * generator.normal(size=(12, 1))
        rows = 0.1 + 0.4 * (image - 0.1)[:, None] + 0.02 + 0.1 * generator.normal(size=(12, 1, 1))
        found = of_adjusted(adjusted(rows, image - 0.1)).less(np.array([0.1]))
        hits += bool(found.low.item() <= 0.02 <= found.high.item())
        widths.append(found.half.item() / means_of(rows).half.item())
    assert 0.92 <= hits / trials <= 0.975
    assert np.mean(widths) < 0.75


def test_few_long_trajectories_borrow_from_the_many_usual_ones_of_the_same_noises() -> None:
    generator, trials, hits, ratios = np.random.default_rng(1), 400, 0, []
    for _ in range(trials):
        usual = 0.5 + generator.normal(size=(128, 1))
        own = 1.1 * usual[:16] + 0.1 + 0.1 * generator.normal(size=(16, 1))  # of mean 0.65
        found = extended(own, usual)
        hits += bool(found.low.item() <= 0.65 <= found.high.item())
        ratios.append(found.se.item() / means_of(own).se.item())
    assert 0.92 <= hits / trials <= 0.975
    assert np.mean(ratios) < 0.5
    assert extended(usual, usual).value == pytest.approx(means_of(usual).value)
    assert extended(usual, usual).se == pytest.approx(means_of(usual).se)


def test_the_ideal_denoiser_of_a_mixture_is_unbiased_and_samples_the_mixtures_colours(tmp_path: Path) -> None:
    data = registry.create("datasets", "gaussian-mixture:image_size=8,channels=3,num=1024").load(LOCATION)
    subject = gaussian_subject(data=data, steps=50)
    ideal = ideal_of(subject, seed=0)

    def x0(x_t: Tensor, t: float, labels: Tensor | None) -> Tensor:
        (level,) = levels_at(subject.process, [t])
        return ideal(x_t, level).mean.to(x_t.dtype)

    found = measured(replace(subject, denoiser=FromX0(x0, subject.process)), tmp_path, Choices(num=96, trajectories=()))
    figures = {one.name: one for one in found.quantities}
    for name, one in figures.items():
        if name.startswith(("training_bias", "exposure_bias", "final_mean_shift")):
            assert one.se is not None
            assert abs(one.value) < 4 * one.se + 0.003, one
    assert figures["training_bias[r, log_snr -12 to -6]"].se < 0.002
