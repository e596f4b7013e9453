"""Arms: lists of values, their product, their names, and what is refused before anything starts."""

from typing import Any

import pytest
from studies import arms_of, names

from debiasctl.errors import ReferenceSyntaxError, UsageError
from debiasctl.sweeps.plan import differences, in_rounds, run_name, split_values
from debiasctl.sweeps.study import Study


@pytest.mark.parametrize(
    "setting, text, values",
    [
        ("loss.weighting", "constant, p2", ["constant", "p2"]),
        ("loss.weighting", "min-snr:gamma=5,debiased", ["min-snr:gamma=5", "debiased"]),
        ("loss.weighting", "a:b=1,c=2,d:e=3,f", ["a:b=1,c=2", "d:e=3", "f"]),
        (
            "loss.weighting",
            "product:factors=[p2,'min-snr:gamma=2'],p2",
            ["product:factors=[p2,'min-snr:gamma=2']", "p2"],
        ),
        ("model.backbone", "unet:channel_mult=[1,2,2,2],dit", ["unet:channel_mult=[1,2,2,2]", "dit"]),
        ("model.backbone", "unet:a='x,y',b=1", ["unet:a='x,y',b=1"]),
        ("optimizer.lr", "1e-3,2e-3", ["1e-3", "2e-3"]),
        ("optimizer.betas", "[0.9,0.99],[0.9,0.999]", ["[0.9,0.99]", "[0.9,0.999]"]),
    ],
)
def test_a_list_is_split_between_values_alone(setting: str, text: str, values: list[str]) -> None:
    assert split_values(setting, text) == values


@pytest.mark.parametrize("text", ["a,", ",a", "a,,b", " "])
def test_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="a value is empty"):
        split_values("loss.weighting", text)


def test_an_open_bracket_is_refused() -> None:
    with pytest.raises(ReferenceSyntaxError, match="left open"):
        split_values("optimizer.betas", "[0.9,0.99")


@pytest.mark.parametrize(
    "study, expected",
    [
        ({}, ["debiased"]),
        ({"settings": {"weighting": "p2"}}, ["p2"]),
        ({"grid": {"weighting": ["constant", "min-snr:gamma=5"]}}, ["constant", "min-snr-gamma5"]),
        ({"grid": {"weighting": ["constant"], "lr": ["1e-3", 0.002]}}, ["lr0.001", "lr0.002"]),
        (
            {"grid": {"weighting": ["constant", "p2"], "optimizer.lr": [1e-3, 2e-3]}},
            ["constant-lr0.001", "constant-lr0.002", "p2-lr0.001", "p2-lr0.002"],
        ),
        ({"grid": {"deterministic": [True, False]}}, ["deterministictrue", "deterministicfalse"]),
        ({"grid": {"images": ["1000", 3000]}}, ["images1000", "images3000"]),
        ({"arms": [{"weighting": "p2"}, {"name": "strong", "weighting": "debiased", "lr": 0.01}]}, ["p2", "strong"]),
        ({"arms": [{"training": {"batch_size": 8}, "name": "a"}, {"training.batch_size": 16}]}, ["a", "batch_size16"]),
    ],
)
def test_arms_are_named_by_what_differs(study: dict[str, Any], expected: list[str]) -> None:
    assert names(**study) == expected


def test_a_long_value_gives_a_short_name_that_says_which() -> None:
    tables = [f"table:points=[[0.001,1],[1,{last}],[1000,1],[10000,1]],axis=snr,space=eps" for last in (2, 3)]
    first, second = names(grid={"weighting": tables})
    assert first != second
    assert max(map(len, (first, second))) <= 40


def test_the_layers_of_settings_are_those_of_train() -> None:
    study = Study(
        dataset="digits", settings={"model": {"prediction": "v"}, "batch-size": 16}, grid={"batch_size": [8, 32]}
    )
    file = {"optimizer": {"lr": 0.5}, "training": {"batch_size": 4, "steps": 7}}
    arms = arms_of(study, file=file, layers=[{"training": {"steps": 9}}])
    assert [arm.spec.training.batch_size for arm in arms] == [8, 32]
    assert {(arm.spec.model.prediction, arm.spec.optimizer.lr, arm.spec.training.steps) for arm in arms} == {
        ("v", 0.5, 9)
    }


def test_a_budget_in_images_is_one_in_steps_of_each_arms_batch() -> None:
    arms = arms_of(Study(dataset="digits", settings={"images": 1000}, grid={"batch_size": [8, 300]}))
    assert [arm.spec.training.steps for arm in arms] == [125, 4]


@pytest.mark.parametrize(
    "study, message",
    [
        ({"grid": {"weighting": ["constant", "debias"]}}, r"unknown weighting 'debias'\. Did you mean 'debiased'\?"),
        ({"grid": {"weighting": ["min-snr", "min-snr:gamma=5"]}}, "arms 'min-snr' and 'min-snr-gamma5' train the same"),
        ({"grid": {"weightin": ["p2"]}}, "unknown setting 'weightin'. Did you mean 'weighting'"),
        ({"grid": {"lr": ["-1"]}}, "optimizer.lr: input should be greater than 0"),
        ({"grid": {"seed": [1, 2]}}, "all arms have the same seeds"),
        ({"settings": {"training": {"seed": 3}}}, "all arms have the same seeds"),
        ({"grid": {"data.dataset": ["digits", "mnist"]}}, "all arms have one data set"),
        ({"grid": {"images": ["many"]}}, "`images=many`: give a budget"),
        ({"grid": {"batch_size": list(range(1, 30)), "steps": list(range(1, 30))}}, "the grid has 841 arms"),
        ({"arms": [{"name": "a", "lr": 1}, {"name": "a", "lr": 2}]}, "two arms are named 'a'"),
        ({"arms": [{"name": "a b", "lr": 1}]}, "'a b' is not an arm's name"),
        ({"arms": [{"name": 3, "lr": 1}]}, "an arm's name has to be text"),
    ],
)
def test_what_cannot_be_is_refused(study: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names(**study)


def test_arms_on_different_images_are_refused(tmp_path) -> None:
    from PIL import Image

    for number in range(80):
        Image.new("RGB", (16, 16), (number, 2 * number, 3)).save(tmp_path / f"{number}.png")
    study = Study(dataset=f"folder:path={tmp_path}", grid={"image_size": [8, 16]})
    with pytest.raises(
        UsageError, match=r"arms 'image_size8' and 'image_size16' differ in their data: data\.dataset\.options"
    ):
        arms_of(study)


def test_differences_ignore_seeds_origins_and_what_is_left_to_the_machine() -> None:
    (arm,) = arms_of(Study(dataset="digits"))
    other = arm.seeded(5)
    compute = other.compute.model_copy(update={"precision": "fp32", "compile": False})
    assert differences(arm.spec, other.model_copy(update={"compute": compute})) == []
    optimizer = other.optimizer.model_copy(update={"lr": 0.5})
    (found,) = differences(arm.spec, other.model_copy(update={"optimizer": optimizer}))
    assert found.startswith("optimizer.lr (")
    assert found.endswith("there 0.5)")


def test_rounds_have_all_arms_of_a_seed_before_the_next_seed() -> None:
    assert [run_name("s", arm, seed) for arm, seed in in_rounds(["a", "b"], [0, 1])] == [
        "s-a-s0",
        "s-b-s0",
        "s-a-s1",
        "s-b-s1",
    ]
