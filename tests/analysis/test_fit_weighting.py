"""Fitted weightings: equal to the closed form where the errors are known, and refused where they are not enough."""

import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import digits, make_spec, set_up_tiny, train

from debiasctl import registry
from debiasctl.analysis.fit_files import module_text, table_text
from debiasctl.analysis.fit_weighting import Fit, fit
from debiasctl.analysis.heldout_curve import Heldout, drawn_log_snr, pooled
from debiasctl.analysis.optimal_error import OptimalError
from debiasctl.api import WeightingContext
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.diffusion.process import DiffusionProcess, process_of
from debiasctl.diffusion.weighting import bounded_snr, weight_in
from debiasctl.errors import UsageError
from debiasctl.models.build import build_parameterization
from debiasctl.models.heldout import LOG_SNR_EDGES, bin_edges, heldout_errors
from debiasctl.models.objective import build_objective
from debiasctl.runs import metrics
from debiasctl.runs.records import BinErrors, HeldoutRecord
from debiasctl.runs.store import Run
from debiasctl.training.step import train_step

DEVIATION = 0.5  # of Gaussian images
SPREAD = 1.7  # E[g²] of an image's error, g times the mean error at its noise level
SCHEDULES = ("linear", "cosine", "edm", "linear:zero_terminal_snr=true", "flow")


def least_error(log_snr: torch.Tensor) -> torch.Tensor:
    """The error of v of the best denoiser of N(0, DEVIATION²): c²/(alpha² c² + sigma²)."""
    alpha = torch.sigmoid(log_snr)
    return DEVIATION**2 / (alpha * DEVIATION**2 + 1 - alpha)


def bins_of(process: DiffusionProcess, error: Callable[[torch.Tensor], torch.Tensor], *, stds: bool) -> list[BinErrors]:
    """Held-out errors without noise: the means over each bin's timesteps."""
    number = torch.bucketize(process.log_snr, torch.tensor(LOG_SNR_EDGES, dtype=torch.float64), right=True)
    found = []
    for place, bounds in enumerate(bin_edges()):
        if not bool((number == place).any()):
            continue
        v = error(process.log_snr[number == place])
        mean, std = float(v.mean()), math.sqrt(SPREAD * float((v**2).mean()) - float(v.mean()) ** 2)
        extra = {"eps_std": std, "x0_std": std, "v_std": std} if stds else {}
        found.append(BinErrors(log_snr=bounds, num=256, eps=mean, x0=mean, v=mean, **extra))
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("home")))
        return train("a", make_spec(training__steps=1, model__prediction="v", loss__weighting="debiased"))


def measured(run: Run, schedule: str, error: Callable[[torch.Tensor], torch.Tensor], *, stds: bool = True) -> Heldout:
    """A run's held-out errors as if they were those of `error`, on another schedule."""
    chosen = registry.resolve("schedules", schedule)
    spec = run.spec()
    choice = spec.diffusion.schedule.model_copy(update={"name": chosen.record.name, "options": chosen.stored_options()})
    spec = spec.model_copy(update={"diffusion": spec.diffusion.model_copy(update={"schedule": choice})})
    process = process_of(registry.create("schedules", schedule))
    record = HeldoutRecord(step=1, weights="ema", bins=bins_of(process, error, stds=stds))
    metrics.append(run.metrics_path, [record], run=run.identity())
    return pooled([run], [spec])


def compare_on(process: DiffusionProcess, fitted: Fit) -> tuple[np.ndarray, np.ndarray]:
    """The schedule's finite log-SNRs, and the fitted curve there as the table is read."""
    log_snr = process.log_snr[process.snr > 0].numpy()
    return log_snr, np.interp(log_snr, np.log(np.maximum(fitted.snr, 1e-20)), fitted.values)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_uncertainty_is_the_reciprocal_of_the_error_in_closed_form(run: Run, schedule: str) -> None:
    heldout = measured(run, schedule, least_error)
    log_snr, found = compare_on(heldout.process, fit("uncertainty", heldout))
    np.testing.assert_allclose(found, 1 / least_error(torch.from_numpy(log_snr)).numpy(), rtol=0.015)
    shifted = 1 / least_error(torch.from_numpy(log_snr) + 1).numpy()  # the agreement is not that of flat curves
    assert abs(found / shifted - 1).max() > 0.1


