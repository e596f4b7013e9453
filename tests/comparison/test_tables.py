import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from records import CONDITIONS, figure_json, interval_json, record, record_json
from tiny import make_spec

from debiasctl.comparison.tables import compare, spec_differences
from debiasctl.errors import ComparisonError, UsageError
from debiasctl.evaluation.uncertainty.intervals import METHOD
from debiasctl.evaluation.uncertainty.shares import (
    SHARE_METHOD,
    packed,
    share_interval,
    unpaired_difference,
)
from debiasctl.runs.status import new_status
from debiasctl.runs.store import Run, create_run

RECORDED = Path(__file__).parents[1] / "evaluation" / "recorded"


def make_run(name: str, **settings: Any) -> Run:
    status = new_status(num_steps=6, dataset="digits", weighting="x", seed=0)
    return create_run(name, make_spec(**settings), status=status)


def evaluated(
    run: Run,
    metrics: dict[str, float],
    checkpoint: int | None = 6,
    better: str = "lower",
    interval: list[float] | None = None,
    method: str = METHOD,
    **measured: Any,
) -> None:
    kept = None if interval is None else interval_json(interval, method=method)
    figures = {name: figure_json(value, better=better, interval=kept) for name, value in metrics.items()}
    stored = record_json(figures, measured=measured, run=run.name, checkpoint=checkpoint)
    run.evaluations_dir.mkdir(exist_ok=True)
    number = len(list(run.evaluations_dir.iterdir()))
    file = run.evaluations_dir / f"{number:016x}.json"
    file.write_text(json.dumps(stored))
    os.utime(file, (1000 + number, 1000 + number))  # later than the one before, whatever the clock's grain


def around(value: float, spread: float) -> list[float]:
    """Pseudo-values of mean about `value`, of which no two runs share the noise."""
    return [value + spread * math.sin(7 * number + 100 * value) for number in range(20)]


@pytest.mark.parametrize(
    "better, values, best",
    [
        ("lower", [3.0, 1.0, 2.0], 1),
        ("lower", [-3.0, 1.0, 2.0], 0),  # an unbiased kernel distance may be below 0
        ("higher", [3.0, 1.0, 2.0], 0),
        ("closer to 0", [-0.3, -0.1, 0.2], 1),
        ("closer to 0", [0.3, 0.2, -0.2], None),
        ("lower", [1.0, 1.0, 2.0], None),
    ],
)
def test_differences_and_the_best(better: str, values: list[float], best: int | None) -> None:
    runs = [make_run(name) for name in ("a", "b", "c")]
    for run, value in zip(runs, values, strict=True):
        evaluated(run, {"kd_local": value}, better=better, interval=around(value, 0.001))
    compared = compare(runs)
    (figure,) = compared.figures
    assert compared.runs == ["a", "b", "c"]
    assert figure.values == values
    assert figure.differences == [value - values[0] for value in values]
    assert figure.best == best
    assert (figure.metric, figure.better, figure.floor, figure.measured) == (
        "kd_local",
        better,
        0.5,
        record({}).measured,
    )


def test_the_interval_of_a_difference() -> None:
    """Noise that both share cancels; without what an interval is made of on either side there is none."""
    noise = [math.sin(number) for number in range(20)]
    own = [0.01 * math.cos(number) for number in range(20)]
    values = {"a": noise, "b": [1 + x + y for x, y in zip(noise, own, strict=True)], "c": None}
    runs = [make_run(name) for name in values]
    for run, pseudo in zip(runs, values.values(), strict=True):
        evaluated(run, {"fd_local": 1.0}, interval=pseudo)
    first, found, none = compare(runs).figures[0].intervals
    assert first is none is None
    half = scipy.stats.t.ppf(0.975, 19) * np.std(own, ddof=1) / 20**0.5
    centre = 1 + np.mean(own)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def shares(run: Run, name: str, counting: list[bool], **more: object) -> None:
    found = share_interval(sum(counting), len(counting))
    kept = interval_json([0.0, 1.0], low=found.low, high=found.high, method=SHARE_METHOD, ones=packed(counting), **more)
    figure = figure_json(found.estimate, num=len(counting), better="lower", interval=kept)
    run.evaluations_dir.mkdir(exist_ok=True)
    stored = record_json({name: figure}, run=run.name)
    (run.evaluations_dir / f"{name}.json").write_text(json.dumps(stored))


