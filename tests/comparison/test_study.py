import json
import platform
import re
import subprocess
from pathlib import Path

import pytest
from records import add_evaluation, figure_json, make_arm, make_run, plain_spec

from debiasctl.comparison.report_tables import efficiency_table
from debiasctl.comparison.study import study_of
from debiasctl.comparison.study_parts import environment
from debiasctl.comparison.study_record import Study, read_study
from debiasctl.errors import ComparisonError, RunError, UsageError
from debiasctl.runs.store import Run

LOW, HIGH = [0.80, 0.82, 0.78], [1.20, 1.22, 1.19]


def two_arms(first: list[float] = HIGH, second: list[float] = LOW) -> list[Run]:
    return [*make_arm("constant", first), *make_arm("debiased", second)]


def test_the_verdict_is_over_seeds() -> None:
    study = study_of(two_arms(), primary="fd_local@50")
    assert [(arm.name, arm.seeds) for arm in study.arms] == [("constant", [0, 1, 2]), ("debiased", [0, 1, 2])]
    (cell,) = study.cells
    assert (cell.key, cell.steps, cell.primary, cell.figure) == ("fd_local@50", 50, True, "value")
    assert [one.value for one in cell.arms[1].figures] == LOW
    assert cell.arms[1].mean == pytest.approx(0.8)
    (verdict,) = study.verdicts
    assert (verdict.word, verdict.arm, verdict.reference, verdict.num) == ("better", "debiased", "constant", [3, 3])
    assert study.answer.startswith("'debiased' is better than 'constant' in fd_local at 50 steps (debiased 0.8 against")
    assert study.paired
    assert study.warnings == []


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    study = study_of(two_arms())
    file = tmp_path / "study.json"
    file.write_text(json.dumps(study.to_json()))
    assert read_study(file) == study
    stored = json.loads(file.read_text())
    for change, message in (
        ({"schema_version": 2}, "newer version"),
        ({"primary": "fd_x"}, "'fd_x' names no arm or cell"),
        ({"reference": "x"}, "'x' names no arm or cell"),
        ({"arms": []}, "arms: List should have at least 1 item"),
        ({"more": 1}, "more: Extra inputs"),
    ):
        file.write_text(json.dumps(stored | change))
        with pytest.raises(ComparisonError, match=re.escape(message)) as error:
            read_study(file)
        assert str(file) in str(error.value)


def test_the_reference_is_the_first_arm_or_the_one_named() -> None:
    runs = two_arms()
    assert study_of(runs).reference == "constant"
    assert study_of(runs[::-1]).reference == "debiased"
    study = study_of(runs, reference="deb")
    assert (study.reference, study.verdicts[0].arm, study.verdicts[0].word) == ("debiased", "constant", "worse")
    with pytest.raises(
        UsageError, match=r"'debised' is no arm\. Did you mean 'debiased'\? The arms are: constant, deb"
    ):
        study_of(runs, reference="debised")


def test_one_seed_an_arm_says_nothing_about_the_weighting() -> None:
    study = study_of(two_arms([1.2], [0.8]))
    assert [verdict.word for verdict in study.verdicts] == ["one seed"]
    assert study.answer.startswith(
        "With one training seed an arm, nothing can be said about the weighting: constant 1.2"
    )


def test_of_many_arms_of_one_seed_the_extremes_are_named() -> None:
    schemes = ("constant", "p2", "min-snr", "debiased", "edm")
    runs = [one for value, name in enumerate(schemes, 1) for one in make_arm(name, [value / 10])]
    assert ": from 0.1 ('constant') to 0.5 ('edm') in fd_local" in study_of(runs).answer


def test_one_arm_has_no_verdict() -> None:
    study = study_of(make_arm("constant", HIGH))
    assert study.verdicts == []
    assert "There is one arm, 'constant', of 3 seeds" in study.answer