def test_the_curves_means_over_the_bins_are_those_measured(run: Run) -> None:
    heldout = measured(run, "linear", lambda log_snr: 1 + torch.sin(log_snr).abs())
    fitted = fit("uncertainty", heldout)
    log_snr, found = compare_on(heldout.process, fitted)
    for one in heldout.bins:
        assert np.mean(1 / found[np.isin(log_snr, one.levels)]) == pytest.approx(one.error, rel=2e-3)


@pytest.mark.parametrize(("rule", "tolerance"), [("loss-second-moment", 0.03), ("loss-variance", 0.06)])
@pytest.mark.parametrize("weighting", ["debiased", "min-snr", "sigmoid"])
def test_a_draw_is_in_proportion_to_the_weighted_losses(run: Run, rule: str, tolerance: float, weighting: str) -> None:
    heldout, plugin = measured(run, "linear", least_error), registry.create("weightings", weighting)
    _, found = compare_on(heldout.process, fit(rule, heldout, weighting=plugin))
    snr = bounded_snr(heldout.process.snr)
    weight = weight_in(plugin.at(WeightingContext(snr)), "v", snr=snr).numpy()
    expected = weight * least_error(heldout.process.log_snr).numpy()
    np.testing.assert_allclose(found, expected / expected.max(), rtol=tolerance)


def test_an_exact_denoisers_measurement_gives_the_closed_form_within_its_standard_errors(run: Run) -> None:
    spec = make_spec(model__prediction="v", diffusion__schedule="linear")
    objective = build_objective(spec, warn=False)
    process = objective.process

    class Exact(torch.nn.Module):
        def forward(self, x: torch.Tensor, noise_level: torch.Tensor, labels: torch.Tensor | None = None):
            alpha, sigma = (table[noise_level.long()][:, None, None, None] for table in (process.alpha, process.sigma))
            x0 = alpha * DEVIATION**2 / (alpha**2 * DEVIATION**2 + sigma**2) * x
            return ((alpha * x - x0) / sigma).float()

    generator = torch.Generator().manual_seed(3)
    images = DEVIATION * torch.randn(600, 1, 4, 4, generator=generator)
    bins = heldout_errors(Exact(), objective, HeldoutSet(images, None))
    metrics.append(run.metrics_path, [HeldoutRecord(step=1, weights="ema", bins=bins)], run=run.identity())
    spec = run.spec()
    heldout = pooled([run], [spec])
    for one in fit("uncertainty", heldout).bins:
        assert one.se is not None
        assert abs(one.value - 1 / float(least_error(torch.tensor(one.bin.at)))) < 4 * one.se + 0.01 * one.value
        assert one.se == pytest.approx(one.value * math.sqrt(2 / 16 / 600), rel=0.5)  # chi-square of 16 pixels


def test_more_runs_on_the_same_images_do_not_lower_the_standard_error_over_images(
    run: Run, debiasctl_home: Path
) -> None:
    one = measured(run, "linear", least_error)
    other = train(
        "b", make_spec(training__steps=1, model__prediction="v", training__seed=1, loss__weighting="debiased")
    )
    process, errors = build_parameterization(run.spec()).process, []
    for each, factor in ((run, 1.0), (other, 1.2)):
        bins = bins_of(process, lambda log_snr, factor=factor: factor * least_error(log_snr), stds=True)
        metrics.append(each.metrics_path, [HeldoutRecord(step=1, weights="ema", bins=bins)], run=each.identity())
        errors.append([one.v for one in bins])
    both = pooled([run, other], [run.spec(), other.spec()])
    for alone, pair, values in zip(one.bins, both.bins, zip(*errors, strict=True), strict=True):
        assert pair.error == pytest.approx(sum(values) / 2)
        assert alone.se is not None
        assert pair.se is not None
        assert pair.se > alone.se
        assert pair.se > abs(values[0] - values[1]) / 2 * 0.99
    changed = other.spec().diffusion.schedule.model_copy(update={"name": "cosine", "options": {}})
    spec = other.spec().model_copy(
        update={"diffusion": other.spec().diffusion.model_copy(update={"schedule": changed})}
    )
    with pytest.raises(UsageError, match="have different schedules"):
        pooled([run, other], [run.spec(), spec])
    content = other.spec().content
    assert content is not None
    spec = other.spec().model_copy(update={"content": content.model_copy(update={"content_hash": "0" * 64})})
    with pytest.raises(UsageError, match="are of different images"):
        pooled([run, other], [run.spec(), spec])


