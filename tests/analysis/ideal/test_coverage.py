"""How often a part's intervals hold the mean over all images, on real images and on a mixture; and memory."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from debiasctl.analysis.ideal.some_images import BOUND
from debiasctl.api import DataLocation, spread_indices
from debiasctl.registry.entry_points import create

BENCHMARK = Path(__file__).parents[3] / "benchmarks" / "ideal.py"


@pytest.mark.slow
@pytest.mark.parametrize("part", [400, 1600])
@pytest.mark.parametrize(
    "reference, log_snrs",
    [
        ("photo-patches:size=8", [-6.0, -4.0, -2.0, 0.0, 1.0]),
        ("gaussian-mixture:image_size=8,num=8000,components=10", [-6.0, -3.0, 0.0, 1.0, 2.0, 3.0]),
    ],
)
def test_intervals_hold_the_full_sum_from_the_stated_bound_on(
    reference: str, log_snrs: list[float], part: int, tmp_path: Path
) -> None:
    spec = importlib.util.spec_from_file_location("ideal_benchmark", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    train = create("datasets", reference).load(DataLocation(None, tmp_path)).train
    order = torch.randperm(8000, generator=torch.Generator().manual_seed(0))
    stored = train.images(spread_indices(len(train), 8000))[order]
    with torch.no_grad():
        found = module.coverage(stored, part=part, log_snrs=log_snrs, draws=30, queries=20)
    for is_own in (0.0, 1.0):
        held = found[(found[:, 0] >= BOUND) & (found[:, 2] == is_own), 1]
        assert len(held) > 1000
        assert 0.92 <= float(held.mean()) <= 0.98


@pytest.mark.slow
def test_all_of_cifar10s_images_take_less_than_two_gigabytes() -> None:
    command = [sys.executable, str(BENCHMARK), "--contender", "all", "--num", "50000", "--size", "32", "--queries", "8"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert found["peak"] * 2**30 < 2e9
