import pytest
import torch

from debiasctl.api import ArraySplit, PreparedFeatures
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import FEATURES, PIXELS, SPATIAL, PixelStatistics, extract
from debiasctl.evaluation.metrics.colour import mean_colours, mean_squares
from debiasctl.evaluation.metrics.spectrum import radial_power
from debiasctl.evaluation.observed import observe


class Batches:
    """A split that notes what is read of it, and how much at a time."""

    def __init__(self, array):
        self.array, self.read = array, []

    def __len__(self):
        return len(self.array)

    def images(self, indices):
        self.read.append(len(indices))
        return self.array[indices]

    def labels(self, indices):
        return None


class Means(PreparedFeatures):
    def __init__(self):
        super().__init__(identity="means", dimension=8, details={})

    def __call__(self, images):
        return images.double().mean(dim=(1, 3))


class InOnePass(Means):
    """Says what it was asked for; what it gives by name is twice what it is called for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def parts(self, images, parts):
        self.asked.append(list(parts))
        return {part: self(images) * (1 + number) for number, part in enumerate(parts)}


def test_images_are_read_once_and_in_batches(digits):
    split = Batches(digits.train.array)
    found = observe(split, Means(), [FEATURES, PIXELS], batch_size=100)
    assert max(split.read) == 100
    assert sum(split.read) == len(split)
    torch.testing.assert_close(found.features.double(), Means()(digits.train.array))
    assert torch.equal(found.pixels.colours, mean_colours(digits.train.array))
    assert torch.equal(found.pixels.squares, mean_squares(digits.train.array))
    torch.testing.assert_close(found.pixels.power, radial_power(digits.train.array))
    taken = found.take(torch.tensor([5, 2]))
    assert torch.equal(taken.features, found.features[[5, 2]])
    assert torch.equal(taken.pixels.power, found.pixels.power[[5, 2]])
    assert torch.equal(found.some(3).features, found.features[torch.arange(3) * len(split) // 3])


def test_some_images_and_pixels_of_three_channels(photos):
    indices = torch.tensor([3, 0, 8])
    shape, rows = extract(photos.train, Means(), [PIXELS], indices=indices, batch_size=2)
    assert shape == tuple(photos.train.array.shape[1:])
    pixels = PixelStatistics.of(rows[PIXELS], channels=3)
    assert torch.equal(pixels.colours, mean_colours(photos.train.array[indices]))
    assert torch.equal(pixels.squares, mean_squares(photos.train.array[indices]))


def test_an_extractor_that_gives_all_in_one_pass_is_asked_once_a_batch(digits):
    features = InOnePass()
    _, rows = extract(ArraySplit(digits.train.array[:50]), features, [FEATURES, SPATIAL, PIXELS], batch_size=20)
    assert features.asked == [[FEATURES, SPATIAL]] * 3
    assert torch.equal(rows[SPATIAL], 2 * rows[FEATURES])


def test_the_next_batch_is_read_while_the_extractor_is_at_work(digits):
    split = Batches(digits.train.array[:50])

    class Waiting(Means):
        read = None

        def __call__(self, images):
            self.read = self.read or []
            deadline = 1000
            while len(split.read) == len(self.read) + 1 < 5 and deadline:
                torch.ones(1000).sum()
                deadline -= 1
            self.read.append(len(split.read))
            return super().__call__(images)

    features = Waiting()
    extract(split, features, [FEATURES], batch_size=10)
    assert features.read[-1] == 5
    assert sum(read > number + 1 for number, read in enumerate(features.read)) >= 3


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
        extract(digits.train, Broken(), [FEATURES])


def test_images_of_several_shapes_are_refused():
    class Growing(Batches):
        def images(self, indices):
            return torch.zeros(len(indices), 1, 8 + int(indices[0]), 8, dtype=torch.uint8)

    with pytest.raises(EvaluationError, match="must have one shape"):
        extract(Growing(torch.zeros(10)), Means(), [PIXELS], batch_size=5)


@pytest.mark.parametrize("num", [0, 1])
def test_one_image_is_too_few(num):
    with pytest.raises(EvaluationError, match=rf"at least 2 images to measure, not {num}\. Give more of them"):
        observe(ArraySplit(torch.zeros(num, 1, 8, 8, dtype=torch.uint8)), Means(), [FEATURES])
