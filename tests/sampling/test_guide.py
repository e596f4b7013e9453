"""Sampling with another run, or the run itself at an earlier checkpoint, as the weaker network."""

import json
import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from tiny import error_of, make_spec, succeed, train

from debiasctl.diffusion.grid_sampler import Model
from debiasctl.errors import UsageError
from debiasctl.evaluation.record import read_own_record
from debiasctl.paths import runs_dir
from debiasctl.runs.guides import pin_guide
from debiasctl.runs.pins import pinned, unpinned
from debiasctl.runs.removal import remove_run
from debiasctl.runs.store import Run
from debiasctl.sampling import Samples, make_request, sample

CPU = torch.device("cpu")
_LEARNS = {"training__steps": 8, "training__checkpoint_every": 4, "optimizer__lr": 0.05, "optimizer__decay": "none"}


def change_content(folder: Path, **changes) -> None:
    raw = json.loads((folder / "spec.json").read_text())
    raw["content"] |= changes
    (folder / "spec.json").write_text(json.dumps(raw))


@pytest.fixture(scope="module")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("guided")
        patch.setenv("DEBIASCTL_HOME", str(home))
        train("main", make_spec(**_LEARNS))
        train("flow", make_spec(**_LEARNS, model__prediction="flow", diffusion__schedule="cosine", training__seed=1))
        train("dropout", make_spec(**_LEARNS, model__label_dropout=0.2))
        train("plain", make_spec(**_LEARNS, model__conditional=False))
        shutil.copytree(home / "runs" / "flow", home / "runs" / "large")
        change_content(home / "runs" / "large", image_size=16)
        return home / "runs"


@pytest.fixture
def main(_store: Path, debiasctl_home: Path) -> Run:
    shutil.copytree(_store, debiasctl_home / "runs")
    return Run(runs_dir() / "main")


def draw(run: Run, guide: str | None = None, sampler: str = "ddim:guidance=2", num: int = 3, **changes) -> Samples:
    settings = {"num": num, "num_steps": 3, "sampler": sampler, "seed": 0, "checkpoint": None, "weights": "ema"}
    with ExitStack() as pins:
        found = None if guide is None else pin_guide(guide, run, pins)
        request = make_request(run, run.spec(), **settings | changes, guide=found)
        return sample(run, run.spec(), request, device=CPU)


def test_an_earlier_checkpoint_of_the_run_guides_it(main: Run) -> None:
    plain, guided = draw(main, sampler="ddim"), draw(main, "self:checkpoint=4")
    assert (plain.description.nfe, guided.description.nfe) == (3, 6)
    assert plain.description.guide is None
    about = guided.description.guide
    assert about is not None
    assert (about.run, about.step, about.weights, about.unconditional) == ("main", 4, "ema", False)
    assert guided.folder != plain.folder
    assert not torch.equal(plain.images, guided.images)
    again = draw(main, "main:checkpoint=4")
    assert again.reused
    assert again.folder == guided.folder
    within = draw(main, "self:checkpoint=4", "ddim:guidance=2,guidance_interval=[0.1,5]").description.nfe
    assert within == 4  # of the steps at sigma/alpha 157, 3.4 and 0.01, one lies within


def test_images_depend_on_the_weights_of_the_guide_and_not_on_its_name(main: Run) -> None:
    few = draw(main, "flow", num=2)
    more = draw(main, "flow", num=5)
    assert torch.equal(more.images[:2], few.images)  # one series
    assert few.description.series == more.description.series
    for other in ("flow:checkpoint=4", "flow:weights=raw", "dropout", "dropout:unconditional=true", "plain"):
        assert draw(main, other, num=2).description.series != few.description.series
    shutil.copytree(runs_dir() / "flow", runs_dir() / "other-name")
    remove_run(Run(runs_dir() / "flow"))
    renamed = draw(main, "other-name", num=2)
    assert renamed.reused
    assert renamed.folder == few.folder


def test_guidance_of_scale_1_and_no_interval_change_no_bit(main: Run) -> None:
    plain = draw(main, sampler="ddim")
    for sampler in ("ddim:guidance=1", "ddim:guidance=2,guidance_interval=[5,5]"):
        guided = draw(main, "flow", sampler)
        assert torch.equal(guided.images, plain.images)
        assert guided.description.nfe == plain.description.nfe


def test_the_run_itself_without_a_class_is_classifier_free_guidance(main: Run) -> None:
    run = Run(runs_dir() / "dropout")
    classifier_free, guided = (
        draw(run, None, "ddim:guidance=3"),
        draw(run, "self:unconditional=true", "ddim:guidance=3"),
    )
    assert torch.equal(classifier_free.images, guided.images)
    assert classifier_free.description.nfe == guided.description.nfe == 6