def test_shares_without_a_differing_image_may_still_differ() -> None:
    """By z²/(n + z²), since images that were not drawn may differ: not from 0 to 0, and not unknown."""
    runs = [make_run(name) for name in ("a", "b", "c")]
    for run, counting in zip(runs, ([False] * 1000, [False] * 1000, [True] * 40 + [False] * 960), strict=True):
        shares(run, "precision", counting)
    _, alike, other = compare(runs).figures[0].intervals
    assert (alike.low, alike.high) == pytest.approx((-0.003827, 0.003827), abs=1e-5)
    assert 0.02 < other.low < 0.04 < other.high < 0.06


def test_a_difference_of_shares_below_an_uncertain_threshold_has_no_interval() -> None:
    runs = [make_run(name) for name in ("a", "b")]
    bits = [[True] * count + [False] * (1000 - count) for count in (10, 30)]
    shares(runs[0], "memorised_share", bits[0], reach=[0.005, 0.018])
    shares(runs[1], "memorised_share", bits[1], reach=[0.02, 0.058])
    figures = compare(runs).figures[0]
    assert figures.intervals == [None, None]
    assert "below a threshold that is uncertain itself" in str(figures.interval_reasons[1])


def test_shares_of_older_records_have_an_interval_without_their_images() -> None:
    runs = [make_run("a"), make_run("b")]
    for run, count in zip(runs, (10, 40), strict=True):
        found = share_interval(count, 1000)
        kept = interval_json([0.0] * 20, low=found.low, high=found.high, method=SHARE_METHOD)
        stored = record_json({"precision": figure_json(count / 1000, interval=kept)}, run=run.name)
        run.evaluations_dir.mkdir(exist_ok=True)
        (run.evaluations_dir / "0.json").write_text(json.dumps(stored | {"schema_version": 2}))
    found = compare(runs).figures[0].intervals[1]
    expected = unpaired_difference(share_interval(10, 1000), share_interval(40, 1000))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_difference_without_an_interval_says_why() -> None:
    runs = [make_run("a"), make_run("b")]
    for run, groups in zip(runs, (20, 10), strict=True):
        evaluated(run, {"fd_local": 1.0}, interval=around(1.0, 1.0)[:groups])
        evaluated(run, {"recall": 1.0})
    divided, hanging = compare(runs).figures
    assert divided.interval_reasons == [
        None, "the intervals of the runs are of versions with other divisions of the images; evaluate both again"
    ]  # fmt: skip
    assert hanging.interval_reasons == [None, "few"]


def test_a_star_is_given_beyond_chance_alone() -> None:
    """Not for the lower value, if its interval holds 0, or there is none."""
    runs = [make_run("a"), make_run("b")]
    evaluated(runs[0], {"fd_local": 1.0}, interval=around(1.0, 1.0))
    evaluated(runs[1], {"fd_local": 1.1}, interval=around(1.1, 1.0))
    evaluated(runs[0], {"recall": 0.2}, better="higher")
    evaluated(runs[1], {"recall": 0.9}, better="higher")
    assert [figure.best for figure in compare(runs).figures] == [None, None]


def test_what_is_closer_to_0_takes_both_sides() -> None:
    """-0.2 and 0.19 differ beyond chance, but which of them is closer to 0 is open."""
    runs = [make_run("a"), make_run("b")]
    for run, value in zip(runs, (-0.2, 0.19), strict=True):
        evaluated(run, {"mean_shift_r": value}, better="closer to 0", interval=around(value, 0.1))
    (figure,) = compare(runs).figures
    assert figure.intervals[1].low > 0
    assert figure.best is None


