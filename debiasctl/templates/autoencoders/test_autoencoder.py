"""The autoencoder keeps the contract of its kind, and is the transform that it states."""

import pytest
import torch
from debiasctl.api import UsageError
from debiasctl.testing import check_autoencoder

from my_package.autoencoder import MyAutoencoder


def made(levels: int) -> MyAutoencoder:
    return MyAutoencoder(MyAutoencoder.Options(levels=levels))


def test_it_keeps_its_contract() -> None:
    check_autoencoder(MyAutoencoder)
    check_autoencoder(MyAutoencoder, {"levels": 2})


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_it_is_orthonormal(levels: int) -> None:
    autoencoder = made(levels)
    haar = autoencoder.prepare(None, device=torch.device("cpu"))
    images = torch.randn(2, 3, 16, 16)
    latents = haar.encode(images)
    shape = autoencoder.latent_shape(16, 3)
    assert latents.shape == (2, shape.channels, shape.size, shape.size)
    torch.testing.assert_close(haar.decode(latents), images)
    torch.testing.assert_close(latents.square().sum(), images.square().sum())


def test_a_block_becomes_its_mean_and_differences() -> None:
    haar = made(levels=1).prepare(None, device=torch.device("cpu"))
    a, b, c, d = 0.5, 0.25, -0.125, 1.0
    latents = haar.encode(torch.tensor([[[[a, b], [c, d]]]])).flatten()
    expected = [a + b + c + d, a - b + c - d, a + b - c - d, a - b - c + d]
    assert latents.tolist() == [value / 2 for value in expected]


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(UsageError, match="levels=3 needs a height and width that 8 divides"):
        made(levels=3).latent_shape(28, 1)
