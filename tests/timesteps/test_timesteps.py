import pytest
import torch

from debiasctl import registry
from debiasctl.api import TimestepDistribution


@pytest.mark.parametrize("num_timesteps", [1, 7, 1000])
def test_uniform(num_timesteps: int) -> None:
    timesteps = registry.create("timesteps", "uniform")
    assert isinstance(timesteps, TimestepDistribution)
    assert timesteps.corrected is False
    probabilities = timesteps.probabilities(torch.logspace(3, -3, num_timesteps))
    assert probabilities.dtype == torch.float64
    assert probabilities.tolist() == [1 / num_timesteps] * num_timesteps