def test_corrected_figures_are_compared_where_all_have_one() -> None:
    runs = two_arms()
    for run, value in zip(runs, [*HIGH, *LOW], strict=True):
        add_evaluation(run, {"kd_local": figure_json(value, corrected=value - 0.5)})
    cells = {cell.metric: cell for cell in study_of(runs).cells}
    assert cells["kd_local"].figure == "corrected"
    assert [one.value for one in cells["kd_local"].arms[1].figures] == pytest.approx([value - 0.5 for value in LOW])
    add_evaluation(runs[0], {"kd_local": 1.2})
    cells = {cell.metric: cell for cell in study_of(runs).cells}
    assert cells["kd_local"].figure == "value"
    assert [one.value for one in cells["kd_local"].arms[1].figures] == LOW


@pytest.mark.parametrize(
    "field, value",
    [("num", 99), ("sampler", "ddpm"), ("weights", "raw"), ("features_identity", "ef"), ("dataset_hash", "x"),
     ("reference", "heldout"), ("class", 2), ("steps", 7)],
)  # fmt: skip
def test_what_was_measured_differently_is_refused_with_the_list(field: str, value: object) -> None:
    runs = make_arm("constant", HIGH)
    for seed, figure in enumerate(LOW):
        runs.append(make_run(f"d-{seed}", plain_spec("debiased", seed)))
        add_evaluation(runs[-1], {"fd_local": figure}, **{field: value})
    with pytest.raises(ComparisonError, match="measured differently and cannot be compared") as error:
        study_of(runs)
    assert f"{field}: constant-0-0 " in str(error.value)
    assert f"d-2 {value}" in str(error.value)


@pytest.mark.parametrize(
    "axis, field, value",
    [("num", "num", 99), ("weights", "weights", "raw"), ("EMA", "weights", "raw"), ("sampler", "sampler", "ddpm"),
     ("steps", "steps", 7), ("extractor", "features_identity", "ef"), ("reference", "reference", "x"),
     ("resolution", "dataset_hash", "x")],
)  # fmt: skip
def test_axes_may_be_declared_to_differ(axis: str, field: str, value: object) -> None:
    runs = make_arm("constant", HIGH)
    for seed, figure in enumerate(LOW):
        runs.append(make_run(f"d-{seed}", plain_spec("debiased", seed)))
        add_evaluation(runs[-1], {"fd_local": figure}, **{field: value})
    study = study_of(runs, by=[axis])
    assert [verdict.word for verdict in study.verdicts] == ["better"]
    assert any("differs from 'constant' in 2 settings" in warning and field in warning for warning in study.warnings)


def test_one_runs_evaluations_are_arms_along_an_axis() -> None:
    runs = make_arm("constant", HIGH)
    for run, value in zip(runs, LOW, strict=True):
        add_evaluation(run, {"fd_local": value}, weights="raw")
    study = study_of(runs, by=["weights"])
    assert [arm.name for arm in study.arms] == ["weights=ema", "weights=raw"]
    assert study.verdicts[0].word == "better"
    with pytest.raises(UsageError, match=r"`by`: unknown axis 'weihgts'\. Did you mean 'weights'\? Known: steps"):
        study_of(runs, by=["weihgts"])


def test_a_run_that_was_measured_otherwise_than_its_arm_is_refused() -> None:
    runs = two_arms()
    odd = make_run("odd", plain_spec("constant", 7))
    add_evaluation(odd, {"fd_local": 1.0}, num=99)
    with pytest.raises(ComparisonError, match=r"measured differently .*num: constant-0-0 100, .*, odd 99"):
        study_of([*runs, odd])


def test_seeds_without_a_figure_are_named() -> None:
    runs = two_arms()
    for run in runs[1:]:
        add_evaluation(run, {"fd_local": 1.0}, steps=10)
    study = study_of(runs)
    cell = study.cell("fd_local@10")
    assert [one.missing for one in cell.arms] == [[0], []]
    assert [verdict.num for verdict in study.verdicts if verdict.cell == "fd_local@10"] == [[3, 2]]
    assert any("constant-0-0 of arm 'constant' has no figure for fd_local@10" in text for text in study.warnings)


