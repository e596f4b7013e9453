"""The verdict as a whole: its words, what they rest on, and figures that leave nothing to test."""

import dataclasses
import itertools
import math
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from scipy import stats

from debiasctl.comparison.cells import Better
from debiasctl.comparison.statistics.looks import Looks
from debiasctl.comparison.statistics.planning import Design, seeds_for_difference
from debiasctl.comparison.verdict import ArmValues, Cell, Verdict, judge
from debiasctl.errors import UsageError

A = (1.18, 1.02, 1.11)
B = (0.84, 0.91, 0.79)


@pytest.fixture(autouse=True)
def _nothing_warns() -> Iterator[None]:
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        yield


def cell(
    *arms: tuple[float, ...],
    key: str = "fd@50",
    better: Better = "lower",
    withheld: dict[str, str] | None = None,
    **more: float,
) -> Cell:
    """A cell whose arms are named a, b, c, with seeds 0, 1, 2, ..."""
    values = tuple(ArmValues(name, tuple(range(len(own))), own) for name, own in zip("abcdefgh", arms, strict=False))
    return Cell(key, key.split("@")[0], 50, better, values, withheld or {}, **more)


def of(*arms: tuple[float, ...], better: Better = "lower", margin: float = 0.05) -> Verdict:
    """The only verdict on two arms."""
    (found,) = judge([cell(*arms, better=better)], primary="fd@50", margin=margin)
    return found


def test_two_arms_of_three_seeds() -> None:
    found = of(A, B)
    expected = stats.ttest_ind(B, A)
    low, high = expected.confidence_interval(0.95)
    assert (found.word, found.arm, found.reference, found.primary) == ("better", "b", "a", True)
    assert found.difference == pytest.approx(np.mean(B) - np.mean(A))
    assert (found.low, found.high, found.p) == pytest.approx((low, high, expected.pvalue))
    assert found.p_corrected == found.p
    assert (found.method, found.num) == ("pooled t", (3, 3))
    logs = stats.ttest_ind(np.log(B), np.log(A)).confidence_interval(0.95)
    assert (found.ratio_low, found.ratio_high) == pytest.approx(np.exp([logs.low, logs.high]))
    assert found.margin == pytest.approx(0.05 * np.mean(A))
    assert found.seed_correlation == pytest.approx(np.corrcoef(A, B)[0, 1])
    assert (found.seeds_more, found.seeds_more_equivalence, found.reason) == (0, 0, None)
    assert found.probability_better is not None
    assert (found.probability_low or 0) < found.probability_better < (found.probability_high or 1)
    assert found.evidence.startswith("b has 0.8467 and a 1.103 in the mean of 3 seeds each: p 0.011 by pooled t with 4")


def test_swapped_arms_turn_every_sign() -> None:
    there, back = of(A, B), of(B, A)
    assert (there.word, back.word) == ("better", "worse")
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p == pytest.approx(there.p)
    assert back.ratio_low == pytest.approx(1 / (there.ratio_high or math.nan))
    assert back.probability_better == pytest.approx(1 - (there.probability_better or math.nan))


@pytest.mark.parametrize("better", ["lower", "higher", "zero"])
@pytest.mark.parametrize("scale", [1e-30, 7.0, 1e30])
def test_a_scale_changes_the_difference_alone(better: Better, scale: float) -> None:
    plain = of(A, B, better=better)
    scaled = of(*(tuple(scale * value for value in arm) for arm in (A, B)), better=better)
    for name in ("difference", "low", "high", "margin"):
        assert getattr(scaled, name) == pytest.approx(scale * getattr(plain, name), rel=1e-9)
    for name in ("ratio", "ratio_low", "ratio_high", "p", "probability_better"):
        assert getattr(scaled, name) == pytest.approx(getattr(plain, name), rel=1e-9)
    assert (scaled.word, scaled.seeds_more) == (plain.word, plain.seeds_more)


def test_higher_is_better_where_it_is() -> None:
    assert of(A, B, better="higher").word == "worse"
    assert of(B, A, better="higher").word == "better"


