"""The conversion of weights and what is asked of a scheme; the built-in ones are tested in tests/builtin/weightings."""

from collections.abc import Callable
from typing import get_args

import pytest
import torch

from debiasctl.api import Prediction, Space, Weighting, WeightingContext
from debiasctl.diffusion.weighting import bounded_snr, convert_weight, falling_slope, weight_in
from debiasctl.errors import DebiasctlError

SNR = torch.logspace(-8, 8, 33, dtype=torch.float64)


@pytest.mark.parametrize("source", get_args(Space))
@pytest.mark.parametrize("through", get_args(Space))
@pytest.mark.parametrize("target", get_args(Prediction))
def test_conversions_go_round(source: Space, through: Space, target: Prediction) -> None:
    weight = torch.linspace(0, 3, 33, dtype=torch.float64)
    there = convert_weight(weight, source=source, target=through, snr=SNR)
    back = convert_weight(there, source=through, target=source, snr=SNR)
    torch.testing.assert_close(back, weight, rtol=1e-12, atol=0)
    direct = convert_weight(weight, source=source, target=target, snr=SNR, sigma_data=0.3)
    torch.testing.assert_close(
        convert_weight(there, source=through, target=target, snr=SNR, sigma_data=0.3), direct, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("sigma_data", [0.5, 2.0])
def test_a_weight_on_x0_is_c_out_squared_of_it_on_the_network(sigma_data: float) -> None:
    """c_out of x_t = x0 + sigma eps with sigma² = 1/SNR; EDM's as in Table 1 of 2206.00364."""
    sigma = SNR.rsqrt()
    c_out = {
        "x0": torch.ones_like(SNR),
        "eps": sigma,
        "v": sigma / (sigma**2 + 1).sqrt(),
        "edm": sigma * sigma_data / (sigma**2 + sigma_data**2).sqrt(),
        "flow": sigma / (1 + sigma),  # s
    }
    for prediction in get_args(Prediction):
        weight = convert_weight(torch.ones_like(SNR), source="x0", target=prediction, snr=SNR, sigma_data=sigma_data)
        torch.testing.assert_close(weight, c_out[prediction] ** 2, rtol=1e-12, atol=0)


class Scheme(Weighting):
    space = "eps"

    def __init__(self, function: Callable[[torch.Tensor], object], space: str = "eps") -> None:
        super().__init__(self.Options())
        self.function, self.space = function, space

    def __call__(self, snr: torch.Tensor) -> object:
        return self.function(snr)


def test_schemes_see_a_bounded_snr_in_float64() -> None:
    seen: list[torch.Tensor] = []

    def look(snr: torch.Tensor) -> torch.Tensor:
        seen.append(snr)
        return torch.ones_like(snr)

    weight_in(Scheme(look, "v"), "v", snr=torch.tensor([0.0, 1.0, torch.inf]))
    assert seen[0].dtype == torch.float64
    assert bool(torch.isfinite(seen[0]).all())
    assert 0 < seen[0][0] < 1e-15
    assert seen[0][1] == 1
    assert seen[0][2] > 1e15
    inside = torch.logspace(-15, 15, 7, dtype=torch.float64)
    assert torch.equal(bounded_snr(inside), inside)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda snr: torch.full_like(snr, torch.nan), "gives nan at SNR"),
        (lambda snr: torch.where(snr < 1e-2, torch.nan, 1.0), "gives nan at SNR 1e-08"),
        (lambda snr: torch.full_like(snr, torch.inf), "gives inf at SNR"),
        (lambda snr: 1 - snr, "must be finite and not negative"),
        (lambda snr: snr[:-1], r"of shape \(32,\) for SNRs of shape \(33,\)"),
        (lambda snr: snr[:, None], r"of shape \(33, 1\)"),
        (lambda snr: torch.tensor(1.0), r"of shape \(\)"),
        (lambda snr: None, "returns a NoneType; give a tensor of weights"),
        (lambda snr: 1.0, r"one weight for each SNR; a constant one, for example, torch\.ones_like\(snr\)"),
    ],
)
@pytest.mark.parametrize("target", ["eps", "edm"])
def test_a_third_partys_weights_are_judged(
    function: Callable[[torch.Tensor], object], message: str, target: Prediction
) -> None:
    with pytest.raises(DebiasctlError, match=message) as caught:
        weight_in(Scheme(function), target, snr=SNR)
    assert "weighting Scheme" in str(caught.value)


@pytest.mark.parametrize("space", ["epsilon", "eps ", "edm"])
def test_a_third_partys_space_is_judged(space: str) -> None:
    with pytest.raises(DebiasctlError, match=rf"is written for the space '{space}'\. Allowed: eps, x0, v, flow"):
        weight_in(Scheme(torch.ones_like, space), "eps", snr=SNR)


def test_a_weighting_that_says_no_more_is_fixed_and_not_learned() -> None:
    plain = Scheme(torch.ones_like)
    assert plain.at(WeightingContext(SNR, progress=0.5)) is plain
    assert plain.varies is False
    assert plain.is_learned is False
    assert plain.learned() is None


def test_a_weighting_that_builds_something_is_learned() -> None:
    class Levelled(Scheme):
        """Learned, without saying so a second time."""

        def learned(self):
            raise AssertionError("nothing is built to tell")

    assert Levelled(torch.ones_like).is_learned is True


def test_the_slope_of_log_snr() -> None:
    """Central differences are exact for a parabola inside, and one-sided at its ends."""
    t = torch.arange(6, dtype=torch.float64)
    slope = falling_slope(-(t**2) - t)
    torch.testing.assert_close(slope, torch.tensor([2.0, 3, 5, 7, 9, 10], dtype=torch.float64), rtol=1e-12, atol=0)
    ended = falling_slope(torch.cat([-(t**2) - t, torch.tensor([-torch.inf])]))
    assert torch.equal(ended, torch.cat([slope, slope[-1:]]))
    assert torch.equal(falling_slope(torch.tensor([0.0, -torch.inf])), torch.ones(2))
