import pytest
import torch

from debiasctl.api import ArraySplit
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.colour import mean_colours
from debiasctl.evaluation.observed import observe, real_pixels


class Batches:
    """A split that counts what is read of it, and how much at a time."""

    def __init__(self, array):
        self.array, self.read = array, []

    def __len__(self):
        return len(self.array)

    def images(self, indices):
        self.read.append(len(indices))
        return self.array[indices]

    def labels(self, indices):
        return None


class Means:
    identity, dimension, details = "means", 8, {}

    def __call__(self, images):
        return images.double().mean(dim=(1, 3))


def test_images_are_read_once_and_in_batches(digits):
    split = Batches(digits.train.array)
    found = observe(split, Means(), batch_size=100)
    assert max(split.read) == 100
    assert sum(split.read) == len(split)
    torch.testing.assert_close(found.features, Means()(digits.train.array))
    assert torch.equal(found.pixels.colours, mean_colours(digits.train.array))
    taken = found.take(torch.tensor([5, 2]))
    assert torch.equal(taken.features, found.features[[5, 2]])
    assert torch.equal(taken.pixels.power, found.pixels.power[[5, 2]])


def test_pixels_of_real_images_are_kept_whatever_the_extractor(digits, tmp_path, caplog):
    given = {"cache_dir": tmp_path, "max_images": 50, "batch_size": 20}
    made = real_pixels(digits, **given)
    assert [len(part.colours) for part in made] == [50, 50]
    (path,) = (tmp_path / "references").iterdir()
    content = path.read_bytes()
    for again in (real_pixels(digits, **given), (path.write_bytes(content[:-300]), real_pixels(digits, **given))[1]):
        for one, other in zip(made, again, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    "broken, message",
    [
        (lambda images: torch.full((len(images), 8), torch.nan), "NaN"),
        (lambda images: torch.zeros(len(images), 5), "dimension 8"),
        (lambda images: torch.zeros(1, 8), "dimension 8"),
    ],
)
def test_a_broken_extractor_is_reported(digits, broken, message):
    class Broken(Means):
        def __call__(self, images):
            return broken(images)

    with pytest.raises(EvaluationError, match=message):
        observe(digits.train, Broken())


def test_images_of_several_shapes_are_refused():
    class Growing(Batches):
        def images(self, indices):
            return torch.zeros(len(indices), 1, 8 + int(indices[0]), 8, dtype=torch.uint8)

    with pytest.raises(EvaluationError, match="of one shape"):
        observe(Growing(torch.zeros(10)), Means(), batch_size=5)


@pytest.mark.parametrize("num", [0, 1])
def test_one_image_is_too_few(num):
    with pytest.raises(EvaluationError, match=rf"at least 2 images, not {num}\. Give more of them"):
        observe(ArraySplit(torch.zeros(num, 1, 8, 8, dtype=torch.uint8)), Means())