def test_stars_hold_for_the_whole_table() -> None:
    """A difference beyond chance by itself (p 0.03) gets no star among ten metrics, and the table says how many do."""
    runs = [make_run("a"), make_run("b")]
    noise = [math.sin(7 * number) for number in range(20)]
    noise = [value - np.mean(noise) for value in noise]
    shift = 2.35 * np.std(noise, ddof=1) / 20**0.5
    names = [f"fd_{number}" for number in range(10)]
    for index in range(10):
        evaluated(runs[0], {names[index]: 1.0}, interval=[0.0] * 20)
        change = shift if index == 0 else 0.01
        evaluated(runs[1], {names[index]: 1.0 + change}, interval=[value + change for value in noise])
    compared = compare(runs)
    found = {figure.metric: figure for figure in compared.figures}
    assert 0.01 < found["fd_0"].intervals[1].p < 0.05
    assert found["fd_0"].intervals[1].low > 0
    assert all(figure.best is None for figure in compared.figures)
    assert any(note.startswith("1 of 10 intervals leave out 0") for note in compared.notes)
    (alone,) = compare(runs, metric="fd_0").figures
    assert alone.best == 0


def test_metrics_of_pixels_stand_once_whatever_the_features() -> None:
    a, b = make_run("a"), make_run("b")
    for run, spaces in ((a, ("local", "pixels")), (b, ("local", "pixels", "clip"))):
        for features in spaces:
            evaluated(
                run, {"mean_shift_grey": 0.1, f"fd_{features}": 1.0}, features=features, features_identity=features
            )
    assert sorted(figure.metric for figure in compare([a, b]).figures) == ["fd_local", "fd_pixels", "mean_shift_grey"]


def test_kernel_distances_of_older_versions_do_not_stand_beside_those_by_class() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"kd_local": 0.1, "fd_local": 1.0})
    figures = {"kd_local": figure_json(0.1, by_class=True), "fd_local": figure_json(1.0)}
    b.evaluations_dir.mkdir(exist_ok=True)
    (b.evaluations_dir / "0.json").write_text(json.dumps(record_json(figures, run="b")))
    compared = compare([a, b])
    assert [figure.metric for figure in compared.figures] == ["fd_local"]
    assert any("kd_local: an older version computed it without classes" in note for note in compared.notes)


def test_only_what_was_measured_in_the_same_way_stands_together() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0, "kd_local": 2.0}, steps=10)
    evaluated(a, {"fd_local": 3.0}, steps=20)
    evaluated(b, {"fd_local": 4.0}, steps=20)
    evaluated(b, {"fd_local": 5.0}, steps=10, weights="raw")
    evaluated(b, {"kd_local": 6.0}, steps=10)
    found = {(figure.metric, figure.measured.steps): figure.values for figure in compare([a, b]).figures}
    assert found == {("kd_local", 10): [2.0, 6.0], ("fd_local", 20): [3.0, 4.0]}
    assert [figure.metric for figure in compare([a, b], metric="kd_local").figures] == ["kd_local"]


def test_images_of_one_sampling_seed_are_preferred_and_others_are_compared_too() -> None:
    """Each run is sampled with its training seed, which need not be the other's."""
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, seed=0)
    evaluated(b, {"fd_local": 2.0}, seed=1)
    (figure,) = compare([a, b]).figures
    assert (figure.values, figure.measured.seed) == ([1.0, 2.0], None)
    evaluated(b, {"fd_local": 3.0}, seed=0)
    (figure,) = compare([a, b]).figures
    assert (figure.values, figure.measured.seed) == ([1.0, 3.0], 0)


def test_the_checkpoint_trained_longest_stands_and_of_that_the_last_evaluation() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, checkpoint=6)
    evaluated(a, {"fd_local": 2.0}, checkpoint=6)
    evaluated(a, {"fd_local": 3.0}, checkpoint=3)
    evaluated(b, {"fd_local": 4.0}, checkpoint=12)
    compared = compare([a, b])
    assert compared.figures[0].values == [2.0, 4.0]
    assert compared.checkpoints == [[6], [12]]