def test_five_pairs_are_compared_as_pairs_whatever_the_figures() -> None:
    a, b = (1.0, 1.5, 2.0, 2.5, 3.0), (1.11, 1.6, 2.12, 2.6, 3.13)
    found = of(a, b)
    expected = stats.ttest_rel(b, a)
    assert (found.method, found.word) == ("paired t", "worse")
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95))
    four = of(a[:4], b[:4])
    assert (four.method, four.word) == ("pooled t", "inconclusive")
    assert four.seed_correlation == pytest.approx(1.0, abs=0.01)


def test_with_more_arms_pairs_are_used_from_more_seeds() -> None:
    """The variance pooled over three arms has more degrees of freedom than pairs of two, until there are seven."""
    values = np.random.default_rng(0).normal(1.0, 0.1, (3, 7))
    for seeds, method in ((6, "pooled t"), (7, "paired t")):
        found = judge([cell(*(tuple(row[:seeds].tolist()) for row in values))], primary="fd@50")
        assert {one.method for one in found} == {method}


def test_pairs_are_found_by_seed_and_not_by_place() -> None:
    a, b = (1.0, 1.5, 2.0, 2.5, 3.0), (3.13, 2.6, 2.12, 1.6, 1.11)
    arms = (ArmValues("a", (0, 1, 2, 3, 4), a), ArmValues("b", (4, 3, 2, 1, 0), b))
    (found,) = judge([Cell("fd", "fd", 50, "lower", arms)], primary="fd")
    assert found.p == pytest.approx(stats.ttest_rel(b[::-1], a).pvalue)


def test_what_has_no_partner_is_left_out_of_pairs() -> None:
    a, b = (1.0, 1.5, 2.0, 2.5, 3.0, 9.0), (1.11, 1.6, 2.12, 2.6, 3.13)
    found = of(a, b)
    assert (found.method, found.num) == ("paired t", (5, 5))
    assert found.difference == pytest.approx(np.mean(b) - np.mean(a[:5]))
    assert found.margin == pytest.approx(0.05 * np.mean(a[:5]))
    assert found.p == pytest.approx(stats.ttest_rel(b, a[:5]).pvalue)


def test_seeds_that_differ_are_not_paired() -> None:
    a, b = (1.0, 1.5, 2.0, 2.5, 3.0), (1.11, 1.6, 2.12, 2.6, 3.13)
    arms = (ArmValues("a", (0, 1, 2, 3, 4), a), ArmValues("b", (5, 6, 7, 8, 9), b))
    (found,) = judge([Cell("fd", "fd", 50, "lower", arms)], primary="fd")
    assert (found.method, found.seed_correlation) == ("pooled t", None)
    with pytest.raises(UsageError, match=r"pairs of seeds.*0, 1, 2"):
        judge([Cell("fd", "fd", 50, "lower", arms)], primary="fd", paired="yes")


def test_pairing_can_be_demanded_and_refused() -> None:
    a, b = (1.0, 1.5, 2.0, 2.5, 3.0), (1.11, 1.6, 2.12, 2.6, 3.13)
    (pairs,) = judge([cell(a[:3], b[:3])], primary="fd@50", paired="yes")
    assert pairs.p == pytest.approx(stats.ttest_rel(b[:3], a[:3]).pvalue)
    (pooled,) = judge([cell(a, b)], primary="fd@50", paired="no")
    assert pooled.p == pytest.approx(stats.ttest_ind(b, a).pvalue)


def test_arms_of_different_sizes() -> None:
    found = of(A, (*B, 0.88, 0.9, 0.8, 0.85))
    assert (found.method, found.num, found.word) == ("pooled t", (7, 3), "better")
    assert found.p == pytest.approx(stats.ttest_ind((*B, 0.88, 0.9, 0.8, 0.85), A).pvalue)
    assert "in the mean of 7 and 3 seeds" in found.evidence


def test_equivalent_comes_before_a_difference_that_lies_within_the_margin() -> None:
    a, b = (1.0, 1.001, 0.999), (1.01, 1.011, 1.009)
    found = of(a, b)
    assert found.p is not None
    assert found.p < 0.05
    assert found.word == "equivalent"
    assert of(a, b, margin=0.005).word == "worse"
    assert (found.seeds_more, found.seeds_more_equivalence) == (0, 0)


