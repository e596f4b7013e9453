"""Which held-out errors rank runs as their samples do."""

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from records import add_evaluation, make_run, plain_spec
from scipy.stats import kendalltau

from debiasctl.analysis.book import Book
from debiasctl.analysis.parts.catalogue import PARTS
from debiasctl.analysis.parts.part import Choices
from debiasctl.analysis.parts.validation.points import gather
from debiasctl.analysis.parts.validation.ranking import MIN_RUNS, Points, Ranking, difference
from debiasctl.analysis.record import AnalysisRecord, Network
from debiasctl.analysis.subject import Subject
from debiasctl.diffusion.process import process_of
from debiasctl.errors import UsageError
from debiasctl.runs import metrics as metrics_file
from debiasctl.runs.records import BinErrors, HeldoutRecord, MonitorRecord
from debiasctl.runs.store import Run

PART = PARTS["validation"]
BINS = ((None, 0.0), (0.0, None))


def points(seed: int, *, runs: int = 8, checkpoints: int = 3, levels: int = 5) -> tuple[Points, np.ndarray]:
    """Points with ties, and scores."""
    draw = np.random.default_rng(seed)
    run = np.repeat(np.arange(runs), checkpoints)
    images = np.tile(np.arange(checkpoints), runs) * 100
    return Points(run, images, draw.integers(0, levels, len(run)).astype(float)), draw.integers(0, levels, len(run))


def test_tau_with_ties_is_scipys_and_scopes_are_their_pairs_alone() -> None:
    for seed in range(5):
        given, scores = points(seed)
        tau = Ranking(given, seed=0, draws=10).tau(scores.astype(float), "all")
        assert tau is not None
        assert tau.value == pytest.approx(kendalltau(scores, given.distance).statistic, abs=1e-12)
    alone, scores = points(7, checkpoints=1)
    one = {scope: Ranking(alone, seed=0, draws=10).tau(scores.astype(float), scope) for scope in ("all", "between")}
    assert one["all"] is not None and one["between"] is not None  # noqa: PT018
    assert one["all"].value == one["between"].value
    assert Ranking(alone, seed=0, draws=10).tau(scores.astype(float), "within") is None
    assert Ranking(alone, seed=0, draws=10).tau(np.ones(8), "all") is None


def test_pairs_of_scopes_in_a_loop() -> None:
    given, scores = points(3)
    for scope in ("between", "within"):
        agree = first = second = 0
        for i in range(len(scores)):
            for j in range(i):
                same = given.run[i] == given.run[j]
                if same if scope == "within" else not same and given.images[i] == given.images[j]:
                    one, other = np.sign(scores[i] - scores[j]), np.sign(given.distance[i] - given.distance[j])
                    agree, first, second = agree + one * other, first + abs(one), second + abs(other)
        tau = Ranking(given, seed=0, draws=10).tau(scores.astype(float), scope)
        assert tau is not None
        assert tau.value == pytest.approx(agree / math.sqrt(first * second), abs=1e-12)


def test_a_draw_of_runs_is_the_tau_of_these_runs() -> None:
    given, scores = points(4)
    ranking = Ranking(given, seed=0, draws=4)
    tau = ranking.tau(scores.astype(float), "all")
    assert tau is not None
    for counts, value in zip(ranking._counts, tau.draws, strict=True):
        rows = np.repeat(np.arange(len(scores)), counts[given.run].astype(int))
        copy = np.concatenate([np.arange(count) for count in counts[given.run].astype(int)])
        agree = first = second = 0.0
        for i in range(len(rows)):
            for j in range(i):
                if given.run[rows[i]] == given.run[rows[j]] and copy[i] != copy[j]:
                    continue  # two copies of a run are not compared
                one, other = (
                    np.sign(scores[rows[i]] - scores[rows[j]]),
                    np.sign(given.distance[rows[i]] - given.distance[rows[j]]),
                )
                agree, first, second = agree + one * other, first + abs(one), second + abs(other)
        assert value == pytest.approx(agree / math.sqrt(first * second), abs=1e-12)


def test_intervals_over_runs_cover_and_few_runs_have_none() -> None:
    covered = 0
    truth = 2 / math.pi * math.asin(0.6)
    for seed in range(150):
        draw = np.random.default_rng(seed)
        x, noise = draw.normal(size=(2, 12))
        given = Points(np.arange(12), np.zeros(12, dtype=np.int64), 0.6 * x + 0.8 * noise)
        tau = Ranking(given, seed=seed, draws=300).tau(x, "between")
        assert tau is not None and tau.low is not None and tau.high is not None  # noqa: PT018
        covered += tau.low <= truth <= tau.high
    assert 0.9 * 150 <= covered < 150
    given, scores = points(1, runs=MIN_RUNS - 1)
    few = Ranking(given, seed=0).tau(scores.astype(float), "all")
    assert few is not None
    assert few.low is None
    assert difference(few, few) is None


def add_heldout(run: Run, step: int, noisy: float, clean: float) -> None:
    """Errors of v at the two bins; the other units follow at SNR 1/e² and e²."""
    bins = []
    for bounds, v, snr in zip(BINS, (noisy, clean), (math.exp(-2), math.exp(2)), strict=True):
        eps = v * snr / (snr + 1)
        bins.append(BinErrors(log_snr=bounds, num=4, eps=eps, x0=eps / snr, v=v, flow=eps * (1 + snr**0.5) ** 2 / snr))
    metrics_file.append(run.metrics_path, [HeldoutRecord(step=step, weights="ema", bins=bins)], run=None)