def test_runs_that_store_no_deviations_serve_the_rules_that_need_none(run: Run) -> None:
    heldout = measured(run, "linear", least_error, stds=False)
    fitted = fit("uncertainty", heldout)
    assert all(one.se is None for one in fitted.bins)
    assert any("standard errors are not known" in text for text in fitted.notes)
    with pytest.raises(
        UsageError, match=r"loss-variance needs the deviations .* needs none: uncertainty, optimal-loss"
    ):
        fit("loss-variance", heldout, weighting=registry.create("weightings", "debiased"))


def test_a_learned_weighting_is_no_loss_to_draw_for(run: Run) -> None:
    with pytest.raises(UsageError, match="weighting is learned"):
        fit(
            "loss-variance",
            measured(run, "linear", least_error),
            weighting=registry.create("weightings", "uncertainty"),
        )


def test_another_metric_is_said_and_has_no_second_moments(run: Run) -> None:
    heldout = measured(run, "linear", least_error)
    loss = heldout.spec.loss.model_copy(update={"metric": "huber"})
    heldout = replace(heldout, spec=heldout.spec.model_copy(update={"loss": loss}))
    assert any("loss.metric=huber" in text for text in fit("uncertainty", heldout).notes)
    with pytest.raises(UsageError, match="for a loss that is a squared error"):
        fit("loss-variance", heldout, weighting=registry.create("weightings", "debiased"))


def test_bins_without_measurements_end_the_table(run: Run) -> None:
    heldout = measured(run, "linear", least_error)
    cut = replace(heldout, bins=heldout.bins[1:-1])
    fitted = fit("uncertainty", cut)
    assert math.log(fitted.snr[0]) == pytest.approx(-8, abs=0.1)
    assert math.log(fitted.snr[-1]) == pytest.approx(8, abs=0.1)
    assert not cut.is_whole
    assert any("bins without measurements" in text for text in fitted.notes)


def test_the_least_error_is_continued_where_the_training_images_are_remembered(run: Run) -> None:
    heldout = measured(run, "linear", lambda log_snr: 2 * least_error(log_snr))
    levels = np.linspace(*heldout.span, 40)
    values = least_error(torch.from_numpy(levels)).tolist()
    optimum = [
        OptimalError(at, v, 0.01 * v, v * (1.1 if at < 1 else 9), 0.0) for at, v in zip(levels, values, strict=True)
    ]
    log_snr, found = compare_on(heldout.process, fit("optimal-loss", heldout, optimum=optimum))
    # up to log SNR 1 the given errors; beyond, half of the run's, which is the same here
    np.testing.assert_allclose(found, 1 / least_error(torch.from_numpy(log_snr)).numpy(), rtol=0.02)
    fitted = fit("optimal-loss", heldout, optimum=optimum)
    assert any("from 0.50 of it" in text for text in fitted.notes)


@pytest.mark.parametrize("schedule", [*SCHEDULES, "cosine:continuous=true", "flow:shift=3", "flow:continuous=false"])
def test_the_tables_serve_every_schedule_that_they_are_fitted_on(run: Run, schedule: str, tmp_path: Path) -> None:
    heldout, debiased = measured(run, schedule, least_error), registry.create("weightings", "debiased")
    (tmp_path / "weights.csv").write_text(table_text(fit("uncertainty", heldout)), encoding="utf-8")
    draw = fit("loss-second-moment", heldout, weighting=debiased)
    (tmp_path / "draw.csv").write_text(table_text(draw), encoding="utf-8")
    weighting = registry.create("weightings", f"table:path='{tmp_path / 'weights.csv'}',space=v")
    timesteps = registry.create("timesteps", f"table:path='{tmp_path / 'draw.csv'}'")
    process = heldout.process
    tables = Objective(Parameterization("v", process), weighting, registry.create("timesteps", "uniform")).tables()
    snr = torch.from_numpy(np.exp(drawn_log_snr(process)))
    expected = 1 / least_error(snr.log())
    torch.testing.assert_close(tables.weight, expected / expected.mean(), rtol=0.03, atol=0)
    drawn = Objective(Parameterization("v", process), debiased, timesteps).tables()
    assert bool((drawn.probability >= 0).all())


