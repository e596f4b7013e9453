"""One verdict over blocks."""

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.blocks import over_blocks
from debiasctl.comparison.verdict import ArmValues, Cell, judge

SEEDS = (0, 1, 2)
LOW = Cell(
    "fd@lr1", "fd", 50, "lower", (ArmValues("a", SEEDS, (1.0, 1.2, 1.1)), ArmValues("b", SEEDS, (0.9, 1.0, 1.0)))
)
HIGH = Cell(
    "fd@lr2", "fd", 50, "lower", (ArmValues("a", SEEDS, (3.0, 3.3, 3.0)), ArmValues("b", SEEDS, (2.8, 2.9, 3.0)))
)


def test_figures_are_means_over_blocks_seed_by_seed() -> None:
    whole = over_blocks([LOW, HIGH], "fd")
    (found,) = judge([whole], primary="fd")
    a, b = np.array([2.0, 2.25, 2.05]), np.array([1.85, 1.95, 2.0])
    assert found.difference == pytest.approx(b.mean() - a.mean())
    assert found.p == pytest.approx(stats.ttest_ind(b, a).pvalue)
    assert (whole.metric, whole.steps, whole.better) == ("fd", 50, "lower")


def test_a_seed_that_a_block_lacks_is_left_out() -> None:
    short = Cell(
        "fd@lr2", "fd", 10, "lower", (ArmValues("a", (2, 0), (3.0, 5.0)), ArmValues("b", SEEDS, (2.8, 2.9, 3.0)))
    )
    whole = over_blocks([LOW, short], "fd")
    assert whole.arms[0] == ArmValues("a", (0, 2), (3.0, pytest.approx(2.05)))
    assert whole.arms[1].seeds == SEEDS
    assert whole.steps is None


def test_an_arm_withheld_in_one_block_is_withheld() -> None:
    bad = Cell("fd@lr2", "fd", 50, "lower", HIGH.arms, {"b": "its recall is 0"})
    assert over_blocks([LOW, bad], "fd").withheld == {"b": "its recall is 0"}


def test_blocks_are_of_one_metric_and_the_same_arms() -> None:
    other = Cell("fd@lr2", "fd", 50, "lower", HIGH.arms[::-1])
    for blocks in ([], [LOW, other], [LOW, Cell("kd", "kd", 50, "lower", HIGH.arms)]):
        with pytest.raises(ValueError, match="blocks"):
            over_blocks(blocks, "fd")
