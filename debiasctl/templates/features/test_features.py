"""The extractor keeps the contract of its kind, and its features are the means that it states."""

from pathlib import Path

import pytest
import torch
from debiasctl.api import PreparedFeatures, UsageError
from debiasctl.testing import check_features, tiny_dataset

from my_package.features import MyFeatures


def prepared(grid: int, cache: Path) -> PreparedFeatures:
    features = MyFeatures(MyFeatures.Options(grid=grid))
    data = tiny_dataset(image_size=8)
    found: PreparedFeatures = features.prepare(data, cache_dir=cache, device=torch.device("cpu"))
    return found


def test_it_keeps_its_contract() -> None:
    check_features(MyFeatures)
    check_features(MyFeatures, {"grid": 2})


def test_features_are_the_means_of_blocks(tmp_path: Path) -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., :4, 4:] = 255  # above on the right
    image[..., 4:, :2] = 255  # half of the block below on the left
    assert prepared(2, tmp_path)(image).tolist() == [[-1.0, 1.0, 0.0, -1.0]]


def test_options_change_the_identity(tmp_path: Path) -> None:
    assert prepared(2, tmp_path).identity == prepared(2, tmp_path).identity != prepared(4, tmp_path).identity


def test_a_grid_finer_than_the_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Choose at most 8"):
        prepared(9, tmp_path)
