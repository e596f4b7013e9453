"""The weighting keeps the contract of its kind, and is the formula that it states."""

import pytest
import torch
from debiasctl.testing import check_weighting

from my_package.weighting import MyWeighting


def test_it_keeps_its_contract() -> None:
    check_weighting(MyWeighting)
    check_weighting(MyWeighting, {"power": 1.0})


@pytest.mark.parametrize("power", [0.0, 0.25, 0.5, 1.0])
def test_it_is_its_formula(power: float) -> None:
    weighting = MyWeighting(MyWeighting.Options(power=power))
    log_snr = torch.linspace(-10, 10, 41, dtype=torch.float64)
    expected = torch.exp(-power * log_snr)
    torch.testing.assert_close(weighting(log_snr.exp()), expected, rtol=1e-12, atol=0)
