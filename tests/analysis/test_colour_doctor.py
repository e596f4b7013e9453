"""The colour doctor: its statistics, its parts, and on each injected cause whether it is named."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from colour_worlds import Denoiser, Dice, World, diagnose, process, world
from tiny import digits, make_spec, train

from debiasctl.analysis.analyze import analyze
from debiasctl.analysis.parts.colour.denoisers import Corrected, Recorder, Replaced
from debiasctl.analysis.parts.colour.doctor import Colour
from debiasctl.analysis.parts.colour.findings import Verdict, verdict_of
from debiasctl.analysis.parts.colour.interventions import Setup
from debiasctl.analysis.parts.colour.statistics import Means, chunk_of, jackknifed, shift_p_value
from debiasctl.analysis.parts.colour.true_errors import TrueErrors
from debiasctl.analysis.parts.part import Choices
from debiasctl.analysis.record import AnalysisRecord, Quantity
from debiasctl.analysis.subject import Subject
from debiasctl.errors import PluginError, UsageError
from debiasctl.sampling.request import make_request

ZERO = {"diffusion__schedule": "linear:zero_terminal_snr=true"}
CAUSES = ("data", "leak", "clipping", "steps", "variance", "training")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---------------------------------------------------------------- statistics


def test_a_means_jackknife_over_chunks_of_one_is_its_standard_error() -> None:
    rows = rng().normal(size=(40, 2))
    found = jackknifed(lambda mean: mean, Means.of(rows, chunk=1))
    assert [one.se for one in found] == pytest.approx((rows.std(axis=0, ddof=1) / math.sqrt(40)).tolist())
    assert [one.value for one in found] == pytest.approx(rows.mean(axis=0).tolist())
    assert found[0].freedom == 39


def test_the_variances_of_independent_sources_add_up() -> None:
    first, second = Means.of(rng(1).normal(size=(60, 1)), chunk=3), Means.of(rng(2).normal(size=(60, 1)), chunk=3)
    (both,) = jackknifed(lambda a, b: a - b, first, second)
    parts = [jackknifed(lambda a: a, one)[0].se for one in (first, second)]
    assert both.se == pytest.approx(math.hypot(*parts))
    (known,) = jackknifed(lambda a, b: a - b, first, second.fixed())
    assert known.se == pytest.approx(parts[0])


def test_the_p_value_is_uniform_without_a_shift_and_small_with_one() -> None:
    values = [shift_p_value(rng(seed).normal(size=(60, 3)), np.zeros(3)) for seed in range(400)]
    assert 0.02 < np.mean(np.array(values) < 0.05) < 0.09
    assert shift_p_value(rng(0).normal(size=(60, 3)) + 1, np.zeros(3)) < 1e-6


@pytest.mark.parametrize("num", [20, 29, 39, 100, 159, 165, 320, 1000])
def test_samples_are_whole_chunks_of_at_least_ten(num: int) -> None:
    chosen = Colour().settings(tiny().subject(), [], Choices(num=num))["num"]
    assert isinstance(chosen, int)
    assert num <= chosen < num + 16
    assert chosen % chunk_of(chosen) == 0
    assert chosen // chunk_of(chosen) >= 10


def test_fewer_samples_than_an_interval_needs_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 20 samples"):
        Colour().settings(tiny().subject(), [], Choices(num=19))


def test_a_mean_error_is_told_from_the_images_that_were_taken() -> None:
    x0 = rng().normal(size=(160, 1))
    estimates = 0.4 * x0[:, None] + 0.03  # shrunk towards the mean of all images, 0, and 0.03 too bright
    errors = TrueErrors.of(
        np.array([5.0]), estimates=estimates, x0=x0, centre=np.zeros(1), ratio=np.array([1.02])
    )  # fmt: skip
    assert errors.error[0, 0] == pytest.approx(0.03, abs=1e-12)
    assert errors.of_chunk(3)[0, 0] == pytest.approx(0.03, abs=1e-12)
    assert errors.eps_scale() == pytest.approx(1.02)


# ---------------------------------------------------------------- denoisers


def tiny(sampler: str = "ddim", num_steps: int = 4, *, schedule: str = "linear", **changes: Any) -> World:
    """A world of few images, for what needs no power."""
    dice = Dice(torch.Generator().manual_seed(0))
    law = dice.gaussian()
    train, heldout = law.draw(40, dice.generator), law.draw(20, dice.generator)
    return World(Denoiser(law, process(schedule), **changes), train, heldout, sampler, num_steps, 0)


def test_a_correction_moves_each_channel_and_keeps_estimates_consistent() -> None:
    denoiser = tiny(fraction=torch.tensor([0.1, 0.2, 0.3])).denoiser
    error = np.array([[0.1, 0.0, -0.2], [0.3, 0.0, -0.4]])
    corrected = Corrected(denoiser, ts=np.array([900.0, 100.0]), error=error)
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before, after = denoiser(x_t, 500.0), corrected(x_t, 500.0)
    assert (before.x0 - after.x0).mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.2, 0.0, -0.3], abs=1e-5)
    levels = denoiser.process.levels(torch.tensor([500.0], dtype=torch.float64))
    assert torch.allclose(float(levels.alpha) * after.x0 + float(levels.sigma) * after.eps, x_t, atol=1e-5)
    assert after.x0.dtype == torch.float32
    assert after.variance_fraction is not None
    assert before.variance_fraction is not None
    assert torch.equal(after.variance_fraction, before.variance_fraction)


def test_an_ideal_denoiser_stands_above_a_timestep_with_the_networks_variance() -> None:
    denoiser = tiny(fraction=torch.tensor([0.1, 0.2, 0.3])).denoiser
    replaced = Replaced(denoiser, lambda x, t, labels: torch.zeros_like(x), above=500, learned_variance=True)
    x_t = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(replaced(x_t, 500).x0, denoiser(x_t, 500).x0)
    above = replaced(x_t, 501)
    assert not above.x0.any()
    assert above.variance_fraction is not None


def test_what_is_recorded_changes_no_sample_and_is_the_mean_square_of_eps() -> None:
    given = tiny()
    recorder = Recorder(given.denoiser)
    setup = Setup.of(given.subject())
    images = [
        torch.cat([one.images for one in drawer([range(16)])]) for drawer in (setup.drawer(), setup.drawer(recorder))
    ]
    assert torch.equal(*images)
    first = setup.drawer().noise(torch.arange(16), step=0)
    assert recorder.mean(999.0) == pytest.approx(float(given.denoiser(first, 999.0).eps.double().square().mean()))


# ---------------------------------------------------------------- which interventions a run allows


@pytest.mark.parametrize(
    ("sampler", "schedule", "fraction", "expected"),
    [
        ("ddim", "linear", None, ["noised_start", "more_steps", "no_clipping"]),
        ("ddim:clip_x0=false", "linear", None, ["noised_start", "more_steps"]),
        ("heun:threshold=0.9", "flow", None, ["more_steps", "no_clipping"]),
        ("ddim", "linear:zero_terminal_snr=true", None, ["more_steps", "no_clipping"]),
        ("ddpm", "cosine", 0.5, ["noised_start", "fixed_variance", "more_steps", "no_clipping"]),
        ("ddpm:variance=fixed-large", "cosine", None, ["noised_start", "more_steps", "no_clipping"]),
        ("ddim", "linear:num_timesteps=4,beta_end=0.002", None, ["noised_start", "no_clipping"]),
    ],
)
def test_interventions_are_those_that_can_change_something(
    sampler: str, schedule: str, fraction: float | None, expected: list[str]
) -> None:
    learned = None if fraction is None else torch.full((3,), fraction)
    setup = Setup.of(tiny(sampler, schedule=schedule, fraction=learned).subject())
    names = [one.name for one in setup.possible()]
    assert sorted(names) == sorted(expected)
    assert len(setup.ruled_out()) == 3 - len({"noised_start", "more_steps", "no_clipping"} & set(expected))
    if learned is not None and "fixed_variance" in expected:  # must exist before what is made after it
        assert names.index("fixed_variance") < names.index("more_steps")


# ---------------------------------------------------------------- the verdict


def record_of(*shares: tuple[str, float, float, float], p: float = 1e-6, data_p: float = 0.5) -> AnalysisRecord:
    """A record of interventions, each with its share, its lead and the standard error of both."""
    record, _ = small()
    quantities = [Quantity(name="mean_shift_p", value=p), Quantity(name="data_shift_p", value=data_p)]
    for name, share, lead, se in shares:
        quantities += [
            Quantity(name=f"share_removed[{name}]", value=share, se=se, low=share - 2 * se, high=share + 2 * se),
            Quantity(name=f"ahead[{name}]", value=lead, se=se, low=lead - 2 * se, high=lead + 2 * se),
        ]
    return record.model_copy(update={"quantities": quantities})


_SMALL: list[Any] = []


def small() -> Any:
    """One measurement of few samples, made once."""
    if not _SMALL:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            _SMALL.append(diagnose(tiny(num_steps=3), Path(folder), num=20))
    return _SMALL[0]


def verdict(*shares: tuple[str, float, float, float], **values: float) -> Verdict:
    return verdict_of(record_of(*shares, **values))


def test_a_cause_is_named_only_where_the_intervals_say_so() -> None:
    clear, other = ("no_clipping", 0.9, 0.6, 0.05), ("ideal_denoiser", 0.3, -0.6, 0.05)
    assert verdict(clear, other).cause == "clipping"
    assert verdict(clear, other, p=0.2).cause is None
    assert not verdict(clear, other, p=0.2).is_shifted
    near = verdict(("no_clipping", 0.9, 0.05, 0.01), ("ideal_denoiser", 0.85, -0.05, 0.01))
    assert near.cause is None
    assert near.rivals == ("clipping", "training")
    assert verdict(("no_clipping", 0.9, 0.6, 0.5), other).cause is None  # an interval with 0
    assert verdict(("no_clipping", 0.4, 0.3, 0.01), other).cause is None  # less than what is left
    assert verdict(("heldout_reference", 0.9, 0.7, 0.05), other, p=0.4, data_p=1e-4).cause == "data"


# ---------------------------------------------------------------- the part


def test_a_small_measurement_has_figures_sentences_and_pictures() -> None:
    record, found = small()
    part = Colour()
    names = [one.name for one in record.quantities]
    assert len(set(names)) == len(names)
    assert {"mean_shift[r]", "std_shift[b]", "shift_left[no_clipping,g]", "data_shift_p"} <= set(names)
    assert all(one.text for one in record.quantities)
    other = record.model_copy(update={"network": record.network.model_copy(update={"arm": "b"})})
    for picture in part.pictures([record, record, other], [found.images] * 3):
        assert picture.draw("page").axes
        json.dumps(picture.data)
    text = " ".join(part.findings(record))
    assert "same 20 noises" in text
    assert "  " not in text


def test_a_measurement_that_stops_is_resumed_with_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, whole = small()
    forwards, stop = Counter[str](), math.inf
    original = Denoiser.__call__

    def counted(self: Denoiser, *args: Any, **kwargs: Any) -> Any:
        forwards["made"] += 1
        if forwards["made"] == stop:
            raise RuntimeError("stopped")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Denoiser, "__call__", counted)
    diagnose(tiny(num_steps=3), tmp_path / "whole", num=20)
    all_forwards, stop = forwards["made"], 150
    forwards.clear()
    with pytest.raises(PluginError, match="stopped"):
        diagnose(tiny(num_steps=3), tmp_path / "stopped", num=20)
    stop = math.inf
    _, resumed = diagnose(tiny(num_steps=3), tmp_path / "stopped", num=20)
    assert resumed.quantities == whole.quantities
    assert forwards["made"] < all_forwards + 64  # one unit of the 64 steps at most is made again


def test_a_data_set_without_held_out_images_has_no_figures_against_them(tmp_path: Path) -> None:
    record, _ = diagnose(replace(tiny(num_steps=2), heldout=torch.zeros(0, 3, 8, 8)), tmp_path, num=20)
    assert not any(one.name.startswith("data_shift") for one in record.quantities)
    assert "held-out" not in " ".join(Colour().findings(record))


def test_few_steps_are_named(tmp_path: Path) -> None:
    record, _ = diagnose(world("steps", 10), tmp_path)
    assert verdict_of(record).cause == "steps"


@pytest.mark.slow
def test_the_doctor_names_injected_causes_and_none_where_there_is_none(tmp_path: Path) -> None:
    """The confusion table over 8 worlds of each cause and 24 without any; about ten minutes on one thread."""
    table = Counter[tuple[str | None, str | None]]()
    for cause in (*CAUSES, None):
        for seed in range(100, 108 if cause else 124):
            record, _ = diagnose(world(cause, seed), tmp_path / f"{cause}-{seed}")
            table[cause, verdict_of(record).cause] += 1
    print(dict(table))
    injected = {pair: count for pair, count in table.items() if pair[0] is not None}
    assert sum(count for (given, named), count in injected.items() if given == named) >= 0.9 * sum(injected.values())
    assert table[None, None] >= 23
    assert all(table[cause, cause] >= 7 for cause in CAUSES)


# ---------------------------------------------------------------- networks


@pytest.mark.parametrize(
    ("settings", "sampler", "expected"),
    [
        ({"model__prediction": "eps", "model__learned_variance": True}, "ddpm", {"fixed_variance", "noised_start"}),
        ({"model__prediction": "edm", "diffusion__schedule": "edm"}, "heun", {"no_clipping"}),
        ({"model__prediction": "flow", "diffusion__schedule": "flow:continuous=true"}, "euler", {"no_clipping"}),
        ({"model__prediction": "x0", "model__conditional": False}, "dpm-solver++", {"noised_start", "no_clipping"}),
        ({"model__prediction": "v", "model__label_dropout": 0.2, **ZERO}, "ddim:guidance=2", {"no_guidance"}),
    ],
)  # fmt: skip
def test_every_prediction_and_schedule_can_be_seen(settings: dict[str, Any], sampler: str, expected: set[str]) -> None:
    spec = make_spec(training__steps=2, **settings)
    run = train("run", spec)
    request = make_request(
        run, run.spec(), num=20, num_steps=3, sampler=sampler, seed=None, checkpoint=None, weights="ema"
    )  # fmt: skip
    subject = Subject.of(run, run.spec(), request, digits(), arm="arm", device=torch.device("cpu"))
    record = analyze(Colour(), subject, [], Choices(num=21))
    assert record.notes[0].startswith("shifts were measured on 22 samples")  # whole chunks of two
    tried = {one.name[14:-1] for one in record.quantities if one.name.startswith("share_removed[")}
    assert expected | {"more_steps", "ideal_denoiser", "mean_error_subtracted"} <= tried
    assert ("noised_start" in tried) == (float(subject.process.snr[-1]) > 0)
    assert Colour().findings(record)