def test_equivalence_is_the_interval_within_the_margin() -> None:
    a, b = (1.0, 1.02, 0.98), (1.0, 1.01, 0.99)
    high = of(a, b).high or 0.0
    assert of(a, b, margin=high * 1.0001).word == "equivalent"
    assert of(a, b, margin=high * 0.9999).word == "inconclusive"


def test_inconclusive_says_why_and_how_many_more_seeds() -> None:
    found = of((1.0, 1.2, 0.8), (1.1, 0.9, 1.3))
    assert found.word == "inconclusive"
    assert found.reason == "the interval holds 0 and reaches beyond the margin of 0.05"
    assert found.seeds_more is not None
    assert found.seeds_more > 20
    assert found.seeds_more_equivalence is not None
    assert found.seeds_more_equivalence > 100


def test_more_seeds_are_planned_as_they_will_be_compared() -> None:
    """From five on as pairs where seeds are shared, and with the share of the level that the comparison has."""
    a, b = (1.0, 1.2, 0.8), (1.1, 0.95, 1.25)
    spread = math.sqrt((np.var(a, ddof=1) + np.var(b, ddof=1)) / 2)

    def planned(design: Design, level: float) -> int:
        needed = seeds_for_difference(0.1, spread, design, level=level)
        assert needed is not None
        return needed - 3

    assert of(a, b).seeds_more == planned(Design(2, 5), 0.05)
    assert planned(Design(2, 5), 0.05) != planned(Design(2, None), 0.05)
    arms = (ArmValues("a", (0, 1, 2), a), ArmValues("b", (3, 4, 5), b))
    (others,) = judge([Cell("fd", "fd", 50, "lower", arms)], primary="fd")
    assert others.seeds_more == planned(Design(2, None), 0.05)
    strong = cell((1.0, 1.1, 0.9), (2.0, 2.1, 1.9), key="kd@50")
    rest = judge([strong, cell(a, b), cell(a, b, key="sd@50")], primary="kd@50")
    assert rest[1].seeds_more == planned(Design(2, 5), 0.025)


@pytest.mark.parametrize("shift", [0.0, -2.0])
def test_a_reference_that_is_not_above_0_gives_no_margin(shift: float) -> None:
    found = of((0.1 + shift, -0.1 + shift, 0.0 + shift), (0.1 + shift, 0.0 + shift, -0.1 + shift))
    assert (found.word, found.margin, found.seeds_more_equivalence) == ("inconclusive", None, None)
    assert found.reason is not None
    assert "not above 0" in found.reason


def test_no_margin_may_be_asked_for() -> None:
    found = of((1.0, 1.2, 0.8), (1.1, 0.9, 1.3), margin=0.0)
    assert found.margin is None
    assert found.reason is not None
    assert "none was asked for" in found.reason


def test_a_ratio_to_a_figure_near_0_is_unbounded() -> None:
    found = of((0.1, -0.1, 0.05), (1.1, 0.9, 1.3))
    assert (found.ratio_low, found.ratio_high) == (None, None)
    assert found.ratio_note is not None
    assert found.ratio_note.startswith("unbounded")


@pytest.mark.parametrize(
    ("arms", "single"), [((A[:1], B[:1]), "'b' and of 'a'"), ((A, B[:1]), "'b'"), ((A[:1], B), "'a'")]
)
def test_one_seed_of_an_arm_gives_no_verdict(arms: tuple[tuple[float, ...], ...], single: str) -> None:
    found = of(*arms)
    assert found.word == "one seed"
    assert (found.p, found.low, found.method, found.probability_better, found.seeds_more) == (None,) * 5
    assert found.difference == pytest.approx(np.mean(arms[1]) - np.mean(arms[0]))
    assert found.ratio == pytest.approx(np.mean(arms[1]) / np.mean(arms[0]))
    assert found.reason is not None
    assert f"one seed of {single}," in found.reason


def test_one_seed_is_held_against_the_spread_of_arms_with_more() -> None:
    (found,) = judge([cell(A, B[:1])], primary="fd@50")
    error = np.std(A, ddof=1) * (1 + 1 / 3) ** 0.5
    expected = 2 * stats.t.sf((np.mean(A) - B[0]) / error, 2)
    assert f"from 1 seed and 3 seeds; by the spread of arms with more, seeds alone do as much in {expected:.0%}" in (
        found.evidence
    )
    assert of(A[:1], B[:1]).evidence.endswith("from 1 seed and 1 seed.")


