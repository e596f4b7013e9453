import math

import numpy as np
import pytest
import torch

from debiasctl.evaluation.metrics.spectrum import radial_power, spectrum_distance


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 16), (1, 9, 9)])
def test_radial_power_ring_by_ring(shape):
    images = torch.randint(0, 256, (3, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    size = shape[-1]
    for image, found in zip(images.numpy(), radial_power(images), strict=True):
        rings = {}
        for channel in image / 127.5 - 1:
            power = np.abs(np.fft.fftshift(np.fft.fft2(channel))) ** 2 / size**2
            for row in range(size):
                for column in range(size):
                    ring = round(math.hypot(row - size // 2, column - size // 2))
                    rings.setdefault(ring, []).append(power[row, column])
        expected = [np.mean(rings[ring]) for ring in range(1, size // 2 + 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_wave_is_in_its_band():
    wave = 127.5 + 100 * torch.sin(2 * torch.pi * 5 * torch.arange(32) / 32)
    power = radial_power(wave.round().to(torch.uint8).expand(1, 1, 32, 32))[0]
    assert power.argmax() == 4
    assert power[4] > 1000 * power.sum().sub(power[4])


def test_white_noise_has_its_variance_everywhere():
    images = torch.randint(0, 256, (300, 1, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    variance = (images / 127.5 - 1).var().item()
    np.testing.assert_allclose(radial_power(images).mean(dim=0), variance, rtol=0.05)


def test_the_mean_colour_is_not_in_it():
    images = torch.randint(0, 200, (2, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    torch.testing.assert_close(radial_power(images), radial_power(images + 50))


def test_distance_of_a_known_ratio():
    reference = torch.tensor([1.0, 10.0, 3.0, 0.5], dtype=torch.float64)
    assert spectrum_distance(reference, reference) == 0
    assert spectrum_distance(2 * reference, reference) == pytest.approx(math.log(2) ** 2, rel=1e-4)
    assert spectrum_distance(reference, 2 * reference) == pytest.approx(math.log(2) ** 2, rel=1e-4)


def test_flat_images_have_a_finite_distance():
    flat = radial_power(torch.full((2, 1, 8, 8), 90, dtype=torch.uint8)).mean(dim=0)
    assert 1 < spectrum_distance(flat, torch.ones(4, dtype=torch.float64)) < 1000
