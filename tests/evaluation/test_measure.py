import json

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, LoadedDataset
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.measure import (
    available_metrics,
    check_metrics,
    default_features,
    distance_names,
    measure,
)

GREY = ["fd_local", "kd_local"]
COLOUR = ["mean_shift_r", "mean_shift_g", "mean_shift_b", "mean_shift_squared", "colour_fd"]


def measured(images, data, features, cache, name="local", metrics=None, **changes):
    return measure(images, data, features, feature_name=name, metrics=metrics, cache_dir=cache, **changes)


def values(result, key="value"):
    return {name: entry[key] for name, entry in result["metrics"].items()}


def frechet_by_hand(x, y):
    """By the eigenvalues of the product, which are real and positive."""
    roots = np.sqrt(np.linalg.eigvals(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real.clip(0))
    spread = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False)) - 2 * roots.sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + spread


def test_names_follow_features_and_colour(digits, photos):
    assert list(available_metrics(digits.info, "local")) == GREY
    assert list(available_metrics(photos.info, "pixels")) == ["fd_pixels", "kd_pixels", *COLOUR]
    assert distance_names("inception") == ("fid", "kid")
    assert distance_names("clip") == ("fd_clip", "kd_clip")
    assert default_features(digits.info) == "local"
    assert default_features(photos.info) == "pixels"


def test_which_direction_is_better(photos):
    described = available_metrics(photos.info, "pixels")
    signed = {name for name, entry in described.items() if entry["better"] == "closer to 0"}
    assert signed == {"mean_shift_r", "mean_shift_g", "mean_shift_b"}
    assert {entry["better"] for name, entry in described.items() if name not in signed} == {"lower"}


@pytest.mark.parametrize(
    "metrics, message",
    [
        (["fd_locall"], "Did you mean 'fd_local'"),
        (["fid"], "unknown metric 'fid'"),
        (["colour_fd"], "RGB images"),
        ([], "no metric"),
    ],
)
def test_metrics_that_cannot_be_had(digits, metrics, message):
    with pytest.raises(UsageError, match=message):
        check_metrics(metrics, digits.info, feature_name="local")


def test_metrics_are_asked_for_once(photos):
    assert check_metrics(["colour_fd", "fd_pixels", "colour_fd"], photos.info, feature_name="pixels") == [
        "colour_fd",
        "fd_pixels",
    ]