def runs_of(number: int, *, noisy: bool = True) -> list[Run]:
    """Runs whose samples follow the error of one bin, and not that of the other."""
    draw, runs = np.random.default_rng(0), []
    for seed in range(number):
        run = make_run(f"run-{seed}", plain_spec("debiased", seed))
        one, other = draw.uniform(0.1, 1, size=2)
        add_heldout(run, 6, one, other)
        add_evaluation(run, {"fd_local": float(one if noisy else other), "precision": 0.5})
        runs.append(run)
    return runs


def subjects_of(runs: list[Run]) -> list[Subject]:
    made = []
    for run in runs:
        spec = run.spec()
        process = process_of(spec.diffusion.schedule.create("schedules"))
        made.append(SimpleNamespace(run=run, spec=spec, content=spec.content, process=process))
    return [cast(Subject, one) for one in made]


def record_of(runs: list[Run], settings: dict[str, Any], book: Book) -> AnalysisRecord:
    subject, *others = subjects_of(runs)
    found = PART.measure(subject, others, settings, book)
    networks = [
        Network(run=run.name, run_identity=None, arm="debiased", checkpoint=6, weights="ema", weights_sha256="a")
        for run in runs
    ]
    return AnalysisRecord(
        schema_version=1, debiasctl="0", part="validation", network=networks[0], others=networks[1:], content_hash="ab",
        settings=settings, quantities=found.quantities, series=found.series, notes=found.notes,
    )  # fmt: skip


def test_the_bin_that_the_samples_follow_is_found(tmp_path) -> None:
    runs = runs_of(9)
    subject, *others = subjects_of(runs)
    settings = PART.settings(subject, others, Choices())
    record = record_of(runs, settings, Book(tmp_path, identity="x"))
    taus = {one.name: one for one in record.quantities if one.name.startswith("tau[between,")}
    assert taus["tau[between,x0]"].value > 0.8 > taus["tau[between,eps]"].value
    assert {"debiased", "min-snr", "p2", "edm", "truncated-snr", "eps", "x0", "v", "flow"} == {
        name.removeprefix("tau[between,").removesuffix("]") for name in taus
    }
    bins = record.series_of("tau_of_bin[between]")
    assert bins is not None
    assert bins.value[0] == 1.0
    assert bins.value[1] is not None
    assert bins.value[1] < 1
    assert "ranks best" in " ".join(PART.findings(record))
    for picture in PART.pictures([record], [{}]):
        assert picture.draw("page").get_axes()
    add_evaluation(runs[0], {"fd_local": 99.0})
    assert PART.settings(subject, others, Choices()) != settings  # another figure is another analysis


def test_too_few_runs_other_data_and_unknown_metrics_are_refused() -> None:
    runs = runs_of(MIN_RUNS)
    subject, *others = subjects_of(runs)
    with pytest.raises(UsageError, match=r"at least 6 runs.* there are 5 runs with 5 such points"):
        PART.settings(subject, others[:-1], Choices())
    with pytest.raises(UsageError, match=r"no run has the metric 'fd_locl'. Did you mean"):
        PART.settings(subject, others, Choices(metric="fd_locl"))
    with pytest.raises(UsageError, match="was measured at 50 sampling steps alone"):
        PART.settings(subject, others, Choices(metric="fd_local@10"))
    with pytest.raises(UsageError, match="learned"):
        PART.settings(subject, others, Choices(counterfactual=("uncertainty",)))
    other = make_run("other", plain_spec("debiased", 0, diffusion={"schedule": "cosine"}))
    with pytest.raises(UsageError, match="different schedules"):
        PART.settings(subject, [*others, *subjects_of([other])], Choices())
    with pytest.raises(UsageError, match="no run has figures of its samples"):
        PART.settings(*[subjects_of([other])[0], []], Choices())


def test_points_are_of_equal_conditions_and_errors_between_measurements_are_interpolated() -> None:
    run = make_run("a", plain_spec())
    add_heldout(run, 2, 0.4, 0.1)
    add_heldout(run, 6, 0.1, 0.1)
    add_evaluation(run, {"fd_local": 3.0}, checkpoint=4)
    add_evaluation(run, {"fd_local": 2.0}, checkpoint=6)
    add_evaluation(run, {"fd_local": 1.0}, checkpoint=6, num=50)
    add_evaluation(run, {"fd_local": 1.0}, checkpoint=8)  # after the last held-out errors
    add_evaluation(run, {"fd_local": 1.0}, checkpoint=6, weights="raw")  # of which there are no held-out errors
    found = gather([run], [run.spec()], metric=None)
    assert [(one.step, one.images, one.figure, one.interpolated) for one in found.points] == [
        (4, 32, 3.0, True),
        (6, 48, 2.0, False),
    ]
    assert found.points[0].errors[None, 0.0]["v"] == pytest.approx(0.2)  # linear in the logarithm
    monitored = [
        MonitorRecord(step=step, images=8 * step, num=9, sampler="ddim", steps=10, nfe=10, weights="ema",
                      metrics={"fd_local": 5.0}, floors={"fd_local": None})
        for step in (2, 4, 6)
    ]  # fmt: skip
    metrics_file.append(run.metrics_path, monitored, run=None)
    assert [one.figure for one in gather([run], [run.spec()], metric=None).points] == [5.0] * 3
