import math

import pytest
import torch
from weighting_cases import make, process, settled

from debiasctl.errors import DebiasctlError


def build(ref: str = "uncertainty", seed: int = 0) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(ref).learned().module


def test_the_log_variance_starts_at_zero() -> None:
    u = build()
    log_snr = torch.tensor([-math.inf, -46.0, 0.0, 9.2, math.inf])
    assert torch.equal(u(log_snr), torch.zeros(5))
    assert u(log_snr.double()).dtype == torch.float32
    assert sum(parameter.numel() for parameter in u.parameters() if parameter.requires_grad) == 128


def test_the_log_variance_is_its_formula() -> None:
    """√2 cos(2π (f c_noise + φ)) with c_noise = ln(sigma)/4, one linear layer of unit gain."""
    u = build("uncertainty:channels=3")
    with torch.no_grad():
        for parameter in u.parameters():
            parameter.copy_(torch.tensor([0.5, -1.0, 2.0]))
    waves = list(zip(*(buffer.tolist() for buffer in u.buffers()), strict=True))
    for sigma in (0.002, 1.0, 80.0):
        c_noise = math.log(sigma) / 4
        features = [math.sqrt(2) * math.cos(2 * math.pi * (f * c_noise + p)) for f, p in waves]
        expected = (0.5 * features[0] - features[1] + 2 * features[2]) / math.sqrt(3)
        assert u(torch.tensor([-2 * math.log(sigma)])).item() == pytest.approx(expected, abs=1e-4)
    # bounded where SNR is 0
    assert torch.equal(u(torch.tensor([-math.inf])), u(torch.tensor([math.log(1e-20)])))


def test_the_features_are_drawn_as_published_and_kept() -> None:
    frequencies, phases = build("uncertainty:channels=4096").buffers()
    assert abs(frequencies.mean()) < 0.1
    assert frequencies.std().item() == pytest.approx(1, abs=0.05)
    assert phases.min() >= 0
    assert phases.max() < 1
    assert phases.mean().item() == pytest.approx(0.5, abs=0.03)
    first, second = build(seed=1), build(seed=2)
    assert not torch.equal(next(first.buffers()), next(second.buffers()))
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(*pair) for pair in zip(first.buffers(), second.buffers(), strict=True))
    assert torch.equal(next(build(seed=1).buffers()), next(first.buffers()))


def test_half_precision_around_it_costs_no_digits() -> None:
    u, log_snr = build(), torch.linspace(-10, 9, 64)
    with torch.no_grad():
        next(u.parameters()).copy_(torch.linspace(-3, 3, 128))
    expected = u(log_snr)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(u(log_snr), expected)


def test_it_learns_the_loss_of_every_snr() -> None:
    """The least of e^-u error + u is at u = ln error, here a smooth curve over five orders of magnitude."""
    weighting = make("uncertainty:learning_rate=0.05")
    log_snr = torch.linspace(-10, 9, 100)
    error = torch.exp(2 * torch.sin(log_snr / 3)) / (1 + torch.exp(log_snr))
    u = build()
    optimizer = torch.optim.Adam(u.parameters(), lr=weighting.learned().learning_rate)
    for _ in range(1200):
        optimizer.zero_grad()
        value = u(log_snr)
        (error * torch.exp(-value) + value).mean().backward()
        optimizer.step()
    off = (u(log_snr) - error.log()).abs()
    assert off.mean() < 0.03
    assert off.max() < 0.25  # at the ends, where there is data on one side alone


def test_it_is_its_bases_weight_and_space() -> None:
    assert make("uncertainty").space == "x0"
    assert make("uncertainty:base=debiased").space == "eps"
    assert make("uncertainty:base='debiased-clamped:form=v',learning_rate=0.1").learned().learning_rate == 0.1
    on_schedule = settled("uncertainty:base=sigmoid", "cosine")
    snr = process("cosine").snr
    assert torch.equal(on_schedule(snr), settled("sigmoid", "cosine")(snr))
    assert len(list(on_schedule.learned().module.parameters())) == 1


def test_a_weight_of_zero_has_no_variance() -> None:
    weighting = settled("uncertainty:base='table:axis=t,points=[[0,0],[999,1]]'")
    assert bool((weighting(process("linear").snr[1:]) > 0).all())
    with pytest.raises(
        DebiasctlError, match="its base 'table' is 0 at SNR 9999, where a learned variance would decrease"
    ):
        weighting(process("linear").snr)
