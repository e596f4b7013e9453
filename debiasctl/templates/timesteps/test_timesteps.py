"""The distribution keeps the contract of its kind, and is the formula that it states."""

import torch
from debiasctl.api import TimestepContext
from debiasctl.testing import check_timesteps
from torch import Tensor

from my_package.timesteps import MyTimesteps


def drawn(power: float, count: int) -> Tensor:
    """The probability of each of `count` timesteps."""
    snr = torch.linspace(4, -4, count, dtype=torch.float64).exp()
    context = TimestepContext(snr=snr, slope=torch.ones_like(snr), weight=torch.ones_like(snr))
    timesteps = MyTimesteps(MyTimesteps.Options(power=power))
    q: Tensor = timesteps.probabilities(context)
    return q / q.sum()


def test_it_keeps_its_contract() -> None:
    check_timesteps(MyTimesteps)
    check_timesteps(MyTimesteps, {"power": 3})


def test_it_is_its_formula() -> None:
    t = torch.arange(20, dtype=torch.float64)
    torch.testing.assert_close(drawn(1.0, 20), (2 * t + 1) / 20**2, rtol=1e-12, atol=0)
    torch.testing.assert_close(drawn(0.0, 20), torch.full_like(t, 1 / 20), rtol=1e-12, atol=0)