def test_figures_and_floor_by_hand(digits, digit_features, tmp_path):
    samples, real = digits.train.array[:150], digits.heldout.array
    result = measured(samples, digits, digit_features, tmp_path)
    reference = digit_features(digits.train.array).numpy()
    entry = result["metrics"]["fd_local"]
    assert entry["value"] == pytest.approx(frechet_by_hand(digit_features(samples).numpy(), reference), rel=1e-6)
    spread = real[torch.arange(150) * len(real) // 150]
    assert entry["floor"] == pytest.approx(frechet_by_hand(digit_features(spread).numpy(), reference), rel=1e-6)
    assert (entry["num"], entry["floor_num"]) == (150, 150)
    assert entry["value_at_floor_num"] == entry["value"]
    assert result["reference"]["num"] == len(digits.train)
    assert result["reference"]["features"] == digit_features.identity
    assert result["reference"]["dataset_hash"] == digits.content_hash
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_with_fewer_held_out_images_the_samples_are_measured_at_their_number_too(digits, digit_features, tmp_path):
    few = LoadedDataset(digits.info, digits.train, ArraySplit(digits.heldout.array[:100]), "few")
    samples = torch.cat([digits.train.array[:100], 255 - digits.train.array[:200]])
    result = measured(samples, few, digit_features, tmp_path)
    first = measured(samples[:100], few, digit_features, tmp_path)
    entry = result["metrics"]["fd_local"]
    assert (entry["num"], entry["floor_num"]) == (300, 100)
    assert values(result, "value_at_floor_num") == values(first)
    assert entry["value"] > 2 * entry["value_at_floor_num"]
    assert values(result, "floor") == values(first, "floor")
    assert any("only 100 images are held out" in note for note in result["notes"])
    assert not any("value_at_floor_num" in note for note in first["notes"])


def test_the_training_images_themselves_are_at_zero(digits, digit_features, tmp_path):
    result = measured(digits.train.array, digits, digit_features, tmp_path)
    assert result["metrics"]["fd_local"]["value"] == pytest.approx(0, abs=1e-9)
    assert result["metrics"]["fd_local"]["floor"] > 1e-4


def test_worse_images_have_worse_figures(digits, digit_features, tmp_path):
    generator = torch.Generator().manual_seed(0)
    real = digits.heldout.array
    noise = torch.randint(0, 256, real.shape, generator=generator, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(real.float(), 3, 1, 1).to(torch.uint8)
    clean, soft, random = (values(measured(x, digits, digit_features, tmp_path)) for x in (real, blurred, noise))
    for name in GREY:
        assert clean[name] < soft[name] < random[name]
    assert values(measured(real, digits, digit_features, tmp_path), "floor") == clean


def test_a_tint_is_seen_in_its_channel(photos, photo_features, tmp_path):
    real = photos.heldout.array.clamp(0, 225)
    tinted = real.clone()
    tinted[:, 0] += 30
    plain = measured(real, photos, photo_features, tmp_path, "pixels")
    shifted = measured(tinted, photos, photo_features, tmp_path, "pixels")
    before, after = values(plain), values(shifted)
    assert after["mean_shift_r"] - before["mean_shift_r"] == pytest.approx(30 / 127.5)
    assert after["mean_shift_b"] == before["mean_shift_b"]
    assert after["mean_shift_squared"] == pytest.approx(sum(after[name] ** 2 for name in COLOUR[:3]))
    assert after["colour_fd"] > before["colour_fd"] + 0.01
    assert after["fd_pixels"] > before["fd_pixels"]
    assert list(shifted["metrics"]) == ["fd_pixels", "kd_pixels", *COLOUR]


@pytest.mark.parametrize("name", ["local", "pixels"])
def test_figures_do_not_depend_on_the_batch_size(digits, photos, digit_features, photo_features, tmp_path, name):
    data, features = (digits, digit_features) if name == "local" else (photos, photo_features)
    found = [
        values(measured(data.heldout.array[:90], data, features, tmp_path / str(size), name, batch_size=size))
        for size in (7, 90, 512)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-10, abs=1e-12)
    assert found[2] == pytest.approx(found[1], rel=1e-10, abs=1e-12)


def test_only_what_is_asked_for(photos, photo_features, tmp_path):
    result = measured(photos.heldout.array, photos, photo_features, tmp_path, "pixels", metrics=["colour_fd"])
    assert list(result["metrics"]) == ["colour_fd"]


def test_few_images_are_noted(photos, photo_features, tmp_path):
    note = "singular covariance"
    few = measured(photos.heldout.array[: photo_features.dimension], photos, photo_features, tmp_path, "pixels")
    enough = measured(photos.heldout.array[: photo_features.dimension + 1], photos, photo_features, tmp_path, "pixels")
    assert any(note in text for text in few["notes"])
    assert not any(note in text for text in enough["notes"])


@pytest.mark.parametrize("num_heldout", [0, 1])
def test_without_held_out_images_there_is_no_floor(digits, digit_features, tmp_path, num_heldout):
    held = ArraySplit(digits.heldout.array[:num_heldout])
    data = LoadedDataset(digits.info, digits.train, held, f"heldout-{num_heldout}")
    result = measured(digits.train.array[:50], data, digit_features, tmp_path)
    entry = result["metrics"]["fd_local"]
    assert entry["value"] > 0
    assert (entry["floor"], entry["floor_num"], entry["value_at_floor_num"]) == (None, 0, None)
    assert any("no floor" in note for note in result["notes"])


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(5, 1, 8, 8), "uint8"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.zeros(5, 3, 8, 8, dtype=torch.uint8), "data set's are"),
        (torch.zeros(5, 1, 8, 9, dtype=torch.uint8), "data set's are"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "at least 2"),
    ],
)
def test_images_that_cannot_be_measured(digits, digit_features, tmp_path, images, message):
    with pytest.raises(EvaluationError, match=message):
        measured(images, digits, digit_features, tmp_path)


def test_fid_needs_verified_weights(photos, photo_features, tmp_path):
    with pytest.raises(EvaluationError, match="no FID"):
        measured(photos.heldout.array, photos, photo_features, tmp_path, "inception")