@pytest.mark.parametrize("schedule", ["linear", "linear:zero_terminal_snr=true"])
def test_the_table_and_the_module_are_the_same_weighting(run: Run, schedule: str, tmp_path: Path) -> None:
    heldout = measured(run, schedule, least_error)
    fitted = fit("uncertainty", heldout)
    (tmp_path / "fit.csv").write_text(table_text(fitted), encoding="utf-8")
    (tmp_path / "fitted.py").write_text(module_text(fitted, runs=["a at step 1"], version="1"), encoding="utf-8")
    snr = bounded_snr(heldout.process.snr)
    table = registry.create("weightings", f"table:path='{tmp_path / 'fit.csv'}',space=v").at(WeightingContext(snr))
    spec = importlib.util.spec_from_file_location("fitted", tmp_path / "fitted.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for unit in ("eps", "x0", "v", "edm", "flow"):
        np.testing.assert_allclose(
            module.weight(heldout.process.snr, unit), weight_in(table, unit, snr=snr).numpy(), rtol=1e-6
        )
    with pytest.raises(ValueError, match="was measured"):
        module.weight([1e9])


def test_the_module_of_a_draw_needs_numpy_alone(run: Run, tmp_path: Path) -> None:
    heldout, plugin = measured(run, "linear", least_error), registry.create("weightings", "debiased")
    fitted = fit("loss-second-moment", heldout, weighting=plugin)
    (tmp_path / "draw.csv").write_text(table_text(fitted), encoding="utf-8")
    text = module_text(fitted, runs=["a at step 1"], version="1")
    check = (
        "import sys\nsnr = np.exp(np.linspace(LOG_SNR[-1], LOG_SNR[0], 50))\nq, correction = probabilities(snr)\n"
        "assert abs(q.sum() - 1) < 1e-12 and np.allclose(q * correction, 1 / 50)\n"
        "assert not {'torch', 'debiasctl'} & set(sys.modules)\n"
    )
    (tmp_path / "draw.py").write_text(text + check, encoding="utf-8")
    subprocess.run([sys.executable, "-I", str(tmp_path / "draw.py")], check=True, capture_output=True)
    from debiasctl.api import TimestepContext

    snr = bounded_snr(heldout.process.snr)
    q = registry.create("timesteps", f"table:path='{tmp_path / 'draw.csv'}'").probabilities(
        TimestepContext(snr, torch.ones_like(snr), torch.ones_like(snr))
    )
    expected = weight_in(plugin, "v", snr=snr) * least_error(heldout.process.log_snr)
    torch.testing.assert_close(q, expected / expected.sum(), rtol=0.02, atol=0)


@pytest.mark.slow
def test_a_learned_uncertainty_weighting_comes_near_the_fit(run: Run) -> None:
    """u of the training loss, and the log of the weighted held-out error: apart by how well the network generalises."""
    settings = {"prediction": "v", "schedule": "cosine", "weighting": "uncertainty:base=debiased"}
    spec = make_spec(
        model__prediction=settings["prediction"], diffusion__schedule=settings["schedule"],
        loss__weighting=settings["weighting"], loss__normalize="none", training__batch_size=48, training__steps=2000,
        optimizer__lr=1e-3,
    )  # fmt: skip
    training = set_up_tiny(spec)
    assert training.learned is not None
    found = []
    for step in range(2000):
        train_step(training, step)
        if step >= 1600 and step % 20 == 0:
            with torch.no_grad():
                found.append(training.learned.module(training.objective.process.log_snr.float()).double())
    heldout = HeldoutSet.of(
        digits().heldout, num_images=256, conditional=True, device=torch.device("cpu"), dtype=torch.float32
    )
    bins = heldout_errors(training.ema.network, training.objective, heldout)
    metrics.append(run.metrics_path, [HeldoutRecord(step=2000, weights="ema", bins=bins)], run=run.identity())
    pooled_errors = pooled([run], [run.spec().model_copy(update={"diffusion": spec.diffusion})])
    log_snr, weight = compare_on(pooled_errors.process, fit("uncertainty", pooled_errors))
    base = weight_in(registry.create("weightings", "debiased"), "v", snr=pooled_errors.process.snr).numpy()
    visited = abs(log_snr) < 7
    learned = torch.stack(found).mean(0).numpy()
    expected = np.log(base / weight)
    assert np.ptp(expected[visited]) > 1  # u has something to learn
    assert abs(learned - expected)[visited].max() < 0.3
