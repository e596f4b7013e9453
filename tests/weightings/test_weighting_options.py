import pytest
import torch

from debiasctl import registry
from debiasctl.errors import PluginOptionsError


@pytest.mark.parametrize(
    ("ref", "options"),
    [("constant", {}), ("debiased", {}), ("p2", {"k": 1.0, "gamma": 1.0}), ("min-snr", {"gamma": 5.0})],
)
def test_defaults_are_the_published_ones(ref: str, options: dict[str, float]) -> None:
    assert registry.resolve("weightings", ref).options.model_dump() == options


@pytest.mark.parametrize("ref", ["p2:k=0", "p2:gamma=-0.1", "min-snr:gamma=0", "min-snr:gamma=nan", "debiased:gamma=1"])
def test_options_that_cannot_be_meant(ref: str) -> None:
    with pytest.raises(PluginOptionsError):
        registry.create("weightings", ref)


@pytest.mark.parametrize("ref", ["constant", "debiased", "p2", "min-snr"])
def test_a_scheme_keeps_shape_and_dtype_and_changes_nothing(ref: str) -> None:
    snr = torch.logspace(-3, 3, 12, dtype=torch.float64).reshape(3, 4)
    before = snr.clone()
    weight = registry.create("weightings", ref)(snr)
    assert (weight.shape, weight.dtype) == (snr.shape, torch.float64)
    assert torch.equal(snr, before)


def test_less_noise_weighs_less_on_eps() -> None:
    """What sets the schemes apart from the constant: their weight on eps never grows with the SNR."""
    snr = torch.logspace(-4, 4, 100, dtype=torch.float64)
    for ref, space in (("debiased", "eps"), ("p2", "eps")):
        weighting = registry.create("weightings", ref)
        assert weighting.space == space
        assert bool((weighting(snr).diff() < 0).all())
    assert bool(((registry.create("weightings", "min-snr")(snr) / snr).diff() <= 1e-15).all())
