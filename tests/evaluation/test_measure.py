import dataclasses
import json

import numpy as np
import pytest
import torch

from debiasctl.api import ArraySplit, LoadedDataset, MetricNames, PreparedFeatures
from debiasctl.errors import EvaluationError, UsageError
from debiasctl.evaluation.measure import (
    Measurement,
    measure,
)
from debiasctl.evaluation.metrics.catalogue import available_metrics, check_metrics, default_features, metric_names
from debiasctl.evaluation.metrics.distances import gaussian_moments
from debiasctl.evaluation.record import Findings
from debiasctl.evaluation.reference.reference import fixed_reference
from debiasctl.evaluation.reference.statistics_file import read_statistics, write_statistics
from debiasctl.evaluation.uncertainty.intervals import difference_interval, squared_interval
from debiasctl.evaluation.uncertainty.jackknife import Division

DISTANCES = ["fd_local", "kd_local"]
NEIGHBOURS = ["precision", "recall", "density", "coverage", "nearest_train_gap", "memorised_share"]
GREY = [*DISTANCES, *NEIGHBOURS, "spectrum_distance", "mean_shift_grey", "std_shift_grey"]
MEANS, STDS = (["_".join([kind, "shift", channel]) for channel in "rgb"] for kind in ("mean", "std"))
COLOUR = [*MEANS, *STDS, "mean_shift_squared", "colour_fd"]
EXTRA = {"sfd_local", "is_local"}


def measured(images, data, features, cache, name="local", metrics=None, **changes):
    images = ArraySplit(images) if isinstance(images, torch.Tensor) else images
    names = name if isinstance(name, MetricNames) else MetricNames.of(name)
    return measure(images, data, features, names=names, metrics=metrics, cache_dir=cache, **changes)


def values(result, key="value"):
    return {name: getattr(entry, key) for name, entry in result.metrics.items()}


def frechet_by_hand(x, y):
    """By the eigenvalues of the product, which are real and positive."""
    roots = np.sqrt(np.linalg.eigvals(np.cov(x, rowvar=False) @ np.cov(y, rowvar=False)).real.clip(0))
    spread = np.trace(np.cov(x, rowvar=False)) + np.trace(np.cov(y, rowvar=False)) - 2 * roots.sum()
    return ((x.mean(0) - y.mean(0)) ** 2).sum() + spread


def test_names_follow_features_and_colour(digits, photos):
    assert set(available_metrics(digits.info, MetricNames.of("local"))) == {*GREY, *EXTRA}
    assert set(available_metrics(photos.info, MetricNames.of("pixels"))) == {
        "fd_pixels", "kd_pixels", "sfd_pixels", "is_pixels", *NEIGHBOURS, "spectrum_distance", *COLOUR,
    }  # fmt: skip
    assert {"fid", "kid", "sfid", "inception_score"} < set(available_metrics(digits.info, metric_names("inception")))
    inception, clip = metric_names("inception"), metric_names("clip")
    assert (inception.frechet, inception.kernel) == ("fid", "kid")
    assert (clip.frechet, clip.kernel) == ("fd_clip", "kd_clip")
    assert default_features(digits.info) == ("local", "local-ssl", "pixels")
    assert default_features(photos.info) == ("local-ssl", "pixels")


def test_which_direction_is_better(photos):
    described = available_metrics(photos.info, MetricNames.of("pixels"))
    signed = {name for name, entry in described.items() if entry.better == "closer to 0"}
    higher = {name for name, entry in described.items() if entry.better == "higher"}
    assert signed == {*MEANS, *STDS, "nearest_train_gap"}
    assert higher == {"precision", "recall", "density", "coverage", "is_pixels"}
    assert {entry.better for name, entry in described.items() if name not in signed | higher} == {"lower"}


