"""Evaluation in the course of training: what it gives, and that it changes nothing."""

import pytest
import torch
from PIL import Image
from tiny import LOCATION, digits, error_of, make_spec, same_state, set_up_tiny, stored_state, succeed, train

from debiasctl import paths, registry
from debiasctl.api import ArraySplit, MetricNames
from debiasctl.evaluation.measure import measure
from debiasctl.runs.store import Run, find_run, read_metrics
from debiasctl.sampling import make_request, sample
from debiasctl.specs.sections import RunSpec
from debiasctl.training.conduct import Conduct
from debiasctl.training.monitor import Monitor
from debiasctl.training.session import start

WATCHED = {"monitor__every": 20, "monitor__num": 24, "monitor__grid": 9, "monitor__steps": 3,
           "monitor__features": "pixels", "training__batch_size": 8, "training__steps": 10}  # fmt: skip


def watch(name: str, spec: RunSpec) -> Run:
    return start(spec, LOCATION, name=name, conduct=Conduct(device="cpu", observer=Monitor))


@pytest.mark.parametrize(
    ("every", "size", "steps"),
    [(20, 8, [3, 5, 8, 10]), (8, 8, list(range(1, 11))), (3, 8, list(range(1, 11))), (81, 8, [])],
)
def test_it_looks_whenever_so_many_images_more_have_been_seen(every: int, size: int, steps: list[int]) -> None:
    training = set_up_tiny(make_spec(monitor__every=every, training__batch_size=size))
    monitor = Monitor(training, digits())
    assert [step for step in range(1, 11) if monitor.due(step)] == steps


def test_without_every_it_never_looks() -> None:
    run = watch("run", make_spec())
    assert "evaluation" not in {record.kind for record in read_metrics(run)}
    assert not run.grids_dir.exists()


def test_a_watched_training_is_the_same_training() -> None:
    spec = make_spec(**WATCHED, model__backbone="dit:hidden_size=16,depth=1,num_heads=2,dropout=0.3")
    watched, alone = watch("watched", spec), train("alone", spec)
    assert same_state(stored_state(watched, 10), stored_state(alone, 10))


def test_its_figures_are_those_of_the_same_samples_drawn_later() -> None:
    run = watch("run", make_spec(**WATCHED, training__checkpoint_every=5, training__keep_last=9))
    records = [record for record in read_metrics(run) if record.kind == "evaluation"]
    assert [record.step for record in records] == [3, 5, 8, 10]
    assert [record.images for record in records] == [24, 40, 64, 80]
    assert sorted(file.name for file in run.grids_dir.iterdir()) == [f"{step:08d}.png" for step in (3, 5, 8, 10)]
    assert Image.open(run.grids_dir / "00000003.png").size == Image.open(run.grids_dir / "00000010.png").size
    spec, features = run.spec(), registry.create("features", "pixels")
    request = make_request(run, spec, num=24, num_steps=3, sampler="ddim", seed=0, checkpoint="5", weights="ema")
    drawn = sample(run, spec, request, device=torch.device("cpu"), batch_size=256)
    prepared = features.prepare(digits(), cache_dir=paths.cache_dir(), device=torch.device("cpu"))
    found = measure(
        ArraySplit(drawn.images, drawn.labels),
        digits(),
        prepared,
        names=MetricNames.of("pixels"),
        metrics=None,
        cache_dir=paths.cache_dir(),
    )
    assert records[1].metrics == {name: figure.value for name, figure in found.metrics.items()}
    assert records[1].nfe == 3


def test_it_is_asked_for_on_the_command_line() -> None:
    options = ("--backbone", "dit:hidden_size=16,depth=1,num_heads=2", "--batch-size", "8", "--steps", "4",
               "--set", "monitor.features=pixels", "--set", "monitor.steps=2", "--set", "monitor.num=16")  # fmt: skip
    succeed("train", "digits", *options, "--evaluate-every", "16", "--name", "run", "--track", "tensorboard")
    run = find_run("run")
    assert [record.step for record in read_metrics(run) if record.kind == "evaluation"] == [2, 4]
    assert list((run.path / "trackers").rglob("events*"))


def test_what_could_never_be_evaluated_is_refused_before_there_is_a_run() -> None:
    message = error_of(
        "train", "digits", "--evaluate-every", "8", "--set", "monitor.steps=5000", "--name", "run", code=2
    )
    assert "5000 sampling steps" in message
    assert not (paths.runs_dir() / "run").exists()


def test_trackers_that_are_not_there() -> None:
    assert "Did you mean 'wandb'?" in error_of("train", "digits", "--track", "wandbb", code=2)
    assert "pip install swanlab" in error_of("train", "digits", "--track", "tensorboard,swanlab", code=2)
