"""Figures that must not be read as quality say so: of noise, of averages, and of the reference's own images."""

import pytest
import torch
from records import figure_json, record, record_json

from debiasctl.api import ArraySplit, MetricNames
from debiasctl.evaluation.measure import measure
from debiasctl.evaluation.plausibility import implausible, warnings
from debiasctl.evaluation.record import EvaluationRecord


def figures(**values):
    """Figures at the floor's number of images, as name=(value, floor)."""
    found = {}
    for name, (value, floor) in values.items():
        found[name] = figure_json(0.5, value_at_floor_num=value, floor=floor, floor_num=1000)
        if name.startswith("fd"):
            found[name] |= {"extrapolated": None, "extrapolated_reason": "few"}
    return record(found).metrics


WORKING = {"precision": (0.7, 0.8), "recall": (0.4, 0.8), "density": (0.9, 1.0), "coverage": (0.6, 0.9),
           "fd_x": (4.0, 0.5)}  # fmt: skip


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"recall": (0.01, 0.8)}, "recall is 0.01 (real images: 0.8), so they leave out almost all"),
        ({"coverage": (0.0, 0.9)}, "coverage is 0 (real images: 0.9)"),
        ({"precision": (1.0, 0.8)}, "precision 1 (real images: 0.8): they lie closer to the middle"),
        ({"density": (3.2, 1.0), "precision": (1.0, 0.8)}, "precision 1 (real images: 0.8) and density 3.2"),
        ({"fd_x": (125.0, 2.5)}, "fd_x 125 is 50 times that of real images, 2.5"),
    ],
)
def test_what_is_not_near_working_is_said_with_the_reason(change, reason):
    text = str(*implausible(figures(**WORKING | change)))
    assert text.startswith("these images are not near working samples: ")
    assert reason in text


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"precision": (0.84, 0.8), "density": (1.2, 1.0)},  # within reach of working models
        {"recall": (0.01, 0.1)},  # the real images have hardly any themselves
        {"kd_x": (90.0, 0.5)},  # its floor is about 0
        {"fd_x": (90.0, -1e-7)},  # 0 but for rounding
    ],
)
def test_working_samples_pass(change):
    assert not implausible(figures(**WORKING | change))


@pytest.mark.parametrize(("value", "num", "is_far"), [(0.92, 296, False), (0.95, 296, True), (0.92, 2000, True)])
def test_precision_of_few_images_may_be_above_by_chance(value, num, is_far):
    """Four standard errors of two independent shares: 4 √((0.82 · 0.18 + 0.92 · 0.08)/296) is 0.109."""
    found = {"precision": figure_json(0.5, value_at_floor_num=value, floor=0.82, floor_num=num)}
    assert bool(implausible(record(found).metrics)) == is_far


def test_grey_noise_is_told_from_real_images(digits, digit_features, tmp_path):
    generator = torch.Generator().manual_seed(0)
    noise = (128 + 20 * torch.randn(300, 1, 8, 8, generator=generator)).clamp(0, 255).to(torch.uint8)

    def found(images):
        split, names = ArraySplit(images), MetricNames.of("local")
        return measure(split, digits, digit_features, names=names, metrics=None, cache_dir=tmp_path)

    assert any("not near working samples" in text for text in found(noise).notes)
    assert not any("not near working samples" in text for text in found(digits.heldout.array[:300]).notes)


def test_images_of_the_reference_are_counted_by_their_pixels(digits, digit_features, tmp_path):
    fresh = digits.heldout.array[:100].clone()
    fresh[:, 0, 0, 0] = 77  # no image has it there
    train, heldout = digits.train.array[:30], digits.heldout.array[:5]
    nearly = train.clone()
    nearly[:, 0, 0, 0] ^= 1
    mixed = torch.cat([fresh, train, heldout, nearly, train[:2]])
    names = MetricNames.of("local")
    result = measure(ArraySplit(mixed), digits, digit_features, names=names, metrics=["kd_local"], cache_dir=tmp_path)
    assert result.identical is not None
    assert result.identical.model_dump() == {"copies": 2, "reference": 32, "heldout": 5}
    notes = "\n".join(result.notes)
    assert "images are identical, pixel for pixel, to images of the reference: 32 of the 167. To that extent" in notes
    assert "5 of the 167 images are identical, pixel for pixel, to held-out images" in notes
    assert result.metrics["kd_local"].interval is None
    assert str(result.metrics["kd_local"].interval_reason).startswith("32 of the 167 images are the reference's own")
    plain = measure(ArraySplit(fresh), digits, digit_features, names=names, metrics=["kd_local"], cache_dir=tmp_path)
    assert "pixel for pixel" not in "\n".join(plain.notes)


def test_a_record_warns_of_both():
    found = record({}, identical={"copies": 0, "reference": 7, "heldout": None})
    assert str(warnings(found)[0]).startswith("images are identical, pixel for pixel, to images of the reference: 7 of")
    assert not warnings(EvaluationRecord.model_validate(record_json({})))  # as records before this had them
