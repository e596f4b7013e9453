"""The data set keeps the contract of its kind, and its images are what it states."""

from pathlib import Path

import torch
from debiasctl.api import DataLocation
from debiasctl.testing import check_dataset

from my_package.dataset import MyDataset


def test_it_keeps_its_contract() -> None:
    check_dataset(MyDataset)
    check_dataset(MyDataset, {"wavelength": 4})


def test_its_images_are_waves_in_the_direction_of_their_class(tmp_path: Path) -> None:
    dataset = MyDataset(MyDataset.Options(wavelength=4))
    split = dataset.load(DataLocation(data_dir=None, cache_dir=tmp_path)).train
    labels = split.labels(torch.arange(8))
    assert labels is not None
    assert labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    upright, _, flat, _ = split.images(torch.arange(4))[:, 0].double()
    assert torch.equal(upright, upright[:1].expand(16, 16))  # class 0 varies along a row alone
    assert torch.equal(flat, flat[:, :1].expand(16, 16))  # class 2 along a column alone
    for wave in (upright, flat):
        assert (wave[4:, 4:] - wave[:-4, :-4]).abs().max() <= 1  # both are rounded
