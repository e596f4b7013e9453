"""The data set keeps its kind's laws, and its images are what its options say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from debiasctl_downscaling.kuramoto_sivashinsky import KuramotoSivashinsky

import debiasctl
from debiasctl.api import DataLocation, LoadedDataset, UsageError
from debiasctl.testing import check_dataset

SMALL = {"image_size": 16, "num": 48, "spin_up": 20.0}


def loaded(location: DataLocation, **options) -> LoadedDataset:
    return KuramotoSivashinsky(KuramotoSivashinsky.Options(**(SMALL | options))).load(location)


@pytest.fixture
def location(tmp_path: Path) -> DataLocation:
    return DataLocation(data_dir=None, cache_dir=tmp_path)


@pytest.mark.parametrize("fidelity", ["fine", "coarse"])
def test_it_keeps_the_laws_of_its_kind(fidelity: str, location: DataLocation) -> None:
    check_dataset(KuramotoSivashinsky, SMALL | {"fidelity": fidelity}, location=location)


def test_images_obey_the_equation(location: DataLocation) -> None:
    """Columns follow one another as the equation says: a solver with other steps leads from each to the next."""
    from debiasctl_downscaling.integrators import Spectral

    images = loaded(location, image_size=32, interval=0.25).train.array.double()[:8, 0] * 4
    solver = Spectral(length=22.0, points=32, step=1 / 64)
    v = solver.transform(images[:, :, 10].numpy())
    for _ in range(16):
        v = solver.advance(v)
    assert np.abs(solver.values(v) - images[:, :, 11].numpy()).max() < 0.01
    assert float(images.mean(dim=1).abs().max()) < 1e-3  # of space, at all times: conserved


def test_more_images_begin_with_the_same_ones_and_the_cache_gives_them_again(
    location: DataLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    few, more = loaded(location), loaded(location, num=64)
    assert torch.equal(few.train.array, more.train.array[:48])
    assert few.train.array.dtype == torch.float32
    assert len(few.heldout) == 12
    monkeypatch.setattr(KuramotoSivashinsky, "_images", None)  # not computed again
    again = loaded(location)
    assert again.content_hash == few.content_hash
    monkeypatch.undo()
    (path,) = [
        one for one in (location.cache_dir / "kuramoto-sivashinsky").glob("*.npz") if one.stat().st_size < 70_000
    ]
    path.write_bytes(path.read_bytes()[:1000])  # damaged
    assert loaded(location).content_hash == few.content_hash


def test_seeds_splits_and_fidelities_differ(location: DataLocation) -> None:
    fine, other, coarse = loaded(location), loaded(location, seed=1), loaded(location, fidelity="coarse")
    assert coarse.train.array.shape == (48, 1, 4, 4)
    assert coarse.info.image_size == 4
    for one in (other.train.array, fine.heldout.array):
        assert float((one[:12] - fine.train.array[:12]).abs().mean()) > 0.05
    pooled = torch.nn.functional.avg_pool2d(fine.train.array, 4)
    assert float(coarse.train.array.std()) < 0.9 * float(pooled.std())  # the bias


def test_values_are_on_a_grid_that_machines_agree_on(location: DataLocation) -> None:
    levels = loaded(location).train.array * 4096
    assert torch.equal(levels, levels.round())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scale": 1.0}, r"\|u\| reaches .*Choose scale="),
        ({"fidelity": "coarse", "scale": 0.5}, "Choose scale="),
    ],
)
def test_values_beyond_the_scale_are_refused(options: dict, text: str, location: DataLocation) -> None:
    with pytest.raises(UsageError, match=text):
        loaded(location, **options)


@pytest.mark.parametrize(
    "options",
    [
        "fidelity=coarse,factor=3", "fidelity=coarse,image_size=16,factor=8,cells=1", "fidelity=medium", "length=0",
        "factor=8", "cells=4"
    ],
)  # fmt: skip
def test_options_that_do_not_fit_are_refused(options: str) -> None:
    with pytest.raises(UsageError):
        debiasctl.dataset(f"kuramoto-sivashinsky:{options}")