@pytest.mark.parametrize(
    "metrics, message",
    [
        (["fd_locall"], "Did you mean 'fd_local'"),
        (["fid"], "metric 'fid' needs `features=inception`; in features 'local' it is 'fd_local'"),
        (["colour_fd"], "RGB images"),
        ([], "no metric"),
    ],
)
def test_metrics_that_cannot_be_had(digits, metrics, message):
    with pytest.raises(UsageError, match=message):
        check_metrics(metrics, digits.info, MetricNames.of("local"))


def test_metrics_are_asked_for_once(photos):
    assert check_metrics(["colour_fd", "fd_pixels", "colour_fd"], photos.info, MetricNames.of("pixels")) == [
        "colour_fd",
        "fd_pixels",
    ]


def test_figures_and_floor_by_hand(digits, digit_features, tmp_path):
    samples, real = digits.train.array[:150], digits.heldout.array
    result = measured(samples, digits, digit_features, tmp_path)
    reference = digit_features(digits.train.array).numpy()
    entry = result.metrics["fd_local"]
    assert entry.value == pytest.approx(frechet_by_hand(digit_features(samples).numpy(), reference), rel=1e-6)
    spread = real[torch.arange(150) * len(real) // 150]
    assert entry.floor == pytest.approx(frechet_by_hand(digit_features(spread).numpy(), reference), rel=1e-6)
    assert (entry.num, entry.floor_num) == (150, 150)
    assert entry.value_at_floor_num == entry.value
    assert result.reference.num == len(digits.train)
    assert result.reference.features == digit_features.identity
    assert result.reference.dataset_hash == digits.content_hash
    stored = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert Findings.model_validate(stored) == result


def test_with_fewer_held_out_images_the_samples_are_measured_at_their_number_too(digits, digit_features, tmp_path):
    few = LoadedDataset(digits.info, digits.train, ArraySplit(digits.heldout.array[:100]), "few")
    samples = torch.cat([digits.train.array[:100], 255 - digits.train.array[:200]])
    result = measured(samples, few, digit_features, tmp_path)
    first = measured(samples[Division.of(300).subset(100)], few, digit_features, tmp_path)
    entry = result.metrics["fd_local"]
    assert (entry.num, entry.floor_num) == (300, 100)
    nearest = ("nearest_train_gap", "memorised_share")  # a half beside the other is too few here

    def others(key, of):
        return {name: value for name, value in values(of, key).items() if name not in nearest}

    assert others("value_at_floor_num", result) == pytest.approx(others("value", first), rel=1e-9)
    assert others("floor", result) == pytest.approx(others("floor", first), rel=1e-9, abs=1e-12)
    for name in nearest:
        assert result.metrics[name].floor is None
        assert "one half of the held-out images beside the other, and needs 200" in result.metrics[name].floor_reason
    assert any("only 100 images are held out" in note for note in result.notes)
    assert not any("value_at_floor_num" in note for note in first.notes)


def test_images_sorted_by_class_are_those_of_all_classes_at_the_floors_number(digits, digit_features, tmp_path):
    order = torch.argsort(digits.train.targets, stable=True)
    images, few = digits.train.array[order], ArraySplit(digits.heldout.array[:200])
    data = LoadedDataset(digits.info, digits.train, few, "few")
    found = [
        measured(ArraySplit(images, targets), data, digit_features, tmp_path).metrics["fd_local"]
        for targets in (None, digits.train.targets[order])
    ]
    assert all(entry.value_at_floor_num < 4 * entry.floor for entry in found)  # of the first ones: 200 times


def test_images_that_repeat_one_another_are_noted(digits, digit_features, tmp_path):
    images = digits.train.array[:200]
    note = "6 of the 200 images are copies, pixel for pixel, of others among them"
    few, more = (torch.cat([images[:-k], images[:1].expand(k, -1, -1, -1)]) for k in (1, 6))
    for given, expected in ((images, 0), (few, 0), (more, 1)):
        notes = measured(given, digits, digit_features, tmp_path).notes
        assert [text.startswith(note) for text in notes].count(True) == expected


def test_copies_are_counted_by_pixels_and_not_by_features(digits, digit_features, tmp_path):
    images = digits.train.array[:200].clone()
    images[100:] = (images[:100] > 8).to(torch.uint8) * 255  # others, however near their features are
    images[50:100] = images[:50]
    for batch_size in (256, 7, 1):
        found = measured(images, digits, digit_features, tmp_path, batch_size=batch_size)
        [note] = [text for text in found.notes if "are copies, pixel for pixel, of others" in text]
        num = len(images) - len(torch.unique(images.flatten(1), dim=0))
        assert note.startswith(f"{num} of the 200 images")


def test_one_class_alone_is_no_choice_of_counts(digits, digit_features, tmp_path):
    ones = digits.heldout.targets == 1
    images, labels = digits.heldout.array[ones], digits.heldout.targets[ones]
    found, plain = (
        measured(ArraySplit(images, targets), digits, digit_features, tmp_path) for targets in (labels, None)
    )
    assert found == plain
    assert not any("class counts were chosen" in text for text in found.notes)


def test_floors_have_intervals_of_labelled_images(digits, digit_features, tmp_path):
    """Held-out images have classes, whose counts do not vary: without them the correction would take off too much."""
    images, labels = digits.heldout.array, digits.heldout.targets
    entry = measured(images, digits, digit_features, tmp_path).metrics["fd_local"]
    labelled = measured(ArraySplit(images, labels), digits, digit_features, tmp_path).metrics["fd_local"]
    assert entry.floor_corrected == pytest.approx(labelled.corrected, rel=1e-6)
    assert (entry.floor_interval.low, entry.floor_interval.high) == pytest.approx(
        (labelled.interval.low, labelled.interval.high), rel=1e-6
    )
    assert entry.corrected < entry.floor_corrected - 0.05  # as if the classes had been drawn


def test_floors_of_distances_to_training_images_are_not_0_by_definition(digits, digit_features, tmp_path):
    result = measured(digits.heldout.array, digits, digit_features, tmp_path)
    found, num = result.metrics, len(digits.heldout)
    assert any("memorised_share: fresh images are expected to have" in note for note in result.notes)
    assert num >= 400
    gap, share = found["nearest_train_gap"], found["memorised_share"]
    assert gap.floor_num == share.floor_num == -(-num // 2)
    assert gap.floor != 0
    assert gap.floor_interval.low < gap.floor < gap.floor_interval.high
    assert share.expected == pytest.approx((0.01 * num + 0.99) / (num + 1))


def test_the_kernel_distance_counts_pairs_by_class(digits, digit_features, tmp_path):
    """On either side even class counts would make it too low, and below 0 for real images."""
    even = torch.cat([(digits.heldout.targets == label).nonzero()[:20, 0] for label in range(10)])
    images, labels = digits.heldout.array[even], digits.heldout.targets[even]
    no_classes = dataclasses.replace(digits, train=ArraySplit(digits.train.array), content_hash="no classes")
    note = "kd_local: pairs of images count by class"
    found = {}
    for name, targets, data in (("both", labels, digits), ("reference", None, digits), ("none", None, no_classes)):
        result = measured(ArraySplit(images, targets), data, digit_features, tmp_path, metrics=["kd_local"])
        found[name] = entry = result.metrics["kd_local"]
        assert entry.by_class == any(text.startswith(note) for text in result.notes) == (name != "none")
        assert entry.interval.low <= entry.corrected <= entry.interval.high
    assert found["both"].value > found["reference"].value + 0.01
    assert found["reference"].value > found["none"].value + 0.004
    assert found["both"].corrected == pytest.approx(found["both"].value, abs=0.005)


def test_the_training_images_themselves_are_at_zero(digits, digit_features, tmp_path):
    result = measured(digits.train.array, digits, digit_features, tmp_path)
    assert result.metrics["fd_local"].value == pytest.approx(0, abs=1e-9)
    assert result.metrics["fd_local"].floor > 1e-4


def test_worse_images_have_worse_figures(digits, digit_features, tmp_path):
    generator = torch.Generator().manual_seed(0)
    real = digits.heldout.array
    noise = torch.randint(0, 256, real.shape, generator=generator, dtype=torch.uint8)
    blurred = torch.nn.functional.avg_pool2d(real.float(), 3, 1, 1).to(torch.uint8)
    clean, soft, random = (values(measured(x, digits, digit_features, tmp_path)) for x in (real, blurred, noise))
    for name in DISTANCES:
        assert clean[name] < soft[name] < random[name]
    result = measured(ArraySplit(real, digits.heldout.targets), digits, digit_features, tmp_path)
    found, floors = (values(result, key) for key in ("value", "floor"))
    for name in ("nearest_train_gap", "memorised_share"):  # whose floor is of one half beside the other
        del found[name], floors[name]
    assert floors == pytest.approx(found)


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
    assert after["std_shift_r"] == pytest.approx(before["std_shift_r"])


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
    assert list(result.metrics) == ["colour_fd"]
    assert result.unavailable == {}


def test_pixels_are_looked_at_only_for_metrics_of_pixels(digits, digit_features, tmp_path, monkeypatch):
    names = ["fd_local", "kd_local"]
    seen = Measurement(digits, digit_features, MetricNames.of("local"), names, tmp_path).see(digits.heldout)
    assert set(seen.observed.rows) == set(seen.real.train) == set(seen.real.heldout) == {"features", "hashes"}
    result = measured(digits.heldout.array, digits, digit_features, tmp_path, metrics=names)
    assert list(result.metrics) == names
    assert all(entry.floor is not None for entry in result.metrics.values())


def test_few_images_are_noted(photos, photo_features, tmp_path):
    note = "singular covariance"
    few = measured(photos.heldout.array[: photo_features.dimension], photos, photo_features, tmp_path, "pixels")
    enough = measured(photos.heldout.array[: photo_features.dimension + 1], photos, photo_features, tmp_path, "pixels")
    (text,) = [text for text in few.notes if note in text]
    assert f"at least D + 1 = {photo_features.dimension + 1} are needed" in text
    assert f"{max(100, 8 * photo_features.dimension)} images for an interval" in text
    assert not any(note in text for text in enough.notes)


@pytest.mark.parametrize("num_heldout", [0, 1])
def test_without_held_out_images_there_is_no_floor(digits, digit_features, tmp_path, num_heldout):
    held = ArraySplit(digits.heldout.array[:num_heldout])
    data = LoadedDataset(digits.info, digits.train, held, f"heldout-{num_heldout}")
    result = measured(digits.train.array[:50], data, digit_features, tmp_path)
    entry = result.metrics["fd_local"]
    assert entry.value > 0
    assert (entry.floor, entry.floor_num, entry.value_at_floor_num) == (None, 0, None)
    assert any("no floor" in note for note in result.notes)


@pytest.mark.parametrize(
    "images, message",
    [
        (torch.zeros(5, 1, 8, 8), "uint8"),
        (torch.zeros(5, 8, 8, dtype=torch.uint8), "uint8"),
        (torch.full((5, 1, 8, 8), torch.nan), "NaN or infinity"),
        (
            torch.zeros(5, 3, 8, 8, dtype=torch.uint8),
            "the images are RGB and the reference's grey: they cannot be measured against one another",
        ),
        (torch.zeros(5, 1, 8, 9, dtype=torch.uint8), "have 8x9 pixels and the reference's 8: .* do not resize"),
        (torch.zeros(5, 1, 16, 16, dtype=torch.uint8), "have 16 pixels a side and the reference's 8: .* do not resize"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "at least 2"),
    ],
)
def test_images_that_cannot_be_measured(digits, digit_features, tmp_path, images, message):
    with pytest.raises(EvaluationError, match=message):
        measured(images, digits, digit_features, tmp_path)


def test_fid_needs_verified_weights(photos, photo_features, tmp_path):
    with pytest.raises(EvaluationError, match="no FID"):
        measured(photos.heldout.array, photos, photo_features, tmp_path, metric_names("inception"))


def test_an_interval_holds_its_estimate_and_what_a_difference_needs(digits, digit_features, tmp_path):
    blurred = torch.nn.functional.avg_pool2d(digits.heldout.array.float(), 3, 1, 1).to(torch.uint8)
    sharp, soft = (measured(x, digits, digit_features, tmp_path) for x in (digits.heldout.array, blurred))
    for result in (sharp, soft):
        for name in set(GREY) - {"recall", "coverage"}:
            entry = result.metrics[name]
            assert entry.interval.low <= entry.corrected <= entry.interval.high
            assert entry.interval.level == 0.95
            assert entry.interval_reason is None
    for name in ("recall", "coverage"):
        assert sharp.metrics[name].interval is None
        assert "neighbourhoods" in sharp.metrics[name].interval_reason
    first, second = (found.metrics["fd_local"].interval.jackknife.jackknife for found in (sharp, soft))
    assert difference_interval(first, second).low > 0
    expected = squared_interval(first, sharp.metrics["fd_local"].value)
    kept = sharp.metrics["fd_local"].interval
    assert (kept.low, kept.high) == pytest.approx((expected.low, expected.high))
    assert sharp.metrics["fd_local"].corrected < sharp.metrics["fd_local"].value


def test_too_few_images_have_no_interval_and_no_extrapolation(digits, digit_features, tmp_path):
    few = measured(digits.heldout.array[:127], digits, digit_features, tmp_path).metrics
    more = measured(digits.heldout.array[:128], digits, digit_features, tmp_path).metrics
    needed = "an interval needs at least 128 images (8 per dimension), not"
    assert few["fd_local"].interval_reason == f"{needed} 127"
    fewest = measured(digits.heldout.array[:20], digits, digit_features, tmp_path).metrics
    assert fewest["fd_local"].interval_reason == f"{needed} 20"
    assert fewest["kd_local"].interval_reason == "an interval needs at least 100 images, not 20"
    assert few["kd_local"].interval is not None
    assert more["fd_local"].interval is not None
    assert more["fd_local"].extrapolated is None
    assert "needs 256 images" in more["fd_local"].extrapolated_reason
    enough = measured(digits.heldout.array[:256], digits, digit_features, tmp_path).metrics
    assert enough["fd_local"].extrapolated.nums[-1] == 256


def test_copies_of_training_images_are_found(digits, digit_features, tmp_path):
    entries = measured(digits.train.array[:150], digits, digit_features, tmp_path).metrics
    assert entries["memorised_share"].value == 1
    assert entries["nearest_train_gap"].value == -1
    assert entries["memorised_share"].floor < 0.05
    assert abs(entries["nearest_train_gap"].floor) < 0.2


def test_copies_are_not_counted_where_fresh_images_are_copies(digits, digit_features, tmp_path):
    images = digits.heldout.array.clone()
    num = len(images) // 50
    images[:num] = digits.train.array[:num]
    data = dataclasses.replace(digits, heldout=ArraySplit(images, digits.heldout.targets), content_hash="leaking")
    copies = digits.train.array[:150]
    found = measured(copies, data, digit_features, tmp_path)
    assert "memorised_share" not in found.metrics
    assert f"{num} of {len(images)} held-out images are copies" in found.unavailable["memorised_share"]
    assert found.metrics["nearest_train_gap"].value == -1
    with pytest.raises(EvaluationError, match=r"'memorised_share': .* are copies of training images"):
        measured(copies, data, digit_features, tmp_path, metrics=["memorised_share"])


def test_an_interval_below_0_is_noted(digits, digit_features, tmp_path):
    note = "the interval lies below 0, so the images are not an independent sample"
    own, other = (
        measured(split.array, digits, digit_features, tmp_path, metrics=["fd_local"])
        for split in (digits.train, digits.heldout)
    )
    assert own.metrics["fd_local"].interval.high < 0
    assert [text.startswith(f"fd_local: {note}") for text in own.notes].count(True) == 1
    assert not any(note in text for text in other.notes)


def test_what_cannot_be_had_is_refused_by_name_and_listed_otherwise(digits, digit_features, tmp_path):
    images = digits.heldout.array[:50]
    found = measured(images, digits, digit_features, tmp_path)
    assert set(found.unavailable) == EXTRA
    assert set(found.metrics) == set(GREY)
    with pytest.raises(EvaluationError, match="'is_local': features 'local' give no class probabilities"):
        measured(images, digits, digit_features, tmp_path, metrics=["is_local"])
    with pytest.raises(EvaluationError, match="more than 5 images"):
        measured(images[:5], digits, digit_features, tmp_path, metrics=["coverage"])


def test_statistics_from_a_file_have_no_neighbours(digits, digit_features, tmp_path):
    mean, covariance = gaussian_moments(digit_features(digits.train.array))
    path = tmp_path / "statistics.npz"
    write_statistics(path, mean, covariance, metadata={})
    fixed = fixed_reference(read_statistics(path), digits.info)
    images = digits.heldout.array
    found = measured(images, fixed, digit_features, tmp_path)
    assert set(found.metrics) == {"fd_local"}
    known = measured(images, digits, digit_features, tmp_path).metrics["fd_local"]
    assert found.metrics["fd_local"].value == pytest.approx(known.value, rel=1e-9)
    assert found.metrics["fd_local"].interval.low == pytest.approx(known.interval.low, rel=1e-6)
    assert found.metrics["fd_local"].floor is None
    with pytest.raises(EvaluationError, match=r"'kd_local': .* not the features of each image"):
        measured(images, fixed, digit_features, tmp_path, metrics=["kd_local"])


class Wide(PreparedFeatures):
    """Pixels as features, with class probabilities and spatial features; takes any size."""

    def __init__(self):
        super().__init__(identity="wide", dimension=4, details={})

    def __call__(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.double(), 2).flatten(1)[:, :4]

    def logits(self, images):
        return self(images) / 20

    def spatial(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.double(), (1, 3)).flatten(1)


def test_an_extractor_names_its_own_metrics(digits, tmp_path):
    class Verified(Wide):
        verified = True

    names = MetricNames("wide", frechet="wfd", kernel="wkd", score="wis", spatial="swfd")
    found = measured(digits.heldout.array, digits, Verified(), tmp_path, names)
    assert {"wfd", "wkd", "wis", "swfd"} < set(found.metrics)
    assert not {"fd_wide", "kd_wide", "is_wide", "sfd_wide"} & set(found.metrics)
    usual = measured(digits.heldout.array, digits, Wide(), tmp_path, "wide")
    assert found.metrics["wfd"].value == usual.metrics["fd_wide"].value
    assert found.metrics["wfd"].floor == usual.metrics["fd_wide"].floor
    with pytest.raises(
        EvaluationError, match="features 'wide' do not come from verified weights, so their figures are no WFD"
    ):
        measured(digits.heldout.array, digits, Wide(), tmp_path, names)


def test_scores_by_classes_and_spatial_features(digits, tmp_path):
    images = digits.heldout.array
    found = measured(images, digits, Wide(), tmp_path, "wide").metrics
    p = torch.softmax(Wide().logits(images), dim=1).numpy()
    score = np.exp((p * np.log(p / p.mean(axis=0))).sum(axis=1).mean())
    assert found["is_wide"].value == pytest.approx(score, rel=1e-9)
    assert found["is_wide"].floor == pytest.approx(score, rel=1e-9)
    assert found["is_wide"].better == "higher"
    spatial = (Wide().spatial(split.array).numpy() for split in (digits.heldout, digits.train))
    assert found["sfd_wide"].value == pytest.approx(frechet_by_hand(*spatial), rel=1e-6)
    assert found["sfd_wide"].floor == pytest.approx(found["sfd_wide"].value, rel=1e-9)


@pytest.mark.parametrize("kept", [3, 2, 0])
def test_spatial_statistics_from_a_file(digits, tmp_path, kept):
    """As guided-diffusion's files hold them; of another extractor, and absent, they are no reference."""
    mean, covariance = gaussian_moments(Wide()(digits.train.array))
    spatial = Wide().spatial(digits.train.array).numpy()[:, :kept]
    arrays = {"mu_s": spatial.mean(axis=0), "sigma_s": np.cov(spatial, rowvar=False)} if kept else {}
    np.savez(tmp_path / "statistics.npz", mu=mean, sigma=covariance, **arrays)
    fixed = fixed_reference(read_statistics(tmp_path / "statistics.npz"), digits.info)
    images = digits.heldout.array
    found = measured(images, fixed, Wide(), tmp_path, "wide")
    if kept == 3:
        expected = measured(images, digits, Wide(), tmp_path, "wide").metrics["sfd_wide"]
        assert found.metrics["sfd_wide"].value == pytest.approx(expected.value, rel=1e-9)
        assert found.metrics["sfd_wide"].interval.low == pytest.approx(expected.interval.low, rel=1e-6)
        assert found.metrics["sfd_wide"].floor is None
        return
    reason = (
        "spatial features have 2 dimensions, but these have 3" if kept else "the reference holds no spatial features"
    )
    assert "sfd_wide" not in found.metrics
    assert reason in found.unavailable["sfd_wide"]
    with pytest.raises(EvaluationError, match=reason):
        measured(images, fixed, Wide(), tmp_path, "wide", metrics=["sfd_wide"])


def test_another_size_where_the_features_take_any(digits, tmp_path):
    larger = torch.nn.functional.interpolate(digits.heldout.array.float(), size=16).to(torch.uint8)
    found = measured(larger, digits, Wide(), tmp_path, "wide", any_size=True)
    assert found.metrics["fd_wide"].value == pytest.approx(found.metrics["fd_wide"].floor, rel=1e-9)
    assert "other frequencies" in found.unavailable["spectrum_distance"]


def test_real_images_are_seen_once(digits, tmp_path):
    class Counting(Wide):
        seen = 0

        def __call__(self, images):
            self.seen += len(images)
            return super().__call__(images)

    features, images = Counting(), digits.heldout.array[:60]
    first = measured(images, digits, features, tmp_path, "wide", batch_size=7)
    calls = features.seen
    again = measured(images, digits, features, tmp_path, "wide", batch_size=50)
    assert values(again) == pytest.approx(values(first), rel=1e-12)
    assert values(again, "floor") == values(first, "floor")
    assert features.seen - calls == 2 * 60  # the features, and the logits, which are made of them


def test_the_curve_of_a_spectrum(digits, digit_features, tmp_path):
    entry = measured(digits.train.array, digits, digit_features, tmp_path).metrics["spectrum_distance"]
    assert entry.value == pytest.approx(0, abs=1e-15)
    assert entry.curve.cycles_per_image == [1, 2, 3, 4]
    assert entry.curve.power == pytest.approx(entry.curve.real_power)


def test_an_interval_below_zero_is_explained_for_every_distance(digits, digit_features, tmp_path):
    found = measured(digits.train.array[:1000], digits, digit_features, tmp_path)
    assert found.metrics["kd_local"].interval is None  # the images are the reference's own
    below = [name for name in DISTANCES if name != "kd_local" and found.metrics[name].interval.high < 0]
    assert below
    (note,) = [text for text in found.notes if "the interval lies below 0" in text]
    assert all(name in note for name in below)