def test_a_withheld_arm_gives_its_reason_and_no_variance() -> None:
    grey = (9.0, 30.0, 2.0)
    cells = [cell(A, B, grey, withheld={"c": "its recall is 0"})]
    good, bad = judge(cells, primary="fd@50")
    assert (bad.word, bad.reason, bad.difference, bad.p) == ("withheld", "its recall is 0", None, None)
    assert good.low == of(A, B).low
    assert good.p_corrected == pytest.approx(2 * (good.p or math.nan))  # it still counts as a comparison
    for found in judge(cells, primary="fd@50", reference="c"):
        assert (found.word, found.reason) == ("withheld", "its recall is 0")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e200])
@pytest.mark.parametrize("place", [0, 1])
def test_a_figure_that_is_no_number_withholds_the_arm(bad: float, place: int) -> None:
    arms = [A, B]
    arms[place] = (1.0, bad, 1.1)
    found = of(*arms)
    assert found.word == "withheld"
    assert found.reason == f"the figure of seed 1 in arm {'ab'[place]!r} is {bad}"


def test_an_arm_without_figures_is_withheld() -> None:
    found = of(A, ())
    assert (found.word, found.reason, found.num) == ("withheld", "arm 'b' has no figure here", (0, 3))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5), (0.0, 0.0), (0.5, 0.7), (-1.0, 1.0), (0.1 + 0.2, 0.3)])
@pytest.mark.parametrize("better", ["lower", "zero"])
def test_figures_that_do_not_vary_decide_nothing(n: int, first: float, second: float, better: Better) -> None:
    """Saturated figures, or runs copied: nothing shows the spread, and identical figures are not called equivalent."""
    found = of((first,) * n, (second,) * n, better=better)
    assert found.word == "inconclusive"
    assert (found.p, found.low, found.high, found.seeds_more) == (None,) * 4
    assert found.reason is not None
    assert "do not vary" in found.reason


def test_pairs_that_are_equal_throughout_are_equivalent() -> None:
    values = (1.0, 1.5, 2.0, 2.5, 3.0)
    found = of(values, values)
    assert (found.word, found.difference, found.low, found.high, found.p) == ("equivalent", 0.0, 0.0, 0.0, 1.0)
    assert "the figures of each seed are equal in both" in found.evidence
    assert of(tuple(-value for value in values), tuple(-value for value in values)).word == "inconclusive"


def test_pairs_that_all_differ_by_one_amount_decide_nothing() -> None:
    values = (1.0, 1.5, 2.0, 2.5, 3.0)
    found = of(values, tuple(value + 0.25 for value in values))
    assert found.word == "inconclusive"
    assert found.reason is not None
    assert "by the same amount" in found.reason


def test_one_arm_that_does_not_vary_is_compared_with_the_spread_of_the_other() -> None:
    found = of((0.5, 0.5, 0.5), (0.9, 0.95, 0.85))
    assert found.word == "worse"
    error = math.sqrt(0.05**2 / 2 * 2 / 3)  # of which one arm has no part
    assert found.p == pytest.approx(2 * stats.t.sf(0.4 / error, 4))


def test_several_arms_share_their_variance_and_their_error() -> None:
    c = (1.0, 1.15, 0.95)
    first, second = judge([cell(A, B, c)], primary="fd@50")
    squares = sum(np.var(arm, ddof=1) * 2 for arm in (A, B, c))
    t = (np.mean(B) - np.mean(A)) / np.sqrt(squares / 6 * 2 / 3)
    assert first.p == pytest.approx(2 * stats.t.sf(abs(t), 6))
    assert "by pooled t over 3 arms with 6 degrees of freedom" in first.evidence
    assert first.p_corrected == pytest.approx(2 * first.p)
    assert second.p_corrected == pytest.approx(max(second.p or 0, first.p_corrected))


def test_an_arm_whose_figures_are_several_times_as_large_hides_no_difference() -> None:
    far = (8.0, 15.0, 11.0)
    first, second = judge([cell(A, B, far)], primary="fd@50")
    assert first.p == pytest.approx(of(A, B).p)
    assert (first.word, second.word) == ("better", "worse")


