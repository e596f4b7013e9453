"""Guidance by a weaker network, and within an interval of noise levels, against what it is in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from sampler_cases import (
    SAMPLERS,
    KnownDenoiser,
    crooked,
    exact_denoiser,
    gaussian,
    numbered_noise,
    process,
    random_x,
    sampler,
)

from debiasctl.diffusion.grid import CLEAN, Level
from debiasctl.diffusion.grid_sampler import Model, SamplerOptions
from debiasctl.diffusion.guided import Guided, timestep_alike
from debiasctl.errors import UsageError

STOCHASTIC = {"ddim": {"eta": 1.0}, "dpm-solver++": {"stochastic": True}, "heun": {"s_churn": 10.0}}
CASES = [(name, {}) for name in SAMPLERS] + list(STOCHASTIC.items())


def drawn(name: str, denoiser, labels=None, num_steps: int = 9, **options) -> torch.Tensor:
    x = random_x(2, 1, 2, 2)
    made = sampler(name, **options)
    return made(denoiser, x, num_steps=num_steps, noise=numbered_noise(x.shape), labels=labels)


def by_class(main: KnownDenoiser, without: KnownDenoiser) -> KnownDenoiser:
    """One network with label dropout: `main` for class 0, `without` for no class."""
    found = KnownDenoiser(main.process, main.image, null_label=1)

    def call(x_t, t, labels=None):
        found.nfe += 1
        return (without if bool((labels == 1).all()) else main)(x_t, t)

    found.__class__ = type("ByClass", (KnownDenoiser,), {"__call__": lambda self, *args: call(*args)})
    return found


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("name, options", CASES)
def test_of_two_gaussians_the_guided_one_is_a_gaussian(name: str, options: dict, schedule: str) -> None:
    """Two normal laws of one deviation: D_weak + w (D - D_weak) is the denoiser of the mean m_weak + w (m - m_weak)."""
    main, weak = gaussian(process(), mean=0.3, std=0.5), gaussian(process(schedule), mean=0.1, std=0.5)
    guided = Guided(main, weak)
    got = drawn(name, guided, guidance=2.5, **options)
    torch.testing.assert_close(got, drawn(name, gaussian(process(), mean=0.1 + 2.5 * 0.2, std=0.5), **options))
    assert guided.nfe == main.nfe + weak.nfe == 2 * main.nfe


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_a_guide_of_another_prediction_is_asked_at_the_same_log_snr(prediction: str) -> None:
    """The guide is exact for its data whatever it predicts, so that the guided estimate is the same."""
    main = gaussian(process(), mean=0.3, std=0.5)
    other = exact_denoiser(process("cosine"), prediction)
    same = exact_denoiser(process("linear"), "x0")
    got, expected = (drawn("ddim", Guided(main, weak), guidance=2.0) for weak in (other, same))
    torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name, options", CASES)
def test_without_guidance_nothing_changes_by_a_bit(name: str, options: dict) -> None:
    plain = drawn(name, crooked(process()), **options)
    for changed in ({"guidance": 1.0}, {"guidance": 3.0, "guidance_interval": (2.0, 2.0)},
                    {"guidance": 1.0, "guidance_interval": (0.0, None)}):  # fmt: skip
        guided = Guided(crooked(process()), crooked(process()))
        assert torch.equal(drawn(name, guided, **options, **changed), plain)
        assert guided.weak.nfe == 0


@pytest.mark.parametrize("autoguided", [True, False])
@pytest.mark.parametrize("name, options", CASES)
def test_a_second_forward_is_made_within_the_interval_alone(name: str, options: dict, autoguided: bool) -> None:
    asked = gaussian(process(), mean=0.3, std=0.5)
    weak = gaussian(process(), mean=-0.2, std=0.7)
    low, high = 0.3, 3.0
    denoiser = Guided(asked, weak) if autoguided else by_class(asked, weak)
    labels = None if autoguided else torch.zeros(2, dtype=torch.int64)
    drawn(name, denoiser, labels, guidance=2.0, guidance_interval=(low, high), **options)
    levels = [asked.process.levels(torch.tensor([t], dtype=torch.float64)) for _, t in asked.asked]
    inside = [low < float(one.sigma / one.alpha) <= high for one in levels]
    assert 0 < sum(inside) < len(inside)
    assert [t for _, t in weak.asked] == [t for (_, t), within in zip(asked.asked, inside, strict=True) if within]
    assert denoiser.nfe == len(inside) + sum(inside)


@pytest.mark.parametrize("interval", [None, (0.0, None)])
def test_an_interval_of_all_levels_is_none(interval) -> None:
    guided = [Guided(crooked(process()), gaussian(process(), mean=0.1, std=0.5)) for _ in range(2)]
    got = drawn("dpm-solver++", guided[0], guidance=1.7, guidance_interval=interval)
    assert torch.equal(got, drawn("dpm-solver++", guided[1], guidance=1.7))


def test_the_interval_is_open_below_and_closed_above() -> None:
    options = SamplerOptions(guidance=2.0, guidance_interval=(0.5, 2.0))
    unit = [Level(0, 1 / math.hypot(1, ratio), ratio / math.hypot(1, ratio)) for ratio in (0.5, 0.5000001, 1.9999999)]
    assert [options.guides_at(level) for level in unit] == [False, True, True]
    assert not options.guides_at(Level(0, 0.0, 1.0))
    assert SamplerOptions(guidance=2.0, guidance_interval=(0.5, None)).guides_at(Level(0, 0.0, 1.0))
    assert not SamplerOptions(guidance=2.0, guidance_interval=(0.0, None)).guides_at(CLEAN)


@pytest.mark.parametrize(
    "given, problem",
    [
        ({"guidance_interval": (0.1, 2.0)}, "no effect without guidance"),
        ({"guidance": 2.0, "guidance_interval": (3.0, 2.0)}, "must not exceed"),
        ({"guidance": 2.0, "guidance_interval": (-1.0, 2.0)}, "greater than or equal to 0"),
    ],
)
def test_an_interval_that_is_none_is_refused(given: dict, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SamplerOptions(**given)
    assert "guidance_interval" not in SamplerOptions(guidance=2.0).model_dump()  # so that older samples keep their key


def test_a_guide_is_asked_where_its_schedule_has_the_level() -> None:
    linear, cosine = process(), process("cosine")
    assert timestep_alike(linear, process(), 417.25) == 417.25
    t = timestep_alike(linear, cosine, 400.0)
    assert t != 400
    there, here = cosine.levels(torch.tensor([t], dtype=torch.float64)), linear.levels(torch.tensor([400]))
    assert float(there.snr) == pytest.approx(float(here.snr), rel=1e-9)
    with pytest.raises(UsageError, match=r"no noise level with sigma/alpha = inf: .* guidance_interval"):
        timestep_alike(process("linear:zero_terminal_snr=true"), linear, 999.0)
    zero = process("cosine:zero_terminal_snr=true,num_timesteps=100")
    assert timestep_alike(process("linear:zero_terminal_snr=true"), zero, 999.0) == 99
    with pytest.raises(UsageError, match="no noise level"):
        timestep_alike(cosine, linear, 999.0)


def test_an_unconditional_guide_is_given_no_class() -> None:
    labels = torch.tensor([4, 2])
    for null_label, expected in ((None, None), (9, [9, 9])):
        weak = gaussian(process(), mean=0.1, std=0.5)
        weak.null_label = null_label
        guided = Guided(gaussian(process(), mean=0.2, std=0.5), weak, unconditional=True)
        drawn("ddim", guided, labels, guidance=2.0)
        assert [None if one is None else one.tolist() for one in weak.labels] == [expected] * 9
        assert all(one is labels for one in guided.main.labels)


def test_what_the_network_gave_is_lost_where_x0_is_changed_alone() -> None:
    """Guidance mixes estimates of one form, and clipping changes x0."""

    class Saying(KnownDenoiser):
        def __call__(self, x_t, t, labels=None):
            return replace(super().__call__(x_t, t, labels), prediction="v")

    known = gaussian(process(), mean=0.3, std=0.5)
    main, weak = (Saying(known.process, known.image) for _ in range(2))
    x, level = random_x(2, 1, 2, 2), Level(500, 0.6, 0.8)
    for options, expected in (({"clip_x0": False}, "v"), ({"clip_x0": True}, None), ({}, None)):
        model = Model(Guided(main, weak), SamplerOptions(guidance=2.0, **options))
        assert model(x, level).prediction == expected
    other = Model(Guided(main, known), SamplerOptions(guidance=2.0, clip_x0=False))
    assert other(x, level).prediction is None