@pytest.mark.parametrize("field, value", [("num", 99), ("steps", 7), ("sampler", "ddpm"),
                                          ("weights", "raw"), ("features_identity", "ef"), ("dataset_hash", "x"),
                                          ("class", 2)])  # fmt: skip
def test_figures_measured_differently_are_refused_with_the_reason(field: str, value: object) -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0})
    evaluated(b, {"fd_local": 1.0}, **{field: value})
    with pytest.raises(ComparisonError, match="measured differently and cannot be compared") as error:
        compare([a, b])
    assert f"({field}: a {CONDITIONS[field]}, b {value})" in str(error.value)


def test_conditions_that_are_only_apart_together() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, steps=10, num=50)
    evaluated(a, {"fd_local": 1.0}, steps=20, num=100)
    evaluated(b, {"fd_local": 1.0}, steps=10, num=100)
    evaluated(b, {"fd_local": 1.0}, steps=20, num=50)
    with pytest.raises(ComparisonError, match="no figure of these runs was measured in the same way for all of them"):
        compare([a, b])


def test_a_metric_that_one_run_lacks() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0, "kd_local": 1.0})
    evaluated(b, {"fd_local": 1.0})
    with pytest.raises(
        ComparisonError,
        match=r"run 'b' was not measured by 'kd_local'\. .*evaluate b --steps 50 .*--metrics kd_local .*--num 100",
    ):
        compare([a, b], metric="kd_local")
    with pytest.raises(UsageError, match=r"unknown metric 'fd_locl'. Did you mean 'fd_local'\? These .*fd_local, kd"):
        compare([a, b], metric="fd_locl")


def test_runs_that_cannot_be_compared() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0})
    for runs in ([a], [a, a], [a, Run(a.path.parent / "." / "a")]):
        with pytest.raises(UsageError, match="name two or more different runs"):
            compare(runs)
    with pytest.raises(ComparisonError, match=r"run 'b' has not been evaluated. Do that first: debiasctl evaluate b"):
        compare([a, b])


@pytest.mark.parametrize("text", ["{", "[]", "\x00", '{"schema_version": 1, "measured": {}, "metrics": {}}'])
def test_a_damaged_evaluation_is_named(text: str) -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0})
    evaluated(b, {"fd_local": 1.0})
    file = next(b.evaluations_dir.iterdir())
    file.write_text(text)
    with pytest.raises(ComparisonError, match=r"is damaged .*measure again: debiasctl evaluate b") as error:
        compare([a, b])
    assert str(file) in str(error.value)
    assert file.read_text() == text


def test_what_differs_in_the_specs() -> None:
    first = make_spec(loss__weighting="debiased")
    second = make_spec(loss__weighting="min-snr:gamma=3", training__seed=2)
    assert spec_differences([first, second]) == {
        "loss.weighting.name": ["debiased", "min-snr"],
        "loss.weighting.options.gamma": [None, 3.0],
        "training.seed": [0, 2],
    }
    assert spec_differences([first, first]) == {}
    provenance = first.provenance.model_copy(update={"python": "2.7"})
    assert spec_differences([first, first.model_copy(update={"provenance": provenance})]) == {}


def test_what_differs_between_kinds_of_averages() -> None:
    kinds = [{"ema__decay": 0.5}, {"ema__kind": "power"}, {"ema__kind": "half-life"}]
    assert spec_differences([make_spec(**settings) for settings in kinds]) == {
        "ema.kind": ["decay", "power", "half-life"],
        "ema.decay": [0.5, None, None],
        "ema.warmup": [True, None, None],
        "ema.lengths": [None, [0.05, 0.1], None],
        "ema.half_life_images": [None, None, 500_000],
        "ema.rampup_ratio": [None, None, 0.05],
    }


def test_what_differs_between_runs_that_were_watched_or_not() -> None:
    alone, watched = make_spec(), make_spec(monitor__every=9)
    assert spec_differences([alone, watched]) == {"monitor.every": [None, 9]}
    assert spec_differences([watched, make_spec(monitor__every=9, monitor__num=20)]) == {"monitor.num": [256, 20]}


