"""The part `reasons` on a tiny run, and its measurements of copying and learning."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import digits, make_spec, train

from debiasctl.analysis.analyze import analyze
from debiasctl.analysis.parts.catalogue import PARTS
from debiasctl.analysis.parts.part import Choices
from debiasctl.analysis.parts.reasons import part as reasons_part
from debiasctl.analysis.parts.reasons.copying import Linear, amplification, copying, copying_sums
from debiasctl.analysis.parts.reasons.figures import short_cases
from debiasctl.analysis.parts.reasons.findings import copying_sentence
from debiasctl.analysis.parts.reasons.learning import Reached, reached
from debiasctl.analysis.parts.reasons.levels import bins_of
from debiasctl.analysis.record import AnalysisRecord, Network, Quantity, Series
from debiasctl.analysis.subject import Subject
from debiasctl.api import ArraySplit
from debiasctl.comparison.analyses.results import Entry, PartResult
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.denoiser import NetworkDenoiser
from debiasctl.errors import CheckpointError, EvaluationError, Interrupted, UsageError
from debiasctl.models.build import build_parameterization
from debiasctl.models.objective import build_objective, load_learned
from debiasctl.runs.store import Run
from debiasctl.sampling.request import make_request

PART = PARTS["reasons"]


def subject_of(run: Run, **changes: Any) -> Subject:
    spec = run.spec()
    request = make_request(
        run, spec, num=4, num_steps=5, sampler="ddim", seed=None, checkpoint=None, weights="ema", **changes
    )
    return Subject.of(run, spec, request, digits(), arm=spec.loss.weighting.name, device=torch.device("cpu"))


def trained(name: str, **settings: Any) -> Subject:
    return subject_of(train(name, make_spec(training__steps=4, training__checkpoint_every=2, **settings)))


def test_a_run_is_analysed_resumed_and_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = trained("a", loss__weighting="uncertainty", model__prediction="v")
    choices = Choices(num=20, counterfactual=("debiased", "min-snr:gamma=3", "debiased"))
    measure, calls = reasons_part.group_gradients, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return measure(*arguments)

    monkeypatch.setattr(reasons_part, "group_gradients", interrupted)
    with pytest.raises(Interrupted, match="repeat the command"):
        analyze(PART, subject, [], choices)
    record = analyze(PART, subject, [], choices)
    assert calls == 4 + 10 - 3  # the three groups that were measured are not measured again
    assert analyze(PART, subject, [], choices) == record
    assert calls == 11
    assert record.settings["gradient_weights"] == "raw"
    assert record.settings["counterfactual"] == ["debiased", "min-snr:gamma=3.0"]
    for case in ("", "[debiased]", "[min-snr:gamma=3.0]"):
        for name in ("weight_share", "loss_share", "gradient_norm_share", "gradient_share", "gradient_square_share"):
            series = record.series_of(f"{name}{case}")
            assert series is not None
            known = [value for value in series.value if value is not None]
            assert not known or math.fsum(known) == pytest.approx(1, abs=1e-9)
    draws = record.series_of("draw_share")
    assert draws is not None
    assert math.fsum(value or 0 for value in draws.value) == pytest.approx(1)
    text = " ".join(PART.findings(record))
    for words in (
        "of the t in the objective",
        "times its input",
        "With the weighting debiased",
        "1/√SNR",
        "90 % of their whole fall",
    ):
        assert words in text
    assert any("the weighting is learned" in note for note in record.notes)
    for picture in PART.pictures([record], [{}]):
        assert picture.draw("column").get_axes()


@pytest.mark.parametrize(
    "settings",
    [
        {"model__prediction": "x0", "diffusion__schedule": "cosine:zero_terminal_snr=true"},
        {"model__prediction": "flow", "diffusion__schedule": "flow:continuous=true"},
        {"model__prediction": "edm", "diffusion__schedule": "edm", "model__learned_variance": False},
        {"model__learned_variance": True, "loss__metric": "huber", "data__horizontal_flip": True},
    ],
)
def test_every_prediction_and_schedule_is_analysed(settings: dict[str, Any]) -> None:
    record = analyze(PART, trained("b", **settings), [], Choices(num=10))
    series = record.series_of("copy_slope")
    assert series is not None
    assert all(value is not None and math.isfinite(value) for value in series.value)
    assert PART.findings(record)


def test_what_cannot_be_analysed_is_refused() -> None:
    subject = trained("c")
    with pytest.raises(UsageError, match=r"`num` is 5.*at least 10 training images"):
        PART.settings(subject, [], Choices(num=5))
    with pytest.raises(UsageError, match=r"uncertainty.* is learned"):
        PART.settings(subject, [], Choices(counterfactual=("uncertainty",)))
    with pytest.raises(UsageError, match="debiased"):
        PART.settings(subject, [], Choices(counterfactual=("debias",)))


def test_groups_draw_images_independently_and_more_than_there_are() -> None:
    few = digits().train.images(torch.arange(30))
    subject = dataclasses.replace(
        trained("g"), data=dataclasses.replace(digits(), train=ArraySplit(few, torch.arange(30) % 10))
    )
    groups = [reasons_part._images(subject, number, size=50, seed=0, dtype=torch.float64) for number in range(2)]
    for one in groups:
        assert len(one.x0[:30].flatten(1).unique(dim=0)) == 30  # each once before any a second time
        assert torch.equal(one.x0[30:], one.x0[:20])
    assert not torch.equal(groups[0].x0, groups[1].x0)
    assert len(torch.cat([one.positions for one in groups]).unique()) == 100  # with noise of its own each


class Copies(torch.nn.Module):
    """Predicts its input as the noise, or a multiple of it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor, noise_level: torch.Tensor, labels: Any = None) -> torch.Tensor:
        return self.factor * x


