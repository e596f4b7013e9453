"""The extractor keeps the contract of its kind, and its features are the means that it states."""

from pathlib import Path

import pytest
import torch
from debiasctl.api import PreparedFeatures, UsageError
from debiasctl.testing import check_features, tiny_dataset

from my_package.features import MyFeatures


def prepared(grid: int) -> PreparedFeatures:
    features = MyFeatures(MyFeatures.Options(grid=grid))
    data = tiny_dataset(image_size=8)
    found: PreparedFeatures = features.prepare(data, cache_dir=Path("no-cache"), device=torch.device("cpu"))
    return found


def test_it_keeps_its_contract() -> None:
    check_features(MyFeatures)
    check_features(MyFeatures, {"grid": 2})


def test_features_are_the_means_of_blocks() -> None:
    image = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    image[..., :4, 4:] = 255  # above on the right
    image[..., 4:, :2] = 255  # half of the block below on the left
    assert prepared(2)(image).tolist() == [[-1.0, 1.0, 0.0, -1.0]]


def test_options_change_the_identity() -> None:
    assert prepared(2).identity == prepared(2).identity != prepared(4).identity


def test_a_grid_finer_than_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match="Choose at most 8"):
        prepared(9)
