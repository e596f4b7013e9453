"""What every distribution of t gives, and how they are named."""

import pytest
import torch
from timestep_cases import SCHEDULES, context, make

from debiasctl import registry
from debiasctl.api import TimestepContext, TimestepDistribution
from debiasctl.errors import PluginOptionsError, UsageError
from debiasctl.registry.refs import PluginRef, parse_ref

SHARES = ("logit-normal", "mode", "cosmap", "beta")
OBJECTIVES = ("uniform", "lognormal", "lognormal:mean=-0.4,std=1", "laplace", "speed", *SHARES)
DRAWINGS = ("stratified", "importance", "loss-second-moment")
TABLE = "table:axis=snr,points=[[0,1],[1,3],[1e20,2]]"
ALL = (*OBJECTIVES, *DRAWINGS, *(f"{name}:base=lognormal" for name in DRAWINGS), "importance:base=speed",
    *(f"{name}:variable=s" for name in SHARES), TABLE, f"{TABLE},corrected=false")  # fmt: skip


def test_every_registered_distribution_is_tested_here() -> None:
    ours = {record.name for record in registry.records("timesteps") if record.distribution == "debiasctl"}
    assert ours == {parse_ref(ref).name for ref in ALL}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ref", ALL)
def test_every_q_is_a_distribution(ref: str, schedule: str) -> None:
    process, timesteps = make(schedule), registry.create("timesteps", ref)
    assert isinstance(timesteps, TimestepDistribution)
    q = timesteps.probabilities(context(schedule))
    assert q.dtype == torch.float64
    assert q.shape == process.snr.shape
    assert bool((q >= 0).all())
    assert q.sum().item() == pytest.approx(1, rel=1e-12)
    in_log_snr = "lognormal" in ref or "laplace" in ref
    drawn = q > 0
    if in_log_snr:  # at SNR 0 there is no log SNR
        assert torch.equal(drawn[process.snr == 0], torch.zeros(int((process.snr == 0).sum()), dtype=torch.bool))
    if "laplace" not in ref:  # whose tails may be too thin to be drawn
        assert bool(drawn[process.snr > 0].all())


@pytest.mark.parametrize("num_timesteps", [1, 7, 1000])
def test_uniform(num_timesteps: int) -> None:
    snr = torch.logspace(3, -3, num_timesteps, dtype=torch.float64)
    q = registry.create("timesteps", "uniform").probabilities(TimestepContext(snr, torch.ones_like(snr), snr))
    assert q.tolist() == [1 / num_timesteps] * num_timesteps


def test_which_are_objectives_and_which_are_drawn_under_a_base() -> None:
    for ref in OBJECTIVES:
        timesteps = registry.create("timesteps", ref)
        assert timesteps.corrected is False
        assert not timesteps.varies
    for name in DRAWINGS:
        timesteps = registry.create("timesteps", name)
        assert timesteps.corrected is True
        assert timesteps.varies is (name == "loss-second-moment")


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("base", OBJECTIVES)
@pytest.mark.parametrize("factor", [1, 7])  # a third party's need not have sum 1
def test_the_base_is_the_distribution_that_is_named(
    name: str, base: str, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = registry.load("timesteps", parse_ref(base).name)
    given = plugin.probabilities
    monkeypatch.setattr(plugin, "probabilities", lambda self, shown: factor * given(self, shown))
    shown, named = context("linear"), registry.create("timesteps", base)
    drawing = registry.create("timesteps", PluginRef(name, {"base": base}))
    expected = named.probabilities(shown)
    torch.testing.assert_close(drawing.base(shown), expected / expected.sum(), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("base", DRAWINGS)
def test_a_way_of_drawing_is_no_base(name: str, base: str) -> None:
    with pytest.raises(UsageError, match=f"'{base}' is itself for importance sampling under a base") as caught:
        registry.create("timesteps", f"{name}:base={base}")
    assert "such as uniform or lognormal" in str(caught.value)


@pytest.mark.parametrize("ref", ["stratified", "importance:base=lognormal:mean=-0.4", 'stratified:base="speed:tau=9"'])
def test_the_stored_options_name_the_same_distribution(ref: str) -> None:
    resolved = registry.resolve("timesteps", ref)
    stored = PluginRef(resolved.record.name, resolved.options.model_dump(mode="json"))
    assert "distribution" in stored.options["base"]
    for again in (stored, parse_ref(str(stored))):
        assert registry.resolve("timesteps", again).options == resolved.options


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("uniform:k=1", "unknown option 'k'"),
        ("lognormal:std=0", "std: input should be greater than 0"),
        ("laplace:scale=-1", "scale: input should be greater than 0"),
        ("logit-normal:std=0", "std: input should be greater than 0"),
        ("logit-normal:variable=t", "variable: input should be 'time' or 's'"),
        ("mode:scale=1.76", "scale: input should be less than or equal to 1.75"),
        ("mode:scale=-1.01", "scale: input should be greater than or equal to -1"),
        ("beta:alpha=0", "alpha: input should be greater than 0"),
        ("speed:k=0.5", "k: input should be greater than or equal to 1"),
        ("speed:tau=0", "tau: input should be greater than or equal to 1"),
        ("stratified:base=unifrom", "Did you mean 'uniform'?"),
        ("importance:base=lognormal:std=0", "std: input should be greater than 0"),
        ("loss-second-moment:history=0", "history: input should be greater than or equal to 1"),
        ("loss-second-moment:base_share=0", "base_share: input should be greater than 0"),
        ("loss-second-moment:base_share=1.5", "base_share: input should be less than or equal to 1"),
    ],
)
def test_options_out_of_range(ref: str, message: str) -> None:
    with pytest.raises(PluginOptionsError) as caught:
        registry.create("timesteps", ref)
    assert message in str(caught.value)
