"""Data sets of float32 images: trained on as they are, and measured as uint8, which samples are stored in."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import LOCATION, OPTIONS, error_of, make_spec, succeed, write_distribution

from debiasctl.api import ArraySplit, LoadedDataset, hash_splits
from debiasctl.data.heldout_set import HeldoutSet
from debiasctl.data.load import load_data
from debiasctl.data.pixels import as_measured, to_model_space, to_uint8
from debiasctl.errors import PluginError
from debiasctl.runs.store import find_run
from debiasctl.training.batches import BatchSource

CODE = '''
import torch
from pydantic import Field
from debiasctl.api import ArraySplit, Dataset, DatasetInfo, LoadedDataset, PluginOptions, hash_splits


class Waves(Dataset):
    """Plane waves of 8x8 pixels in two directions, between the grey levels."""

    class Options(PluginOptions):
        """What is wrong with them."""

        value_type: str = Field("float32", description="what the info says")
        dtype: str = Field("float32", description="what they are")
        scale: float = Field(1.0, description="of the values")
        channels: int = Field(1, description="what the info says")

    def info(self, location):
        return DatasetInfo(8, self.options.channels, ("down", "across"), 90, 30, self.options.value_type)

    def load(self, location):
        phase = torch.linspace(0, 6, 120)[:, None] + torch.linspace(0, 6, 8)
        down = torch.sin(phase)[:, None, :, None].expand(-1, 1, 8, 8)
        targets = torch.arange(120) % 2
        images = torch.where(targets[:, None, None, None] == 0, down, down.transpose(2, 3)) * self.options.scale
        images = images.to(getattr(torch, self.options.dtype))
        train, heldout = ArraySplit(images[:90], targets[:90]), ArraySplit(images[90:], targets[90:])
        return LoadedDataset(self.info(location), train, heldout, hash_splits("waves", [train, heldout]))
'''


@pytest.fixture(autouse=True)
def waves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = {"debiasctl.datasets": {"waves": "waves_data:Waves"}}
    write_distribution(tmp_path / "s", name="waves", version="1", entry_points=points, modules={"waves_data": CODE})
    monkeypatch.syspath_prepend(tmp_path / "s")
    monkeypatch.delitem(sys.modules, "waves_data", raising=False)


def load(reference: str = "waves") -> LoadedDataset:
    return load_data(make_spec(data__dataset=reference), LOCATION)


def test_training_sees_the_values_themselves() -> None:
    data = load()
    images = data.train.array
    assert images.dtype == torch.float32
    assert not torch.equal(to_model_space(to_uint8(images)), images)
    settings = {"seed": 0, "batch_size": 16, "horizontal_flip": True, "conditional": True}
    for split in (data.train, Unlisted(data.train)):  # indexed in memory; read ahead
        with BatchSource(split, device=torch.device("cpu"), **settings) as source:
            indices, x0 = source.indices(3), source(3).x0
        plain = images[indices]
        flipped = (x0 != plain).flatten(1).any(dim=1)
        assert flipped.any()
        assert torch.equal(x0, torch.where(flipped[:, None, None, None], plain.flip(-1), plain))
    heldout = HeldoutSet.of(
        data.heldout, num_images=30, conditional=True, device=torch.device("cpu"), dtype=torch.float32
    )
    assert torch.equal(heldout.x0, data.heldout.array)


class Unlisted:
    """The same split, though not known to be an array."""

    def __init__(self, split: ArraySplit) -> None:
        self.images, self.labels, self._length = split.images, split.labels, len(split)

    def __len__(self) -> int:
        return self._length


def test_evaluation_sees_them_as_samples_are_stored() -> None:
    data = load()
    measured = as_measured(data)
    assert (measured.info.value_type, measured.content_hash) == ("uint8", data.content_hash)
    every = torch.arange(30)
    assert torch.equal(measured.heldout.images(every), to_uint8(data.heldout.array))
    assert torch.equal(measured.heldout.labels(every), data.heldout.targets)
    assert as_measured(measured) is measured


def test_the_hash_is_of_the_values() -> None:
    data = load()
    nearly = data.train.array.clone()
    nearly[0, 0, 0, 0] += 1e-6
    hashes = {hash_splits("waves", [ArraySplit(array, data.train.targets)]) for array in (data.train.array, nearly)}
    assert len(hashes) == 2


def test_a_run_from_training_to_a_figure(tmp_path: Path) -> None:
    monitored = ("--evaluate-every", "16", "--set", "monitor.num=8", "--set", "monitor.steps=2")
    succeed("train", "waves", *OPTIONS, "--steps", "4", "--name", "run", *monitored)
    run = find_run("run")
    assert run.spec().content.content_hash == load().content_hash
    succeed("sample", "run", "--num", "4", "--steps", "2", "--out", tmp_path / "samples.npz")
    with np.load(tmp_path / "samples.npz") as archive:
        assert archive["images"].dtype == np.uint8
    succeed("evaluate", "run", "--num", "8", "--steps", "2", "--features", "pixels")
    succeed("likelihood", "run", "--num", "4", "--terms", "3")
    path = tmp_path / "real.npz"
    np.savez(path, images=to_uint8(load().train.array).permute(0, 2, 3, 1).numpy())
    metrics = ("--features", "pixels", "--metrics", "fd_pixels,mean_shift_grey")
    succeed("evaluate", "--samples", path, "--reference", "waves", *metrics, "--json")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("value_type=uint8", "gives float32 images [1, 8, 8] where its info says uint8 [1, 8, 8]"),
        ("dtype=float64", "gives float64 images [1, 8, 8] where its info says float32 [1, 8, 8]"),
        ("channels=3", "gives float32 images [1, 8, 8] where its info says float32 [3, 8, 8]"),
        ("scale=1.5", "gives float32 images with values outside [-1, 1]"),
    ],
)
def test_images_that_are_not_as_stated_are_refused(options: str, message: str) -> None:
    assert f"dataset 'waves' of waves 1: its load {message}" in error_of(
        "train", f"waves:{options}", *OPTIONS, "--steps", "1", code=1
    )
    with pytest.raises(PluginError, match="dataset 'waves' of waves 1: its load gives"):
        load(f"waves:{options}")