def heldout() -> HeldoutSet:
    return HeldoutSet.of(
        digits().heldout, num_images=60, conditional=False, device=torch.device("cpu"), dtype=torch.float32
    )


def test_a_copy_is_found_to_be_one_and_linear_data_leave_nothing_to_gain() -> None:
    spec = make_spec()
    parameterization, objective = build_parameterization(spec), build_objective(spec, warn=False)
    bins = bins_of(objective, progress=0.0)
    linear = Linear.of(digits_model_space())
    sums = [
        copying_sums(NetworkDenoiser(Copies(0.7), parameterization), heldout(), one, linear, seed=0)["sums"]
        for one in bins
    ]
    found = copying(sums, seed=0)
    assert found.slope.value == pytest.approx(0.7, abs=1e-6)
    assert found.r2.value == pytest.approx(1, abs=1e-6)
    whole = [copying_sums(NetworkDenoiser(Copies(1.0), parameterization), heldout(), one, linear, seed=0)["sums"]
             for one in bins]  # fmt: skip
    copy = copying(whole, seed=0)
    assert copy.error.value == pytest.approx(copy.error_of_copy.value, rel=1e-5)
    assert (copy.error_of_linear.value < copy.error_of_copy.value).all()


def digits_model_space() -> torch.Tensor:
    return digits().train.images(torch.arange(500)).float() / 127.5 - 1


def test_the_linear_predictor_is_the_best_one_of_gaussian_data() -> None:
    draw = np.random.default_rng(0)
    root = draw.normal(size=(9, 9)) / 3
    images = torch.from_numpy(0.3 + draw.normal(size=(20_000, 9)) @ root).view(-1, 1, 3, 3)
    linear = Linear.of(images)
    alpha, sigma = torch.tensor([[0.6]], dtype=torch.float64), torch.tensor([[0.8]], dtype=torch.float64)
    eps = torch.from_numpy(draw.normal(size=images.shape))
    x_t = 0.6 * images + 0.8 * eps
    covariance = torch.from_numpy(root.T @ root)
    exact = 0.8 * torch.linalg.inv(0.36 * covariance + 0.64 * torch.eye(9, dtype=torch.float64))
    expected = ((x_t.flatten(1) - 0.18) @ exact).view_as(x_t)
    error, least = ((one - eps).square().mean() for one in (linear(x_t, alpha, sigma), expected))
    assert float(error) == pytest.approx(float(least), rel=1e-3)


def test_errors_are_amplified_by_the_root_of_the_snr_and_zero_snr_is_left_out() -> None:
    spec = make_spec(model__prediction="v", diffusion__schedule="linear:zero_terminal_snr=true")
    objective = build_objective(spec, warn=False)
    first, *_, last = bins_of(objective, progress=0.0)
    snr = objective.process.snr[last.timesteps]
    assert amplification(objective.process, last) == (pytest.approx(float((1 / snr).mean().sqrt())), 0)
    value, without = amplification(objective.process, first)
    assert without == 1
    assert math.isfinite(value)


def test_a_fall_is_dated_between_measurements() -> None:
    assert reached([0, 10, 20], [1.0, 0.2, 0.1]) == Reached(pytest.approx(10 + 10 * 0.01 / 0.1), 10, 20)
    assert reached([0, 10, 20], [1.0, 0.15, 0.1]) == Reached(pytest.approx(10 * 0.81 / 0.85), 0, 10)
    assert reached([0, 10], [1.0, 1.0]) is None


