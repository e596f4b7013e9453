"""Study files: what they say, and one message with the line for what they say wrongly."""

from pathlib import Path

import pytest
from studies import arms_of

from debiasctl.errors import UsageError
from debiasctl.sweeps.study_file import is_study_file, read_study

WHOLE = """\
name: digits-two
dataset: digits
settings: {batch_size: 16, training: {steps: 100}}
grid:
  weighting: [constant, "min-snr:gamma=3"]
  lr: [1e-3]
seeds: 2
evaluate: {steps: [10, 50, 10], num: 100, sampler: "ddim:eta=1", features: pixels, metrics: [fd_pixels]}
primary: fd_pixels@50
reference: constant
margin: 0.1
until_decided: {max_seeds: 6}
engine: local
threads: 2
"""


def refusal(tmp_path: Path, text: str, name: str = "study.yaml") -> str:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        arms_of(*read_study(file))
    message = str(caught.value)
    assert str(file) in message
    return message.replace(str(file), "FILE")


def test_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(WHOLE)
    study, origin = read_study(file)
    assert (study.name, study.seeds, study.evaluate.steps) == ("digits-two", [0, 1], [10, 50])
    assert study.until_decided is not None
    assert study.until_decided.max_seeds == 6
    arms = arms_of(study, origin)
    assert [arm.name for arm in arms] == ["constant", "min-snr-gamma3"]
    assert {(arm.spec.training.batch_size, arm.spec.training.steps, arm.spec.optimizer.lr) for arm in arms} == {
        (16, 100, 1e-3)
    }


def test_a_file_without_a_name_gives_the_sweep_its_own(tmp_path: Path) -> None:
    (tmp_path / "four.yml").write_text("dataset: digits\nevaluate: {steps: 5}\nseeds: [3, 7]\n")
    study, _ = read_study(tmp_path / "four.yml")
    assert (study.name, study.evaluate.steps, study.seeds) == ("four", [5], [3, 7])


def test_json_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"dataset": "digits",\n "seeds": 1}')
    assert read_study(tmp_path / "a.json")[0].seeds == [0]


@pytest.mark.parametrize(
    "text, expected", [("study.yaml", True), ("a/B.YML", True), ("digits", False), ("x.zip", False)]
)
def test_what_is_taken_for_a_study_file(text: str, expected: bool) -> None:
    assert is_study_file(text) is expected


@pytest.mark.parametrize(
    "text, message",
    [
        ("dataset: digits\nseeds: three\n", "FILE, line 2: seeds: input should be a valid list"),
        ("dataset: digits\nseeds:\n- 1\n- x\n", "FILE, line 4: seeds.1: input should be a valid integer"),
        ("dataset: digits\nseeds: [1, 1]\n", "FILE, line 2: seeds: a seed is given twice"),
        ("dataset: digits\nseeds: 0\n", "FILE, line 2: seeds: give a number of seeds from 1 to 1000"),
        ("dataset: digits\n\ngrids: {}\n", "FILE, line 3: unknown option 'grids'. Did you mean 'grid'?"),
        ("dataset: digits\nevaluate:\n  nums: 3\n", "FILE, line 3: unknown option 'evaluate.nums'. Did you mean 'num'"),
        ("dataset: digits\nmargin: 2\n", "FILE, line 2: margin: input should be less than 1"),
        ("dataset: digits\nmargin: true\n", "FILE, line 2: margin: input should be a number"),
        ("dataset: digits\nuntil_decided: {max_seeds: 1}\n", "FILE, line 2: until_decided.max_seeds: input should be"),
        ("dataset: digits\ngrid:\n  weighting: p2\n", "FILE, line 3: grid.weighting: input should be a valid list"),
        ("dataset: digits\ngrid: {lr: []}\n", "FILE, line 2: grid: 'lr' has no values"),
        ("seeds: 3\n", "FILE: option 'dataset' is required"),
        ("dataset: digits\ngrid: {lr: [1]}\narms: [{lr: 1}]\n", "FILE, line 3: arms: a study has a grid or a list"),
        ("dataset: digits\nseeds: {a: [\n", "study file FILE cannot be read: "),
        ("dataset: digits\ndataset: mnist\n", "the key 'dataset' is given twice (line 2, column 1)"),
        ("dataset: !!python/name:os.system\n", "are not read (line 1"),
        ("- digits\n", "FILE must hold keys such as dataset, grid and seeds"),
        ("", "FILE must hold keys"),
        # what only resolving the settings finds
        ("dataset: digits\ngrid:\n  weighting:\n  - p2\n  - debias\n", "FILE, line 5: unknown weighting 'debias'"),
        ("dataset: digits\ngrid:\n  weighting: [p2]\n  weightin: [p2]\n", "FILE, line 4: unknown setting 'weightin'"),
        ("dataset: digits\nsettings:\n  steps: 5\n  lr: -1\n", "FILE, line 4: spec: optimizer.lr: input should be"),
        ("dataset: digits\narms:\n- lr: 1\n- {lr: 2}\n- lr: 1\n", "FILE, line 5: arms 'lr1' and 'lr1' train the same"),
        ("dataset: digits\narms:\n- lr: 1\n- lr: 2\n  seed: 4\n", "FILE, line 5: all arms have the same seeds"),
        ("dataset: digits\ngrid:\n  lr:\n  - 1.0\n  - .nan\n", "FILE, line 5: nan is not a finite number"),
        ("dataset: digits\nsettings:\n  lr: -.inf\n", "FILE, line 3: -inf is not a finite number"),
        ("dataset: digits\narms:\n- name: 3\n", "FILE, line 2: an arm's name has to be text"),
        ("dataset: digitz\n", "FILE, line 1: unknown dataset 'digitz'. Did you mean 'digits'?"),
    ],
)  # fmt: skip
def test_one_clear_message_with_the_line(tmp_path: Path, text: str, message: str) -> None:
    assert message in refusal(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_study(tmp_path / "none.yaml")