def test_seeds_are_paired_or_said_not_to_be() -> None:
    runs = [*make_arm("constant", HIGH), *make_arm("debiased", LOW, first=1)]
    study = study_of(runs)
    assert not study.paired
    assert "the arms' seeds are not paired (constant: 0, 1, 2; debiased: 1, 2, 3)" in study.notes
    with pytest.raises(UsageError, match="the arms do not have the same seeds"):
        study_of(runs, paired="yes")


def test_the_sampling_seed_that_follows_the_training_seed_is_preferred() -> None:
    runs = two_arms()
    for run in runs:
        add_evaluation(run, {"fd_local": 9.0}, seed=5)
    study = study_of(runs)
    assert study.cells[0].arms[1].mean == pytest.approx(0.8)
    assert [member.sampling_seeds for member in study.arms[0].members] == [[0], [1], [2]]


def test_runs_that_share_a_sampling_seed_are_warned_of() -> None:
    runs = []
    for seed, value in enumerate(HIGH):
        runs.append(make_run(f"c-{seed}", plain_spec("constant", seed)))
        add_evaluation(runs[-1], {"fd_local": value}, seed=0)
    study = study_of([*runs, *make_arm("debiased", LOW)])
    assert any("all runs of 'constant' were sampled with seed 0" in text for text in study.warnings)
    assert any("different sampling seeds" in text for text in study.notes)


def test_arms_are_compared_at_the_last_checkpoint_that_all_were_measured_at() -> None:
    runs = two_arms()
    add_evaluation(runs[0], {"fd_local": 5.0}, checkpoint=9)
    study = study_of(runs)
    assert study.cells[0].arms[0].figures[0].value == HIGH[0]
    assert study.arms[0].members[0].checkpoint == 6
    assert study.warnings == []


def test_arms_of_different_lengths_of_training_are_warned_of() -> None:
    runs = make_arm("constant", HIGH)
    for seed, figure in enumerate(LOW):
        runs.append(make_run(f"d-{seed}", plain_spec("debiased", seed)))
        add_evaluation(runs[-1], {"fd_local": figure}, checkpoint=3)
    (warning,) = study_of(runs).warnings
    assert warning.startswith(
        "the arms were measured after different numbers of training steps (constant 6, debiased 3)"
    )


def test_no_verdict_on_images_that_are_not_near_working() -> None:
    runs = two_arms()
    recall = figure_json(0.01, better="higher", floor=0.6, value_at_floor_num=0.01)
    add_evaluation(runs[0], {"recall": recall})  # a record of its own, of the same images
    for run in runs[1:]:
        add_evaluation(run, {"recall": 0.5})
    study = study_of(runs)
    verdict = next(one for one in study.verdicts if one.cell == "fd_local@50")
    assert verdict.word == "withheld"
    assert "recall is 0.01" in str(verdict.reason)
    assert study.answer.startswith("There is no verdict on 'debiased' against 'constant' in fd_local at 50 steps: ")
    assert any("'constant-0-0': " in text and "recall is 0.01" in text for text in study.warnings)


@pytest.mark.parametrize("text", ["{", "[]", "\x00", '{"schema_version": 1, "measured": {}, "metrics": {}}', ""])
def test_a_damaged_record_is_left_out_only_on_request(text: str) -> None:
    runs = two_arms()
    add_evaluation(runs[4], {"fd_local": 99.0})
    file = sorted(runs[4].evaluations_dir.iterdir())[-1]
    file.write_text(text)
    with pytest.raises(ComparisonError, match="is damaged") as error:
        study_of(runs)
    assert str(file) in str(error.value)
    study = study_of(runs, skip_damaged=True)
    assert study.cells[0].arms[1].mean == pytest.approx(0.8)
    (skipped,) = study.skipped
    assert str(file) in skipped


