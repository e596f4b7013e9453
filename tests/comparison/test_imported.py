"""Models from elsewhere beside own runs: arms of their own name, of whose training nothing is said."""

from pathlib import Path

import pytest
from records import add_evaluation, make_run, plain_spec

from debiasctl.comparison.arms import arms_of, settings_of
from debiasctl.comparison.run_sources import read_sources
from debiasctl.comparison.study import study_of
from debiasctl.comparison.tables import compare, spec_differences
from debiasctl.runs.store import Run
from debiasctl.specs.recorded import ImportedSection
from debiasctl.specs.sections import RunSpec


def imported_spec(name: str = "adm", *, weighting: str | None = None, **sections) -> RunSpec:
    source = {"name": "guided-diffusion", "options": {"path": "/a.pt"}}
    section = ImportedSection(name=name, source=source, sha256="ab", weighting_known=weighting is not None)
    return plain_spec(weighting or "constant", **sections).model_copy(update={"imported": section})


def names(*specs: RunSpec) -> list[str]:
    runs = [Run(Path(f"run-{number}")) for number in range(len(specs))]
    return [arm.name for arm in arms_of(runs, specs).arms]


def test_each_is_an_arm_of_its_own_name() -> None:
    assert names(imported_spec("adm"), imported_spec("other")) == ["adm", "other"]
    assert names(imported_spec("adm")) == ["adm"]


def test_own_arms_keep_the_names_that_they_have_without_it() -> None:
    assert names(imported_spec(), plain_spec("debiased"), plain_spec("debiased", 1)) == ["adm", "debiased"]


def test_own_arms_beside_it_are_named_by_what_tells_them_apart() -> None:
    specs = [plain_spec("constant"), imported_spec(), plain_spec("debiased", optimizer={"lr": 0.001})]
    assert names(*specs) == ["constant lr=0.0001", "adm", "debiased lr=0.001"]


def test_a_name_that_an_own_arm_has_too_is_made_longer() -> None:
    assert len(set(names(imported_spec("debiased"), plain_spec("debiased")))) == 2


def test_what_nobody_has_stated_is_no_difference() -> None:
    own = plain_spec("debiased", optimizer={"lr": 0.5}, ema={"decay": 0.5})
    assert set(spec_differences([imported_spec(), own])) == {"imported.name"}
    assert "loss.weighting" not in settings_of(imported_spec())
    assert settings_of(imported_spec(weighting="p2"))["loss.weighting"] == "p2"
    found = spec_differences([imported_spec(weighting="p2"), own])
    assert found["loss.weighting.name"] == ["p2", "debiased"]
    nothing = {"image_size": 8, "channels": 1, "classes": [], "class_counts": [], "num_train": 0, "num_heldout": 0}
    shapes = {"data": {"dataset": "no-images:image_size=8"}, "content": {**nothing, "content_hash": "cd"}}
    assert set(spec_differences([imported_spec(**shapes), own])) == {"imported.name"}
    deeper = spec_differences([imported_spec(diffusion={"schedule": "cosine"}), own])
    assert deeper["diffusion.schedule.name"] == ["cosine", "linear"]


def measured(checkpoints: list[int]) -> list[Run]:
    adm, own = make_run("adm", imported_spec()), make_run("own", plain_spec("debiased"))
    add_evaluation(adm, {"fd_local": 1.0}, checkpoint=0)
    for step in checkpoints:
        add_evaluation(own, {"fd_local": 100.0 - step}, checkpoint=step)
    return [adm, own]


@pytest.mark.parametrize("checkpoints", [[6], [0, 3, 6]])
def test_an_own_run_is_taken_at_its_last_checkpoint(checkpoints: list[int]) -> None:
    """Its checkpoint 0 is the network before any training, and that of a model from elsewhere the one after it."""
    study = study_of(measured(checkpoints))
    (cell,) = study.cells
    assert [one.figures[0].value for one in cell.arms] == [1.0, 94.0]
    assert [arm.members[0].checkpoint for arm in study.arms] == [None, 6]
    assert not any("different numbers of training steps" in text for text in study.warnings)


def test_a_table_says_nothing_of_the_length_of_its_training() -> None:
    runs = measured([6])
    assert not any("different numbers of training steps" in text for text in compare(runs).notes)
    other = make_run("other", plain_spec("constant"))
    add_evaluation(other, {"fd_local": 3.0}, checkpoint=3)
    assert any("different numbers of training steps" in text for text in compare([*runs, other]).notes)


def test_a_weight_that_is_unknown_is_not_drawn() -> None:
    runs = measured([6])
    sources = read_sources(study_of(runs), runs)
    assert [line.arm for line in sources.weights] == ["debiased"]
    assert any("a weighting nobody has stated" in note for note in sources.notes)