def test_a_run_without_heldout_errors_says_so() -> None:
    subject = trained("d")
    subject.run.metrics_path.write_text("")
    record = analyze(PART, subject, [], Choices(num=14))
    assert any("has no held-out errors" in note for note in record.notes)
    assert (
        "gradients were taken on 10 training images, not 14: they are divided into 10 groups of one size"
        in record.notes
    )


def test_a_number_of_images_that_is_used_whole_leaves_no_trace() -> None:
    """So that records that were measured before there was a note are found."""
    subject = trained("d")
    settings = PART.settings(subject, [], Choices(num=20))
    assert "asked_images" not in settings
    assert reasons_part._rounded(settings) == []


@pytest.mark.parametrize("part", ["reasons", "impact", "stitching"])
def test_a_stored_record_that_lacks_figures_is_named(part: str, tmp_path: Path) -> None:
    """Records made so by hand: a part reads what it wrote, and says which file is not as it wrote it."""
    lacking = Series(name="gradient_snr", axis="log_snr", x=[0.0], value=[1.0])
    quantities = [Quantity(name=name, value=3.0) for name in ("gradients_known", "conflicting_pairs", "agreeing_pairs")]
    network = Network(run="a", run_identity=None, arm="a", checkpoint=1, weights="ema", weights_sha256="0")
    record = AnalysisRecord(
        debiasctl="0", part=part, network=network, others=[network], content_hash="c", settings={},
        quantities=quantities, series=[lacking],
    )  # fmt: skip
    entry = Entry(record, 0, tmp_path)
    result = PartResult(PARTS[part], [entry])
    with pytest.raises(EvaluationError, match=rf"{record.key}\.json is damaged .*'{part}'.* Remove that file"):
        result.findings(entry)


@pytest.mark.parametrize(
    ("gain", "low", "high", "said"),
    [
        (0.4, 0.3, 0.5, "the network's error is 40 % (95 % interval 30 % to 50 %) lower than the linear predictor's."),
        (-33.8, -41.2, -26.5, "the network does worse, with 34.8 (95 % interval 27.5 to 42.2) times the linear one's"),
        (-0.1, -0.2, 0.1, "the network cannot be told from the linear predictor there."),
    ],
)
def test_a_network_is_compared_with_the_linear_predictor(gain: float, low: float, high: float, said: str) -> None:
    network = Network(run="a", run_identity=None, arm="a", checkpoint=1, weights="ema", weights_sha256="0")
    figures = [Quantity(name=f"copy_{name}[noisiest]", value=1.0) for name in ("slope", "r2")]
    errors = [Series(name=f"eps_error{of}", axis="log_snr", x=[-9.0], value=[0.1]) for of in ("", "[copy]", "[linear]")]
    record = AnalysisRecord(
        debiasctl="0", part="reasons", network=network, content_hash="c", settings={}, series=errors,
        quantities=[*figures, Quantity(name="gain_over_linear[noisiest]", value=gain, low=low, high=high)],
    )  # fmt: skip
    assert said in copying_sentence(record)


def test_a_weighting_is_named_by_what_is_not_its_default() -> None:
    refs = ["debiased", "min-snr:gamma=5.0", "p2:k=1.0,gamma=0.5"]
    assert short_cases(refs) == ["debiased", "min-snr", "p2:gamma=0.5"]


def test_large_gradients_are_folded_and_the_notes_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = trained("h")
    exact = analyze(PART, subject, [], Choices(num=10))
    assert not any("random signs" in note for note in exact.notes)
    monkeypatch.setattr(reasons_part, "_VALUES", 100 * 2000)
    folded = analyze(PART, subject, [], Choices(num=10, seed=1))
    assert any("2,000 sums" in note for note in folded.notes)


def test_what_a_learned_weighting_had_learnt_is_loaded() -> None:
    run = train("e", make_spec(training__steps=2, loss__weighting="uncertainty"))
    objective = build_objective(run.spec(), warn=False)
    load_learned(run, objective, step=2)
    assert objective.learned is not None
    stored = torch.load(run.checkpoint_path(2) / "state.pt", weights_only=True)["weighting"]["module"]
    assert float(stored["weight"].abs().max()) > 0
    assert torch.equal(objective.learned.module.state_dict()["weight"], stored["weight"])
    other = build_objective(make_spec(loss__weighting="uncertainty:channels=4"), warn=False)
    with pytest.raises(CheckpointError, match="does not fit its learned weighting"):
        load_learned(run, other, step=2)
    plain = train("f", make_spec(training__steps=1))
    with pytest.raises(CheckpointError, match="holds no state of it"):
        load_learned(plain, objective, step=1)
