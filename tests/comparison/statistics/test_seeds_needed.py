"""How many seeds are needed, against scipy's noncentral t."""

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.statistics.planning import (
    MOST,
    Design,
    detectable,
    needed_effects,
    pairs_from,
    seeds_for_difference,
    seeds_for_equivalence,
)


def power(effect: float, seeds: int, freedom: float, level: float = 0.05) -> float:
    limit = stats.t.isf(level / 2, freedom)
    return float(stats.nct.sf(limit, freedom, effect * (seeds / 2) ** 0.5))


@pytest.mark.parametrize("effect", [4.0, 2.0, 1.0, 0.5, 0.2])
def test_the_number_proposed_is_the_least_with_80_percent_power(effect: float) -> None:
    seeds = seeds_for_difference(-0.3 * effect, 0.3, Design(2, None))
    assert seeds is not None
    assert power(effect, seeds, 2 * seeds - 2) >= 0.8 - 1e-3
    assert power(effect, seeds - 1, 2 * seeds - 4) < 0.8


def test_more_arms_need_fewer_seeds_and_a_smaller_level_more() -> None:
    numbers = [
        seeds_for_difference(3.0, 1.0, Design(arms, None), level=level)
        for arms, level in ((8, 0.05), (2, 0.05), (2, 0.005))
    ]
    assert numbers == [3, 4, 6]


def test_pairs_are_planned_with_their_own_degrees_of_freedom() -> None:
    seeds = seeds_for_difference(1.0, 1.0, Design(2, 5))
    assert seeds is not None
    assert power(1.0, seeds, seeds - 1) >= 0.8 - 1e-3
    assert power(1.0, seeds - 1, seeds - 2) < 0.8


def test_equal_arms_are_found_equivalent_with_the_power_promised() -> None:
    seeds = seeds_for_equivalence(0.05, 0.03, Design(2, None))
    assert seeds is not None

    def both_reject(number: int) -> float:
        generator = np.random.default_rng(0)
        freedom, error = 2 * number - 2, (2 / number) ** 0.5
        t = generator.standard_normal(100_000) * error
        s = np.sqrt(generator.chisquare(freedom, 100_000) / freedom)
        return float(np.mean(np.abs(t) + stats.t.isf(0.025, freedom) * error * s <= 0.05 / 0.03))

    assert both_reject(seeds) >= 0.79
    assert both_reject(seeds - 1) < 0.8


def test_no_difference_and_a_tiny_one_have_no_number() -> None:
    assert seeds_for_difference(0.0, 1.0, Design(2, None)) is None
    assert seeds_for_difference(0.01, 1.0, Design(2, None)) is None


def test_the_approximation_for_many_degrees_of_freedom_joins_the_exact_values() -> None:
    freedom = np.array([3.0, 399.0, 401.0, 900.0])
    found = detectable(freedom, 0.05, 0.8)
    for nu, limit in zip(freedom, found, strict=True):
        assert stats.nct.sf(stats.t.isf(0.025, nu), nu, limit) == pytest.approx(0.8, abs=1e-3)


def test_needed_effects_fall_with_the_number_of_seeds() -> None:
    needed = needed_effects(Design(3, 5), 0.05, 0.8)
    assert len(needed) == MOST - 1
    assert list(needed) == sorted(needed)


def test_pairs_are_used_from_where_they_pay() -> None:
    assert [pairs_from(arms) for arms in (1, 2, 3, 4, 10)] == [5, 5, 7, 9, 12]


@pytest.mark.parametrize("arms", [3, 4, 10])
def test_pairs_pay_where_they_find_less_at_a_correlation_of_three_tenths(arms: int) -> None:
    seeds = pairs_from(arms)
    at, before = (
        [stats.nct.sf(stats.t.isf(0.05 / (arms - 1) / 2, nu), nu, effect) for nu, effect in pair]
        for pair in _pairs_of_tests(arms, seeds)
    )
    assert at[0] >= at[1]
    assert before[0] < before[1]


def _pairs_of_tests(arms: int, seeds: int) -> list[list[tuple[int, float]]]:
    """For this number of seeds and one fewer: paired and pooled, at an effect that the pooled test finds in 80 %."""
    tests = []
    for count in (seeds, seeds - 1):
        pooled = arms * (count - 1)
        effect = float(detectable(np.array([float(pooled)]), 0.05 / (arms - 1), 0.8)[0])
        tests.append([(count - 1, effect / 0.7**0.5), (pooled, effect)])
    return tests


def test_a_tiny_level_with_one_degree_of_freedom_is_solved() -> None:
    """Its quantile is 6e7, where scipy's solver would not end."""
    needed = needed_effects(Design(2, 2), 1e-8, 0.8)
    assert np.isfinite(needed).all()
    limit = stats.t.isf(5e-9, 1)
    factor = (stats.chi2.ppf(0.8, 1)) ** 0.5  # far out t is the noncentrality over √(χ²/ν)
    assert needed[-1] == pytest.approx(limit * factor, rel=1e-3)