def test_the_rest_is_corrected_behind_the_primary() -> None:
    strong = cell((1.0, 1.1, 0.9), (2.0, 2.1, 1.9), key="kd@50")
    weak = cell((1.0, 1.2, 0.8), (1.1, 0.9, 1.3), key="sd@50")
    shut = {one.cell: one for one in judge([strong, weak], primary="sd@50")}
    assert shut["kd@50"].word == "inconclusive"
    assert (
        shut["kd@50"].reason == "the interval leaves out 0, but the primary figure, sd@50, is not decided for this arm"
    )
    assert shut["kd@50"].p_corrected == shut["sd@50"].p_corrected
    assert shut["kd@50"].seeds_more == shut["sd@50"].seeds_more
    opened = {one.cell: one for one in judge([strong, weak], primary="kd@50")}
    assert opened["kd@50"].word == "worse"
    assert opened["kd@50"].primary
    assert not opened["sd@50"].primary
    assert opened["sd@50"].p_corrected == pytest.approx(opened["sd@50"].p)


def test_what_does_not_survive_its_number_says_so() -> None:
    """With six metrics behind the primary, p 0.011 becomes 0.067."""
    strong = cell((1.0, 1.1, 0.9), (2.0, 2.1, 1.9), key="kd@50")
    others = [cell(A, B, key=f"m{index}@50") for index in range(6)]
    found = judge([strong, *others], primary="kd@50")
    assert found[1].p_corrected == pytest.approx(6 * (found[1].p or math.nan))
    assert found[1].word == "inconclusive"
    assert found[1].reason == "the interval leaves out 0, but no longer when corrected for the number of comparisons"
    assert "when corrected for 6 comparisons" in found[1].evidence


def test_being_equivalent_is_corrected_and_needs_no_gate() -> None:
    undecided = cell((1.0, 1.2, 0.8), (1.1, 0.9, 1.3), key="kd@50")
    a, b = (1.0, 1.02, 0.98), (1.0, 1.01, 0.99)
    margin = (of(a, b).high or 0.0) * 1.01
    assert [one.word for one in judge([undecided, cell(a, b)], primary="kd@50", margin=margin)] == [
        "inconclusive",
        "equivalent",
    ]
    many = judge([undecided, cell(a, b), cell(a, b, key="sd@50")], primary="kd@50", margin=margin)
    assert many[1].word == "inconclusive"
    assert many[1].reason is not None
    assert many[1].reason.startswith("the interval lies within the margin, but no longer")


def test_closer_to_0_is_judged_by_difference_and_sum() -> None:
    near, far = (0.01, -0.02, 0.0), (-0.5, -0.45, -0.52)
    found = of(far, near, better="zero")
    assert found.word == "better"
    assert found.difference == pytest.approx(abs(np.mean(near)) - abs(np.mean(far)))
    assert found.p == pytest.approx(
        max(stats.ttest_ind(near, far).pvalue, stats.ttest_ind(near, [-value for value in far]).pvalue)
    )
    assert found.ratio is not None
    assert found.ratio < 0.1
    mirrored = of(tuple(-value for value in far), near, better="zero")
    assert (mirrored.word, mirrored.difference) == ("better", pytest.approx(found.difference))
    assert mirrored.p == pytest.approx(found.p)


def test_two_shifts_of_opposite_signs_are_not_different() -> None:
    found = of((0.5, 0.45, 0.52), (-0.5, -0.46, -0.52), better="zero")
    assert found.word == "inconclusive"
    assert abs(found.difference or 1) < 0.01
    assert found.probability_better == pytest.approx(0.5, abs=0.2)


def test_the_probability_lies_within_its_interval_at_any_distance() -> None:
    """Two pairs that differ by nearly the same amount: one degree of freedom, and t beyond 1,000."""
    (found,) = judge([cell((1.0, 1.2), (1.1, 1.3002))], primary="fd@50", paired="yes")
    assert found.probability_better is not None
    assert found.probability_low is not None
    assert found.probability_high is not None
    assert found.probability_low <= found.probability_better <= found.probability_high < 0.5


