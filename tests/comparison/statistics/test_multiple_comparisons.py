"""Holm's correction on a published example, and the gate that a primary metric is."""

import random
from itertools import combinations

import pytest

from debiasctl.comparison.statistics.multiplicity import gated, holm


def test_holm_on_the_textbook_example() -> None:
    """Four tests with p = 0.01, 0.04, 0.03, 0.005: the first and the last hold at 5 %."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@pytest.mark.parametrize("seed", range(20))
def test_corrected_values_are_those_of_the_closed_test(seed: int) -> None:
    """A comparison's p value is the largest of Bonferroni's over all sets of comparisons that hold it (Marcus 1976)."""
    draws = random.Random(seed)
    values = [draws.choice([0.01, draws.random(), draws.random() ** 4]) for _ in range(1 + seed % 6)]
    sets = [one for size in range(1, len(values) + 1) for one in combinations(range(len(values)), size)]
    bonferroni = {one: min(1.0, len(one) * min(values[index] for index in one)) for one in sets}
    closed = [max(p for one, p in bonferroni.items() if index in one) for index in range(len(values))]
    assert holm(values) == pytest.approx(closed)


def test_corrected_values_are_at_most_1_and_keep_their_order() -> None:
    assert holm([0.9, 0.8, 0.3]) == [1.0, 1.0, pytest.approx(0.9)]
    assert holm([]) == []


def test_a_comparison_without_p_counts_in_the_family() -> None:
    assert holm([0.02, None, 0.03]) == [pytest.approx(0.06), None, pytest.approx(0.06)]


def test_nothing_passes_unless_the_primary_does() -> None:
    """Two arms; the first passes the gate with 0.01, the second does not."""
    found = gated([0.01, 0.2], [[0.001, 0.001], [0.02, None]])
    assert found == [[pytest.approx(0.01), pytest.approx(0.2)], [pytest.approx(0.04), None]]


def test_an_untested_primary_shuts_the_gate() -> None:
    assert gated([None], [[1e-9]]) == [[1.0]]
