import pytest
import torch

from debiasctl.evaluation.metrics.colour import colour_fd, mean_colours, mean_shift, mean_shift_squared


@pytest.mark.parametrize("value, expected", [(0, -1.0), (255, 1.0), (51, -0.6)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_mean_colours_of_flat_images(value, expected, channels):
    colours = mean_colours(torch.full((2, channels, 5, 7), value, dtype=torch.uint8))
    assert colours.dtype == torch.float64
    torch.testing.assert_close(colours, torch.full((2, channels), expected, dtype=torch.float64))


def test_mean_colours_are_the_models_space(photos):
    images = photos.train.array
    expected = (images.double() / 127.5 - 1).mean(dim=(2, 3))
    torch.testing.assert_close(mean_colours(images), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(mean_colours(images)[5:6], mean_colours(images[5:6]))


def test_a_known_shift_of_each_channel(photos):
    images = photos.train.array.clamp(20, 200)
    shifted = (images.int() + torch.tensor([10, -20, 0])[:, None, None]).to(torch.uint8)
    expected = [10 / 127.5, -20 / 127.5, 0.0]
    shift = mean_shift(mean_colours(shifted), mean_colours(images))
    assert shift == pytest.approx(expected, abs=1e-12)
    squared = sum(value**2 for value in expected)
    assert mean_shift_squared(mean_colours(shifted), mean_colours(images)) == pytest.approx(squared)
    assert colour_fd(mean_colours(shifted), mean_colours(images)) == pytest.approx(squared)


def test_colour_fd_sees_a_lost_spread_that_the_mean_does_not(photos):
    colours = mean_colours(photos.train.array)
    narrowed = colours.mean(dim=0) + (colours - colours.mean(dim=0)) / 2
    variance = colours.var(dim=0).sum().item()  # (1 - 1/2)² of it is the distance
    assert mean_shift_squared(narrowed, colours) == pytest.approx(0, abs=1e-20)
    assert colour_fd(narrowed, colours) == pytest.approx(variance / 4)