def test_runs_without_a_spec_or_an_evaluation_are_left_out_only_on_request() -> None:
    runs = two_arms()
    bare = make_run("bare", plain_spec("debiased", 8))
    with pytest.raises(ComparisonError, match="run 'bare' has not been evaluated"):
        study_of([*runs, bare])
    broken = make_run("broken", plain_spec("debiased", 9))
    (broken.path / "spec.json").write_text("{")
    with pytest.raises(RunError, match=r"broken/spec\.json"):
        study_of([*runs, broken])
    study = study_of([*runs, bare, broken], skip_damaged=True)
    assert [arm.seeds for arm in study.arms] == [[0, 1, 2], [0, 1, 2]]
    assert len(study.skipped) == 2


def test_the_primary_metric() -> None:
    runs = two_arms()
    for run in runs:
        add_evaluation(run, {"fd_local": 1.0, "precision": 0.5}, steps=10)
    assert study_of(runs).primary == "fd_local@50"
    assert any("fd_local@50 by default" in note for note in study_of(runs).notes)
    assert study_of(runs, primary="fd_local@10").primary == "fd_local@10"
    assert study_of(runs, primary="precision").primary == "precision@10"
    assert not any("by default" in note for note in study_of(runs, primary="precision").notes)
    with pytest.raises(UsageError, match=r"`primary`: no arm has the metric 'precison'\. Did you mean 'precision'\?"):
        study_of(runs, primary="precison@10")
    with pytest.raises(ComparisonError, match=r"not all arms have fd_local at 7 sampling steps; all have it at 50, 10"):
        study_of(runs, primary="fd_local@7")
    with pytest.raises(UsageError, match=r"write metric@steps, for example fd_local@50"):
        study_of(runs, primary="fd_local@x")


@pytest.mark.parametrize(
    "dataset, primary",
    [("digits", "fd_local"), ("photo-patches", "fd_local-ssl"), ("cifar10", "fd_local"), ("folder", "fid")],
)
def test_each_data_set_has_a_primary_metric_of_its_own(dataset: str, primary: str) -> None:
    runs = [make_run(f"{seed}", plain_spec("constant", seed, data={"dataset": dataset})) for seed in (0, 1)]
    for run in runs:
        add_evaluation(run, {"precision": 0.5, "fd_pixels": 1.0, "fd_local-ssl": 1.0, "fd_local": 1.0, "fid": 9.0})
    assert study_of(runs).primary == f"{primary}@50"


def crossed(rates: tuple[float, ...] = (1e-4, 1e-3), seeds: int = 3) -> list[Run]:
    """Two weightings, each with two learning rates; at the second, figures are larger by 1."""
    runs = []
    for weighting, values in (("constant", HIGH), ("debiased", LOW)):
        for number, rate in enumerate(rates):
            for seed, value in enumerate(values[:seeds]):
                spec = plain_spec(weighting, seed, optimizer={"lr": rate})
                runs.append(make_run(f"{weighting}-{number}-{seed}", spec))
                add_evaluation(runs[-1], {"fd_local": value + number})
    return runs


def test_crossed_settings_are_blocks_with_a_verdict_each_and_one_over_all() -> None:
    runs = crossed()
    assert len(study_of(runs).arms) == 4
    study = study_of(runs, blocks=["lr"])
    assert [arm.name for arm in study.arms] == ["constant", "debiased"]
    assert study.warnings == []
    cells = {cell.key: cell for cell in study.cells}
    assert list(cells) == ["fd_local@50", "fd_local@50 lr=0.0001", "fd_local@50 lr=0.001"]
    assert [one.value for one in cells["fd_local@50"].arms[1].figures] == pytest.approx([value + 0.5 for value in LOW])
    assert [one.value for one in cells["fd_local@50 lr=0.001"].arms[0].figures] == [value + 1 for value in HIGH]
    assert [(one.cell, one.word, one.num) for one in study.verdicts] == [(key, "better", [3, 3]) for key in cells]
    assert study.primary == "fd_local@50"