def test_figures_of_other_checkpoints_are_noted() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, checkpoint=6)
    evaluated(b, {"fd_local": 2.0}, checkpoint=3)
    compared = compare([a, b])
    assert compared.figures[0].checkpoints == [6, 3]
    assert any("different numbers of training steps" in note for note in compared.notes)
    assert (compared.figures[0].floor, compared.figures[0].floor_num) == (0.5, 9)
    (b.checkpoint_path(9)).mkdir(parents=True)
    (b.checkpoint_path(9) / "manifest.json").write_text("{}")
    assert any(
        "'b' was measured at step 3 and has since been trained to step 9" in note for note in compare([a, b]).notes
    )


def test_figures_of_the_last_checkpoints_need_no_note() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, checkpoint=6)
    evaluated(b, {"fd_local": 2.0}, checkpoint=6)
    assert compare([a, b]).notes == []


def test_runs_measured_by_older_versions_are_compared() -> None:
    runs = [make_run("a"), make_run("b")]
    for run in runs:
        run.evaluations_dir.mkdir(exist_ok=True)
        for name in ("version-1.json", "version-1-first.json", "ode.json"):
            (run.evaluations_dir / name).write_bytes((RECORDED / name).read_bytes())
    compared = compare(runs)
    assert [(figure.metric, figure.measured.num) for figure in compared.figures].count(("fd_pixels", 8)) == 1
    assert {figure.metric for figure in compared.figures} == {
        "fd_pixels", "kd_pixels", "recall", "spectrum_distance", "ode_bits_per_dim",
    }  # fmt: skip
    for figure in compared.to_json()["figures"]:
        assert figure["differences"] == [0, 0]
        assert figure["measured"]["weights"] == "ema"


def test_a_record_of_given_images_is_none_of_a_runs() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0})
    evaluated(b, {"fd_local": 1.0}, checkpoint=None)
    with pytest.raises(ComparisonError, match=r"is damaged \(checkpoint: .*measure again: debiasctl evaluate b"):
        compare([a, b])


def test_jackknives_of_other_numbers_of_groups_have_no_difference() -> None:
    a, b = make_run("a"), make_run("b")
    evaluated(a, {"fd_local": 1.0}, interval=[0.0, 1.0, 2.0])
    evaluated(b, {"fd_local": 1.0}, interval=[0.0, 1.0])
    assert compare([a, b]).figures[0].intervals == [None, None]


def test_runs_that_are_not_near_working_are_named() -> None:
    runs = [make_run(name) for name in ("a", "b")]
    for run, value in zip(runs, (0.01, 0.4), strict=True):
        evaluated(run, {"recall": value}, better="higher")
        (file,) = run.evaluations_dir.iterdir()
        stored = json.loads(file.read_text())
        stored["metrics"]["recall"]["value_at_floor_num"] = value
        file.write_text(
            json.dumps(stored | {"identical": {"copies": 0, "reference": int(run is runs[1]), "heldout": None}})
        )
    far, same = compare(runs).warnings
    assert far.startswith("run 'a': these images are not near working samples: recall is 0.01")
    assert same.startswith("run 'b': images are identical, pixel for pixel, to images of the reference: 1 of the 100. ")


def test_a_warning_of_several_runs_and_steps_is_said_once_and_names_them() -> None:
    runs = [make_run(name) for name in ("a", "b", "c")]
    for run in runs:
        for steps, value in ((5, 0.01), (10, 0.02)):
            value = 0.4 if run is runs[1] else value
            evaluated(run, {"recall": value}, better="higher", steps=steps)
        for file in run.evaluations_dir.iterdir():
            stored = json.loads(file.read_text())
            stored["metrics"]["recall"]["value_at_floor_num"] = stored["metrics"]["recall"]["value"]
            file.write_text(json.dumps(stored))
    (text,) = compare(runs).warnings
    assert text.startswith(
        "runs 'a', 'c': these images are not near working samples: in 4 measurements, the first of 'a' (recall is 0.01"
    )
    assert text.count("look at the images") == 1
