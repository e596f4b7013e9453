"""The schedule keeps the contract of its kind, and is the formula that it states."""

from typing import Any

import pytest
import torch
from debiasctl.testing import check_schedule
from pydantic import ValidationError

from my_package.schedule import MySchedule

# debiasctl adds the method `alphas_cumprod`, which type checkers do not see
SCHEDULE: Any = MySchedule


def test_it_keeps_its_contract() -> None:
    check_schedule(SCHEDULE)
    check_schedule(SCHEDULE, {"highest": 4, "lowest": -6})


def test_it_is_its_formula() -> None:
    schedule = SCHEDULE(SCHEDULE.Options(highest=4, lowest=-6, num_timesteps=10))
    u = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    assert schedule.log_snr(u).tolist() == [4, -1, -6]
    levels = torch.arange(10, dtype=torch.float64)  # timestep t lies in the middle of [t/T, (t + 1)/T)
    expected = torch.sigmoid(4 - (levels + 0.5))
    torch.testing.assert_close(schedule.alphas_cumprod(), expected, rtol=1e-12, atol=0)


def test_a_schedule_that_does_not_fall_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be less than highest"):
        SCHEDULE.Options(highest=0, lowest=0)
