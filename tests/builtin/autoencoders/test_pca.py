"""The PCA autoencoder against its closed forms."""

import pytest
import torch
from tiny import digits

from debiasctl import registry
from debiasctl.api import ArraySplit, Autoencoder, DatasetInfo, LatentShape, LoadedDataset, ModelError, UsageError
from debiasctl.data.pixels import to_model_space

CPU = torch.device("cpu")


def pca(patch: int, components: int) -> Autoencoder:
    made: Autoencoder = registry.create("autoencoders", f"pca:patch={patch},components={components}")
    return made


def test_all_components_lose_nothing_and_fewer_lose_the_least_variance() -> None:
    data = digits()
    images = to_model_space(data.train.images(torch.arange(len(data.train))))
    whole = pca(2, 4).prepare(data, device=CPU)
    torch.testing.assert_close(whole.decode(whole.encode(images)), images, atol=1e-5, rtol=0)
    part = pca(2, 2).prepare(data, device=CPU)
    latents = part.encode(images)
    assert latents.shape == (len(images), 2, 4, 4)
    lost = (part.decode(latents) - images).double().square().mean()
    unfold = torch.nn.functional.unfold(images.double(), 2, stride=2).transpose(1, 2).flatten(0, 1)
    variances = torch.linalg.eigvalsh(torch.cov(unfold.T, correction=0))
    torch.testing.assert_close(lost, variances[:2].sum() / 4, rtol=1e-6, atol=0)


def test_the_fit_of_8_bit_images_does_not_depend_on_their_order() -> None:
    data = digits()
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(0))
    shuffled = ArraySplit(data.train.images(order), data.train.labels(order))
    first = pca(2, 3).prepare(data, device=CPU).state()
    other = pca(2, 3).prepare(LoadedDataset(data.info, shuffled, data.heldout, "x"), device=CPU).state()
    assert all(torch.equal(first[name], other[name]) for name in first)


def test_float_images_are_fitted_as_they_are() -> None:
    images = torch.rand(20, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    split = ArraySplit(images)
    data = LoadedDataset(DatasetInfo(4, 3, (), 20, 20, "float32"), split, split, "x")
    prepared = pca(2, 12).prepare(data, device=CPU)
    torch.testing.assert_close(prepared.decode(prepared.encode(images)), images, atol=1e-5, rtol=0)


def test_a_stored_one_is_the_same() -> None:
    plugin, images = pca(2, 3), to_model_space(digits().heldout.images(torch.arange(4)))
    prepared = plugin.prepare(digits(), device=CPU)
    restored = plugin.restore(prepared.state(), prepared.settings(), device=CPU)
    assert torch.equal(restored.encode(images), prepared.encode(images))
    with pytest.raises(ModelError, match="do not fit together"):
        plugin.restore({"mean": torch.zeros(3)}, {"patch": 2}, device=CPU)


@pytest.mark.parametrize(
    "patch, components, message",
    [(3, 2, r"patch=3 does not divide images of 8 pixels a side. Choose a patch of 1, 2, 4, 8"),
     (2, 5, r"components=5 is more than the 4 values")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(patch: int, components: int, message: str) -> None:
    assert pca(2, 3).latent_shape(8, 1) == LatentShape(3, 4)
    with pytest.raises(UsageError, match=message):
        pca(patch, components).latent_shape(8, 1)