def test_looks_ask_more_of_an_early_verdict() -> None:
    plain = of(A, B)
    for at, word in ((3, "inconclusive"), (6, "better")):
        looks = Looks((3, 6) if at == 3 else (2, 3, 6), at)
        (found,) = judge([cell(A, B)], primary="fd@50", looks=looks)
        assert found.word == word
        assert found.p == plain.p
        assert found.p_corrected == pytest.approx(looks.spent(plain.p or 0))
        half = (plain.high or 0) - (plain.difference or 0)
        ratio = stats.t.isf(looks.nominal(0.05) / 2, 4) / stats.t.isf(0.025, 4)
        assert (found.high or 0) - (found.difference or 0) == pytest.approx(half * ratio)
        assert "looks while seeds are added" in found.evidence


def test_borrowed_variances_are_marked() -> None:
    cells = [
        cell(A, B, key="kd@50", sampling=0.002),
        cell((2.0, 2.2, 2.4), (2.1, 2.5, 2.2), key="fd@50", sampling=0.01),
        cell((3.0, 3.3, 3.1), (3.2, 3.5, 3.3), key="sd@50", sampling=0.01),
        cell((5.0, 5.1, 5.2), (5.3, 5.1, 5.2), key="none@50"),
    ]
    found = {one.cell: one for one in judge(cells, primary="kd@50", borrowed=True)}
    assert [found[one.key].method for one in cells] == ["borrowed"] * 3 + ["pooled t"]
    assert "variance is pooled and shrunk over metrics, with 6 degrees" in found["kd@50"].evidence
    plain = {one.cell: one for one in judge(cells, primary="kd@50")}
    widths = [  # of the ratio's interval, in logarithms: narrower by as much as the difference's
        (math.log((one.ratio_high or 0) / (one.ratio_low or 1)), (one.high or 0) - (one.low or 0))
        for one in (found["kd@50"], plain["kd@50"])
    ]
    assert widths[0][0] / widths[1][0] == pytest.approx(widths[0][1] / widths[1][1])
    assert widths[0][0] < widths[1][0]
    assert {one.method for one in judge(cells[:2], primary="kd@50", borrowed=True)} == {"pooled t"}


def test_the_reference_is_the_first_arm_or_the_one_named() -> None:
    assert [(one.arm, one.reference) for one in judge([cell(A, B, A)], primary="fd@50", reference="b")] == [
        ("a", "b"),
        ("c", "b"),
    ]
    assert judge([cell(A)], primary="fd@50") == []


@pytest.mark.parametrize(
    ("cells", "given", "message"),
    [
        ([cell(A, B)], {"primary": "fid"}, "`primary`.*Known: fd@50"),
        ([], {}, "`primary`.*none"),
        ([cell(A, B)], {"reference": "z"}, "`reference`.*'a', 'b'"),
        ([cell(A, B)], {"margin": 1.0}, "`margin`"),
        ([cell(A, B)], {"margin": math.nan}, "`margin`"),
        ([cell(A, B)], {"paired": "maybe"}, "`paired`"),
        ([cell(A, B), cell(A, B)], {}, "twice: fd@50"),
        ([cell(A, B), cell(A, key="kd@50")], {}, "kd@50 has not the arms"),
    ],
)
def test_requests_that_make_no_sense_are_refused(cells: list[Cell], given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        judge(cells, **({"primary": "fd@50"} | given))  # type: ignore[arg-type]


def test_values_belong_to_seeds() -> None:
    with pytest.raises(ValueError, match="2 seeds and 1 values"):
        ArmValues("a", (0, 1), (1.0,))
    with pytest.raises(ValueError, match="twice"):
        ArmValues("a", (1, 1), (1.0, 2.0))


def test_every_word_of_a_verdict_is_finite_or_absent() -> None:
    """Odd figures of all kinds, in all directions: defined, and no warning of numpy's."""
    odd = (
        (0.0, 0.0, 1.0),
        (1e-300, 2e-300, 3e-300),
        (-1.0, 1.0, 0.0),
        (1e140, 2e140, 1e139),
        (1.0, 1.0, 1.0 + 1e-9),
        A,
    )
    for first, second in itertools.product(odd, repeat=2):
        for better in ("lower", "higher", "zero"):
            found = of(first, second, better=better)  # type: ignore[arg-type]
            for field in dataclasses.fields(found):
                value = getattr(found, field.name)
                assert not isinstance(value, float) or math.isfinite(value) or field.name.startswith("ratio"), (
                    field.name
                )
