import torch

from debiasctl.api import ArraySplit
from debiasctl.data.summary import class_counts, pixel_moments


def test_moments_are_of_all_pixels_in_the_unit_interval() -> None:
    images = torch.randint(0, 256, (300, 3, 4, 4), dtype=torch.uint8)
    seen: list[tuple[int, int]] = []
    found = pixel_moments(ArraySplit(images), progress=lambda done, total: seen.append((done, total)))
    values = images.double() / 255
    torch.testing.assert_close(torch.tensor(found.mean).double(), values.mean((0, 2, 3)), rtol=0, atol=1e-7)
    torch.testing.assert_close(torch.tensor(found.std).double(), values.std((0, 2, 3), correction=0), rtol=0, atol=1e-7)
    assert seen == [(256, 300), (300, 300)]


def test_float_images_are_measured_on_the_same_scale() -> None:
    images = torch.tensor([-1.0, 0.0, 0.5, 1.0]).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
    found = pixel_moments(ArraySplit(images), progress=lambda done, total: None)
    assert found.mean == (0.5625,)


def test_classes_without_images_are_counted() -> None:
    split = ArraySplit(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 2]))
    assert class_counts(split, 4) == (1, 0, 2, 0)
    assert class_counts(split, 0) == ()