def test_blocks_need_every_arm_and_a_setting_that_differs() -> None:
    runs = crossed()
    with pytest.raises(
        UsageError, match=r"`blocks`: the arms do not differ in 'epss'.* They differ in: loss.weighting, opt"
    ):
        study_of(runs, blocks=["epss"])
    with pytest.raises(UsageError, match=r"the arms differ in nothing but optimizer\.lr"):
        study_of(runs[:6], blocks=["lr"])
    with pytest.raises(UsageError, match=r"told apart by `by` at once\. Give one of them"):
        study_of(runs, blocks=["lr"], by=["num"])
    with pytest.raises(ComparisonError, match=r"there is no run of debiased with lr=0\.001"):
        study_of(runs[:9], blocks=["lr"])
    study = study_of(runs[:-1], blocks=["lr"])  # one seed is missing in one block
    cells = {cell.key: [len(one.figures) for one in cell.arms] for cell in study.cells}
    assert cells == {"fd_local@50": [3, 2], "fd_local@50 lr=0.0001": [3, 3], "fd_local@50 lr=0.001": [3, 2]}


def test_efficiency_from_checkpoints_and_steps() -> None:
    """Each arm falls by its own rate, so that the level is reached twice as soon by one."""
    runs = []
    for weighting, rate in (("constant", 1.0), ("debiased", 2.0)):
        for seed in range(3):
            run = make_run(f"{weighting}-{seed}", plain_spec(weighting, seed))
            for checkpoint in (0, 2, 4, 6, 8):
                add_evaluation(run, {"fd_local": 20 - rate * checkpoint + 0.01 * seed}, checkpoint=checkpoint)
            for steps in (10, 20, 30):
                add_evaluation(run, {"fd_local": 20 - rate * steps / 10}, steps=steps, checkpoint=8)
            runs.append(run)
    study = study_of(runs, levels={"fd_local": 16.0})
    assert {row[1] for row in efficiency_table(study).rows} == {"fd_local@50 of 16", "fd_local of 16"}
    found = {one.curve: one for one in study.efficiency}
    training = found["fd_local@50 against images"]
    assert (training.kind, training.arm, training.at_least) == ("training", "debiased", False)
    assert training.ratio == pytest.approx(2, rel=0.01)
    assert training.reached["constant"] == pytest.approx([32, 32.08, 32.16])
    steps = found["fd_local against steps"]
    assert (steps.kind, steps.at_least) == ("sampling", False)
    assert steps.reached["constant"] == pytest.approx([34, 34.008, 34.016], abs=1e-3)
    assert steps.reached["debiased"] == [20, 20, 20]
    at = study_of(runs, levels={"fd_local@50": 16.0}).efficiency
    assert [one.curve for one in at] == ["fd_local@50 against images"]
    assert at[0].ratio == training.ratio
    both = {one.curve: one.level for one in study_of(runs, levels={"fd_local": 16.0, "fd_local@50": 14.0}).efficiency}
    assert both == {"fd_local@50 against images": 14.0, "fd_local against steps": 16.0}
    late = study_of(runs, levels={"fd_local": 11.9}).efficiency[0]
    assert (late.at_least, late.reached["constant"]) == (True, [None, None, None])
    with pytest.raises(ComparisonError, match="a level of kd_local is declared, and not every arm has a curve of it"):
        study_of(runs, levels={"kd_local": 1.0})
    with pytest.raises(ComparisonError, match=r"fd_local over checkpoints, sampled in 7 steps.* --steps 7"):
        study_of(runs, levels={"fd_local@7": 1.0})


def test_a_run_that_is_named_twice() -> None:
    runs = two_arms()
    with pytest.raises(UsageError, match="a run is named twice"):
        study_of([*runs, Run(runs[0].path.parent / "." / runs[0].name)])


def test_a_study_of_another_kind_is_refused() -> None:
    with pytest.raises(ComparisonError, match="x is damaged"):
        Study.from_json({}, source="x")


def test_the_environment_is_found_without_running_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError(f"{arguments} was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(platform, "_uname_cache", None)  # the interpreter's own memory of the answer
    monkeypatch.setattr(platform, "_platform_cache", {})
    assert platform.machine() in environment([])["platform"]
