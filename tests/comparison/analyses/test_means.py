"""Means over training seeds, differences paired by them, and what can be told of these."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from toy_parts import Toy

from debiasctl.analysis.record import AnalysisRecord, Network, Quantity, Series
from debiasctl.comparison.analyses.findings import answer_of, findings_between
from debiasctl.comparison.analyses.means import (
    Figure,
    curves_of,
    differences_of,
    figures_of,
    own_interval,
    p_value,
    told_apart,
)
from debiasctl.comparison.analyses.results import Entry, PartResult


def entry(arm: str, seed: int, values: dict[str, float], series: Sequence[Series] = ()) -> Entry:
    network = Network(
        run=f"{arm}-{seed}", run_identity=None, arm=arm, checkpoint=1, weights="ema", weights_sha256=arm
    )  # fmt: skip
    record = AnalysisRecord(
        debiasctl="0", part="existence", network=network, content_hash="c", settings={},
        quantities=[Quantity(name=name, value=value, se=0.5) for name, value in values.items()], series=list(series),
    )  # fmt: skip
    return Entry(record, seed, Path())


def result(apart: Sequence[float]) -> PartResult:
    """Two arms whose figure `a` differs by these amounts, seed by seed, and whose figure `b` is noise."""
    noise = np.random.default_rng(0).normal(size=(2, len(apart)))
    entries = [entry("x", seed, {"a": 10.0 * seed, "b": noise[0, seed]}) for seed in range(len(apart))]
    return PartResult(
        Toy(), [*entries, *(entry("y", s, {"a": 10.0 * s + d, "b": noise[1, s]}) for s, d in enumerate(apart))]
    )  # fmt: skip


def test_a_difference_is_paired_by_seed_with_students_interval() -> None:
    apart = [1.0, 1.2, 0.9, 1.1]
    (found,) = differences_of(result(apart))
    figure = found.figures[0]
    low, high = stats.t.interval(0.95, 3, np.mean(apart), np.std(apart, ddof=1) / 2)
    assert (figure.value, figure.low, figure.high) == pytest.approx((np.mean(apart), low, high))
    assert p_value(figure) == pytest.approx(stats.ttest_1samp(apart, 0).pvalue)


def test_what_training_does_not_change_has_its_interval_over_images_and_p_values_have_none() -> None:
    entries = [entry("x", seed, {"data_shift": 2.0, "shift_p": p}) for seed, p in enumerate((0.1, 0.3))]
    shift, p = figures_of(entries)
    assert (shift.low, shift.high, shift.over) == (*own_interval(entries[0].record.quantities[0]), "images")
    assert (p.value, p.low, p.high, p.over) == (pytest.approx(0.2), None, None, None)


def test_only_seeds_that_both_arms_have_are_compared() -> None:
    both = PartResult(
        Toy(),
        [entry("x", s, {"a": 1.0, "shift_p": 0.5}) for s in (0, 1, 2)]
        + [entry("y", s, {"a": 2.0, "shift_p": 0.1}) for s in (1, 3)],
    )
    (found,) = differences_of(both)
    assert found.seeds == [1]
    assert [figure.name for figure in found.figures] == ["a"]
    assert found.figures[0].low is None
    assert "it cannot be told whether another seed" in findings_between(both)[0]


def test_figures_are_told_apart_by_holms_correction() -> None:
    def figure(name: str, center: float) -> Figure:
        return Figure(name, "", "", center, None, None, "seeds", {0: center - 1, 1: center + 1, 2: center - 0.5})

    clear, near, none = figure("clear", 100.0), figure("near", 3.4), figure("none", 0.1)
    p = [p_value(one) or 0.0 for one in (clear, near, none)]
    assert p[0] < 0.05 / 3 < 0.025 < p[1] < 0.05 < p[2]
    assert told_apart([near, none, clear]) == [clear]
    assert told_apart([near]) == [near]
    assert told_apart([figure("same", 0.0)]) == []


def test_a_difference_that_no_seed_changes_is_no_evidence() -> None:
    """Such as one of counts, whose spread over seeds is not known to be 0 for that."""
    both = result([2.0, 2.0, 2.0])
    (found,) = differences_of(both)
    figure = found.figures[0]
    assert (figure.value, figure.low, figure.high, figure.over) == (2.0, None, None, None)
    assert p_value(figure) is None
    assert (
        "no figure can be told apart over 3 training seeds (paired, corrected for 1 figures)"
        in (findings_between(both)[0])
    )
    (same,) = differences_of(result([0.0, 0.0, 0.0]))
    assert (same.figures[0].low, same.figures[0].high, p_value(same.figures[0])) == (0.0, 0.0, 1.0)


def test_what_is_told_of_arms_says_how_sure_it_is() -> None:
    clear = result([1.0, 1.01, 0.99, 1.0])
    assert (
        "1 of 2 figures differ over 4 training seeds (paired, corrected for 2 figures): a +1"
        in (findings_between(clear)[0])
    )
    assert answer_of([clear]) == "Over 4 training seeds, 'y' differs from 'x' in 1 of 2 figures of existence."
    vague = result([1.0, -2.0, 0.5, 0.3])
    assert "no figure can be told apart over 4" in findings_between(vague)[0]
    assert "cannot be told apart from 'x' in any of 2 figures" in answer_of([vague])


def test_one_seed_keeps_its_interval_over_images_and_several_have_one_over_seeds() -> None:
    (one,) = figures_of([entry("x", 0, {"a": 2.0})])
    assert (one.low, one.high, one.over) == (
        pytest.approx(2 - 0.98, abs=1e-3),
        pytest.approx(2 + 0.98, abs=1e-3),
        "images",
    )
    (two,) = figures_of([entry("x", 0, {"a": 2.0}), entry("x", 1, {"a": 4.0})])
    assert (two.value, two.over, two.low) == (3.0, "seeds", pytest.approx(3 - stats.t.ppf(0.975, 1)))
    assert own_interval(Quantity(name="a", value=1.0, se=9.0, low=0.5, high=2.0)) == (0.5, 2.0)


def test_a_series_has_means_where_all_seeds_have_values() -> None:
    first = Series(name="s", axis="t", x=[1.0, 2.0, 3.0], value=[1.0, None, 5.0])
    other = Series(name="s", axis="t", x=[1.0, 2.0, 4.0], value=[3.0, 4.0, 5.0])
    (curve,) = curves_of([entry("x", 0, {}, [first]), entry("x", 1, {}, [other])])
    assert [(mean.x, mean.value, mean.num) for mean in curve.means] == [(1.0, 2.0, 2)]
