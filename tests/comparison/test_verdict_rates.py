"""The error rates and powers of the whole verdict, simulated: few replicates by default, all of them when slow."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "verdict_rates.py"


@pytest.fixture(scope="module")
def rates() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("verdict_rates", BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["verdict_rates"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["verdict_rates"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "part", ["a-a", "correlation", "power", "equivalence", "stopping", "coverage", "speed-up", "mixed"]
)
def test_every_promise_is_kept(rates: ModuleType, part: str) -> None:
    missed = [str(rate) for rate in rates.PARTS[part](np.random.default_rng(0), 2000) if not rate.kept]
    assert missed == []


def test_every_part_is_tested(rates: ModuleType) -> None:
    (marked,) = (mark for mark in test_every_promise_is_kept.pytestmark if mark.name == "parametrize")  # type: ignore[attr-defined]
    assert list(rates.PARTS) == marked.args[1]


@pytest.mark.parametrize(("arms", "seeds"), [(2, 3), (4, 3), (2, 5)])
def test_equal_arms_are_seldom_called_different(rates: ModuleType, arms: int, seeds: int) -> None:
    primary, any_metric, bare = rates.equal_arms(np.random.default_rng(1), 200, arms=arms, seeds=seeds)
    assert primary <= any_metric <= 0.08
    assert bare > 0.15


def test_three_standard_deviations_are_found_at_five_seeds(rates: ModuleType) -> None:
    generator = np.random.default_rng(1)
    found = [rates._one(generator, rates.METRICS[0], 5, 3.0).word for _ in range(200)]
    assert found.count("worse") >= 0.85 * len(found)
    assert "better" not in found


def test_a_difference_of_the_margin_is_seldom_called_equivalent(rates: ModuleType) -> None:
    generator = np.random.default_rng(1)
    metric = rates.one_metric(0.0, cv=0.01)
    at_margin = [rates._one(generator, metric, 3, 5.0).word for _ in range(300)]
    assert at_margin.count("equivalent") <= 0.05 * len(at_margin)
    equal = [rates._one(generator, metric, 3, 0.0).word for _ in range(100)]
    assert equal.count("equivalent") >= 0.9 * len(equal)


def test_stopping_when_decided_holds_both_errors(rates: ModuleType) -> None:
    generator = np.random.default_rng(2)
    equal = [rates.until_decided(generator, rates.METRICS[:2], (2, 3, 4, 5))[0].word for _ in range(200)]
    assert equal.count("better") + equal.count("worse") <= 0.08 * len(equal)
    metric = rates.one_metric(0.0, cv=0.02)
    near = [rates.until_decided(generator, [metric], (2, 3, 4, 5), effect=2.5)[0].word for _ in range(200)]
    assert near.count("equivalent") <= 0.05 * len(near)


def test_simulated_arms_correlate_as_declared(rates: ModuleType) -> None:
    """Of two metrics, one with arms that correlate by -0.2: seeds' part alone, so that nothing dilutes it."""
    metrics = [rates.one_metric(-0.2), rates.one_metric(0.5)]
    cells = rates.simulated(np.random.default_rng(0), metrics, seeds=[4000, 4000])
    for cell, expected in zip(cells, (-0.2, 0.5), strict=True):
        values = [arm.values for arm in cell.arms]
        assert np.corrcoef(values)[0, 1] == pytest.approx(expected, abs=0.05)
        assert np.std(values, axis=1) == pytest.approx([0.1, 0.1], rel=0.05)
    across = np.corrcoef(cells[0].arms[0].values, cells[1].arms[0].values)[0, 1]
    assert across == pytest.approx(rates.SHARED, abs=0.08)
