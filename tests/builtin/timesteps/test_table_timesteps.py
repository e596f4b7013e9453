"""`table`: t drawn in proportion to a base and to a factor from a file."""

from pathlib import Path

import pytest
import torch
from timestep_cases import context, make

from debiasctl import registry
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.parameterization import Parameterization
from debiasctl.errors import PluginOptionsError, UsageError


@pytest.mark.parametrize("base", ["uniform", "lognormal"])
def test_the_factor_multiplies_the_base(tmp_path: Path, base: str) -> None:
    path, shown = tmp_path / "draw.csv", context("linear")
    path.write_text("snr,factor\n" + "".join(f"{snr!r},{snr**0.25!r}\n" for snr in shown.snr.tolist()), "utf-8")
    q = registry.create("timesteps", f"table:path='{path}',base={base}").probabilities(shown)
    expected = registry.create("timesteps", base).probabilities(shown) * shown.snr**0.25
    torch.testing.assert_close(q, expected / expected.sum(), rtol=1e-9, atol=0)


def test_a_table_of_t_is_read_at_whole_timesteps() -> None:
    shown = context("cosine:num_timesteps=5")
    q = registry.create("timesteps", "table:axis=t,points=[[0,1],[2,3],[4,0]]").probabilities(shown)
    torch.testing.assert_close(q, torch.tensor([1, 2, 3, 1.5, 0], dtype=torch.float64) / 7.5)


@pytest.mark.parametrize("corrected", ["true", "false"])
def test_the_objective_is_the_bases_only_if_it_is_corrected(corrected: str) -> None:
    process = make("cosine")
    ref = f"table:axis=snr,points=[[0,1],[1,3],[1e20,2]],corrected={corrected}"
    tables = [
        Objective(
            Parameterization("v", process),
            registry.create("weightings", "debiased"),
            registry.create("timesteps", timesteps),
        ).tables()
        for timesteps in (ref, "uniform")
    ]
    mine, uniform = (table.probability * table.correction * table.weight for table in tables)
    same = torch.allclose(mine / mine.sum(), uniform / uniform.sum(), rtol=1e-9, atol=0)
    assert same is (corrected == "true")
    assert bool((tables[0].correction == 1).all()) is (corrected == "false")


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("table", "option 'path' is required"),
        ("table:path=FILE", "its header is 'snr,weight'. It must be 'snr,factor' or 't,factor'"),
        ("table:axis=t,points=[[0,-1],[2,1]]", "has factor -1 at t 0; factors must be finite and not negative"),
        ("table:axis=t,points=[[0,0],[2,0]]", "every factor of the table is 0"),
    ],
)
def test_options_that_are_refused(tmp_path: Path, ref: str, message: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text("snr,weight\n0,1\n1,2\n", encoding="utf-8")
    with pytest.raises(PluginOptionsError) as caught:
        registry.create("timesteps", ref.replace("FILE", f"'{path}'"))
    assert message in str(caught.value)


def test_a_table_that_does_not_cover_the_schedule_is_refused() -> None:
    timesteps = registry.create("timesteps", "table:axis=snr,points=[[0.1,1],[10,1]]")
    with pytest.raises(
        UsageError, match=r"timesteps table covers SNR 0.1 to 10, but the schedule has SNR 4.036e-05 to"
    ):
        timesteps.probabilities(context("linear"))
