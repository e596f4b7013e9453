"""What trackers are given: all that the metrics file holds, and the sample grids."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import LOCATION, make_spec

from debiasctl.runs.records import LossShare, MetricsRecord, TrainRecord
from debiasctl.runs.store import Run, read_metrics
from debiasctl.training.conduct import Conduct
from debiasctl.training.monitor import Monitor
from debiasctl.training.session import start
from debiasctl.training.tracking import scalars, track_image

WATCHED = {"monitor__every": 16, "monitor__num": 16, "monitor__grid": 4, "monitor__steps": 2,
           "monitor__features": "pixels", "training__steps": 4, "training__checkpoint_every": 2}  # fmt: skip


@pytest.fixture(scope="module")
def tracked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, EventAccumulator]:
    """A run that was watched, and what TensorBoard has of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(tmp_path_factory.mktemp("home")))
        conduct = Conduct(device="cpu", trackers=("tensorboard",), observer=Monitor)
        run = start(make_spec(**WATCHED), LOCATION, name="run", conduct=conduct)
    events = EventAccumulator(str(next((run.path / "trackers").rglob("events*")).parent))
    return run, events.Reload()


def numbers(record: MetricsRecord) -> list[float]:
    """Every number that a training's or held-out record holds, but for its step, bins' bounds and their images."""
    stored: dict[str, Any] = record.to_json()
    values = [stored[name] for name in stored if name not in ("step", "loss_shares", "bins", "metrics")]
    values += [one["share"] for one in stored.get("loss_shares", ())]
    values += [one[error] for one in stored.get("bins", ()) for error in ("eps", "x0", "v", "flow")]
    return [value for value in values if isinstance(value, int | float)]


@pytest.mark.parametrize("kind", ["train", "heldout", "evaluation"])
def test_a_tracker_has_every_number_of_the_metrics_file(tracked: tuple[Run, EventAccumulator], kind: str) -> None:
    run, events = tracked
    stored = {(name, one.step): one.value for name in events.Tags()["scalars"] for one in events.Scalars(name)}
    records = [record for record in read_metrics(run) if record.kind == kind]
    assert records
    for record in records:
        found = scalars(record)
        assert sorted(found.values()) == sorted(record.metrics.values() if kind == "evaluation" else numbers(record))
        for name, value in found.items():
            assert stored[name, record.step] == pytest.approx(value, rel=1e-6)


def test_names_say_the_bin(tracked: tuple[Run, EventAccumulator]) -> None:
    run, events = tracked
    last = [record for record in read_metrics(run) if record.kind == "heldout"][-1]
    bins = {one.log_snr: one for one in last.bins}
    for bounds, name in [((None, -8), "below_-8"), ((-2, 0), "-2_to_0"), ((8, None), "above_8")]:
        assert events.Scalars(f"heldout_v/log_snr_{name}")[-1].value == pytest.approx(bins[bounds].v, rel=1e-6)
    assert {"loss_share/log_snr_-2_to_0", "peak_memory", "flops_per_second", "grad_norm"} <= set(
        events.Tags()["scalars"]
    )


def test_a_tracker_has_the_grids(tracked: tuple[Run, EventAccumulator]) -> None:
    run, events = tracked
    shown = events.Images("samples")
    assert [one.step for one in shown] == [2, 4]
    for one in shown:
        grid = Image.open(run.grids_dir / f"{one.step:08d}.png")
        assert (one.width, one.height) == grid.size


@pytest.mark.parametrize("channels", [1, 3])
def test_each_tracker_gets_an_image_in_its_own_form(channels: int) -> None:
    seen: dict[str, Any] = {}

    def tracker(name: str) -> Any:
        return SimpleNamespace(name=name, log_images=lambda values, step, **named: seen.update({name: values["grid"]}))

    without: Any = SimpleNamespace(name="mlflow")
    accelerator: Any = SimpleNamespace(trackers=[*map(tracker, ("tensorboard", "wandb", "clearml")), without])
    image = torch.arange(channels * 4 * 5, dtype=torch.uint8).reshape(channels, 4, 5)
    track_image(accelerator, "grid", image, step=3)
    assert seen["tensorboard"].shape == (1, 4, 5, 3)
    assert len(seen["wandb"]) == 1
    for form in (seen["tensorboard"][0], seen["wandb"][0], seen["clearml"]):
        assert np.array_equal(form[..., -1], image[-1].numpy())


def test_what_is_null_is_left_out() -> None:
    shares = [LossShare(log_snr=(None, 1.5), share=None), LossShare(log_snr=(1.5, None), share=0.5)]
    record = TrainRecord(step=1, images=8, loss=-1.0, grad_norm=None, lr=0.1, images_per_second=2.0, loss_shares=shares)
    assert scalars(record) == {
        "images": 8, "loss": -1.0, "lr": 0.1, "images_per_second": 2.0, "loss_share/log_snr_above_1.5": 0.5
    }  # fmt: skip
