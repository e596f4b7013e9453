from pathlib import Path

import pytest
from records import plain_spec

from debiasctl.comparison.arms import Arms, arms_of, confounded, seeds_apart, settings_of
from debiasctl.comparison.words import setting_text
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec


def group(*specs: RunSpec) -> Arms:
    """The arms of runs run-0, run-1, ... that have these specs."""
    return arms_of([Run(Path(f"run-{number}")) for number in range(len(specs))], specs)


def test_runs_that_differ_in_the_seed_alone_are_an_arm() -> None:
    found = group(plain_spec("constant", 2), plain_spec("debiased", 0), plain_spec("constant", 1))
    assert [(arm.name, arm.seeds) for arm in found.arms] == [("constant", (1, 2)), ("debiased", (0,))]
    assert [run.name for run in found.arms[0].runs] == ["run-2", "run-0"]
    assert found.differing == ("loss.weighting",)
    assert [arm.settings for arm in found.arms] == [{"loss.weighting": "constant"}, {"loss.weighting": "debiased"}]


def test_provenance_and_versions_of_packages_are_no_difference() -> None:
    first = plain_spec()
    weighting = first.loss.weighting.model_copy(update={"version": "9"})
    second = first.model_copy(
        update={
            "loss": first.loss.model_copy(update={"weighting": weighting}),
            "provenance": first.provenance.model_copy(update={"run": "x", "packages": {"torch": "2"}}),
            "training": first.training.model_copy(update={"seed": 1}),
        }
    )
    assert len(group(first, second).arms) == 1


def test_an_option_that_is_unset_is_one_that_there_was_not() -> None:
    first = plain_spec()
    backbone = first.model.backbone
    backbone = backbone.model_copy(update={"options": {**backbone.options, "preset": None}})
    second = first.model_copy(
        update={
            "model": first.model.model_copy(update={"backbone": backbone}),
            "training": first.training.model_copy(update={"seed": 1}),
        }
    )
    assert len(group(first, second).arms) == 1


def test_what_is_recorded_makes_no_arm_and_is_noted() -> None:
    found = group(plain_spec(seed=0), plain_spec(seed=1, training={"seed": 1, "steps": 6, "log_every": 7}))
    (arm,) = found.arms
    assert arm.seeds == (0, 1)
    assert any("differ in training.log_every" in note for note in found.notes)


@pytest.mark.parametrize(
    "specs, names",
    [
        ([plain_spec("constant"), plain_spec("debiased")], ["constant", "debiased"]),
        ([plain_spec("constant"), plain_spec("constant", optimizer={"lr": 0.001})], ["lr=0.0001", "lr=0.001"]),
        (
            [plain_spec("constant"), plain_spec("debiased", optimizer={"lr": 0.001})],
            ["constant lr=0.0001", "debiased lr=0.001"],
        ),
        ([plain_spec("min-snr:gamma=3"), plain_spec("min-snr:gamma=5")], ["min-snr:gamma=3", "min-snr:gamma=5"]),
        ([plain_spec("min-snr:gamma=3"), plain_spec("constant")], ["min-snr", "constant"]),
        ([plain_spec(ema={"decay": 0.9}), plain_spec(ema={"kind": "half-life"})], None),
        ([plain_spec()], ["debiased"]),
        (
            [plain_spec(), plain_spec(loss={"weighting": "debiased", "metric": "huber"})],
            ["metric=mse", "metric=huber"],
        ),
    ],
)
def test_arms_are_named_by_what_differs(specs: list[RunSpec], names: list[str] | None) -> None:
    found = [arm.name for arm in group(*specs).arms]
    assert found == names if names else len(set(found)) == len(specs)


def test_more_than_one_difference_is_confounded() -> None:
    found = group(
        plain_spec("constant"), plain_spec("debiased"), plain_spec("debiased", optimizer={"lr": 0.001, "eps": 1e-6})
    )
    names = [arm.name for arm in found.arms]
    (warning,) = confounded({arm.name: arm.settings for arm in found.arms}, names[0])
    assert (
        f"'{names[2]}' differs from '{names[0]}' in 3 settings (loss.weighting, optimizer.lr, optimizer.eps)" in warning
    )


def test_content_that_follows_from_the_data_set_is_no_difference_of_its_own() -> None:
    content = plain_spec().content
    assert content is not None
    other = content.model_dump() | {"num_train": 9, "content_hash": "cd"}
    changed = plain_spec(content=other)
    assert group(plain_spec(), changed).differing == ("content.content_hash",)
    named = plain_spec(data={"dataset": "mnist"}, content=other)
    assert group(plain_spec(), named).differing == ("data.dataset",)


def test_equal_runs_say_no_more_than_one() -> None:
    found = group(plain_spec(seed=3), plain_spec("constant", 3), plain_spec(seed=3), plain_spec(seed=1))
    assert [(arm.name, arm.seeds, [run.name for run in arm.runs]) for arm in found.arms] == [
        ("debiased", (1, 3), ["run-3", "run-0"]),
        ("constant", (3,), ["run-1"]),
    ]
    (warning,) = found.warnings
    assert warning.startswith("the runs run-0, run-2 have equal specs and the same seed 3")
    assert "run-0 alone counts" in warning


def test_seeds_that_are_not_paired_are_listed() -> None:
    assert seeds_apart({"a": [0, 1], "b": [1, 0]}) is None
    assert seeds_apart({"a": [0, 1], "b": [1]}) == "a: 0, 1; b: 1"


def test_settings_have_a_plugin_as_it_is_typed() -> None:
    found = settings_of(plain_spec("min-snr:gamma=3"))
    assert found["loss.weighting"] == "min-snr:gamma=3"
    assert "training.seed" not in found
    assert not any(field.startswith(("provenance", "schema_version")) for field in found)


@pytest.mark.parametrize(
    ("value", "text"), [([], "none"), (["a:b=1", "c"], "a:b=1, c"), ([0.9, 0.99], "[0.9, 0.99]"), (0.001, "0.001")]
)
def test_a_setting_is_shown_as_it_is_typed(value: object, text: str) -> None:
    assert setting_text(value) == text