def test_a_guide_has_no_classes_where_the_run_has_none(main: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    weaker = Model._weaker

    def spy(self, x, level):
        seen.append(self._denoiser._labels_for_weak(x, self._labels))
        return weaker(self, x, level)

    monkeypatch.setattr(Model, "_weaker", spy)
    draw(Run(runs_dir() / "plain"), "dropout")  # which has a number for no class
    draw(main, "plain")
    assert seen[0].tolist() == [10] * 16
    assert seen[-1] is None


@pytest.mark.parametrize(
    "run, guide, sampler, problem",
    [
        ("main", "flow", "ddim", "`guide` has no effect without a scale.*`sampler=ddim:guidance=2`"),
        (
            "main",
            "self",
            "ddim:guidance=2",
            r"checkpoint 8 of run 'main'.* Name an earlier checkpoint \(it has 4\): `guide=self",
        ),
        ("main", "large", "ddim:guidance=2", "its images are 1x16x16, and this run's 1x8x8"),
        ("plain", "main", "ddim:guidance=2", "of a run without classes: .*without label dropout"),
        ("main", "main:unconditional=true", "ddim:guidance=2", "without a class: .*without label dropout"),
        ("main", "plain:unconditional=true", "ddim:guidance=2", "it was trained without classes. Leave that out"),
        ("main", "main:unconditional=perhaps", "ddim:guidance=2", "unconditional is true or false"),
        ("main", "main:checkpint=4", "ddim:guidance=2", "unknown option 'checkpint'. Did you mean 'checkpoint'"),
        ("main", "main:checkpoint=5", "ddim:guidance=2", "has no checkpoint '5'. It has: 4, 8"),
        ("main", "main:weights=mean", "ddim:guidance=2", "`guide=RUN:weights=mean`: choose ema"),
        ("main", ":checkpoint=5", "ddim:guidance=2", "names no run"),
        ("flow", "main", "ddim:guidance=2", "run 'main' cannot guide run 'flow': .*no noise level with sigma/alpha"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused(main: Run, run: str, guide: str, sampler: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        draw(Run(runs_dir() / run), guide, sampler)


def test_other_classes_are_refused(main: Run) -> None:
    change_content(runs_dir() / "flow", classes=[str(digit) for digit in range(1, 11)])
    with pytest.raises(UsageError, match="it was trained with other classes"):
        draw(main, "flow")


def test_a_schedule_that_lacks_levels_guides_within_those_it_has(main: Run) -> None:
    """The cosine schedule ends at a sigma/alpha of 20,000, and the linear one at 157."""
    within = draw(Run(runs_dir() / "flow"), "main", "ddim:guidance=2,guidance_interval=[0.1,50]")
    assert within.description.nfe == 4


def test_an_interval_without_any_step_is_noted(main: Run, caplog: pytest.LogCaptureFixture) -> None:
    none = draw(Run(runs_dir() / "dropout"), None, "ddim:guidance=2,guidance_interval=[1000,null]")
    assert none.description.nfe == 3
    assert "no noise level of 3 steps lies within guidance_interval: nothing is guided" in caplog.text


def test_a_guide_in_use_is_not_pruned(main: Run) -> None:
    with ExitStack() as pins:
        guide = pin_guide("flow:checkpoint=4", main, pins)
        assert (guide.run.name, guide.step, str(guide)) == ("flow", 4, "flow:checkpoint=4,weights=ema")
        with unpinned(guide.run.checkpoint_path(4)) as free:
            assert not free
    with pinned(main, 4):
        pass


def test_the_command_line_says_and_compares_who_guided(main: Run) -> None:
    guided = ["--sampler", "ddim:guidance=2", "--guide", "self:checkpoint=4"]
    said = succeed("sample", "main", "--num", "2", "--steps", "2", *guided).out
    assert "(4 NFE)" in " ".join(said.split())
    assert "guided by self:checkpoint=4,weights=ema" in " ".join(said.split())
    small = ["--num", "16", "--steps", "2", "--features", "pixels", "--seed", "0"]
    printed = json.loads(succeed("evaluate", "main", *small, *guided, "--json").out)["evaluations"][0]
    assert printed["nfe"] == 4
    assert printed["measured"]["guide"] == "self:checkpoint=4,weights=ema"
    assert "guide_sha256" not in printed["measured"]
    succeed("evaluate", "dropout", *small, "--sampler", "ddim:guidance=2")  # classifier-free
    problem = error_of("compare", "main", "dropout", code=1)
    assert "(guide: main self:checkpoint=4,weights=ema, dropout none)" in problem
    assert json.loads(succeed("compare", "main", "dropout", "--by", "guide", "--json").out)
    succeed("evaluate", "dropout", *small, *guided)  # each by its own checkpoint
    assert json.loads(succeed("compare", "main", "dropout", "--json").out)
    other = json.loads(
        succeed("evaluate", "main", *small, "--sampler", "ddim:guidance=2", "--guide", "flow", "--json").out
    )
    assert len(other["evaluations"][0]["measured"]["guide_sha256"]) == 64
    for key in main.evaluation_keys():
        assert read_own_record(main.evaluations_dir / f"{key}.json", main, way_on="").measured.guide is not None


def test_a_strip_of_runs_guided_by_themselves(main: Run, tmp_path: Path) -> None:
    out = tmp_path / "strip.png"
    done = succeed("sample", "main", "flow", "--same-noise", "--steps", "2,3", "--out", out, "--json",
                   "--sampler", "ddim:guidance=2", "--guide", "self:checkpoint=4")  # fmt: skip
    cells = json.loads(done.out)["cells"]
    assert [cell["nfe"] for cell in cells] == [4, 6, 4, 6]
    assert [cell["guide"]["run"] for cell in cells] == ["main", "main", "flow", "flow"]
