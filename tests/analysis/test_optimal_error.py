"""The least error over a set of images: in closed form, against the whole sum, and where the set is remembered."""

import math

import pytest
import torch

from debiasctl.analysis import optimal_error
from debiasctl.analysis.ideal import image_set
from debiasctl.analysis.optimal_error import OptimalError, optimal_errors
from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset
from debiasctl.errors import UsageError

CPU = torch.device("cpu")


def dataset(train: torch.Tensor, heldout: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor] | None = None):
    info = DatasetInfo(
        image_size=train.shape[-1], channels=train.shape[1], classes=("a", "b") if labels else (), num_train=len(train),
        num_heldout=len(heldout), value_type="float32",
    )  # fmt: skip
    first, second = labels or (None, None)
    return LoadedDataset(
        info=info, train=ArraySplit(train, first), heldout=ArraySplit(heldout, second), content_hash="0"
    )


def errors(data: LoadedDataset, log_snr: list[float], *, num: int = 200, **settings: bool) -> list[OptimalError]:
    options = {"mirrored": False, "conditional": False} | settings
    return optimal_errors(data, log_snr, num=num, device=CPU, **options)


def brute_force(x0: torch.Tensor, known: torch.Tensor, log_snr: float, draws: int = 4000) -> float:
    """The least error of v of a set, by a plain softmax over it and many noises."""
    alpha, sigma = math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr)))
    generator = torch.Generator().manual_seed(7)
    images = known.flatten(1).double()
    own = x0.flatten(1).double()[torch.randint(len(x0), (draws,), generator=generator)]
    x_t = alpha * own + sigma * torch.randn(own.shape, generator=generator, dtype=torch.float64)
    weights = torch.softmax(-torch.cdist(x_t, alpha * images).square() / (2 * sigma**2), dim=1)
    return float((own - weights @ images).square().mean()) * (1 + math.exp(log_snr))


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_set, "_BLOCK", 17 * 4)


@pytest.mark.usefixtures("in_parts")
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_whole_sets_error_is_that_of_a_plain_sum(mirrored: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 2, 2, generator=generator) * 2 - 1
    known = torch.cat([images, images.flip(-1)]) if mirrored else images
    for one in errors(dataset(images, images.flip(0)), [-4.0, -1.0, 0.5], num=60, mirrored=mirrored):
        expected = brute_force(images, known, one.log_snr)
        assert abs(one.train - expected) < 4 * one.train_se + 0.02 * expected
        assert one.heldout == pytest.approx(expected, rel=0.25)  # the same images, each with another's noise


def test_a_conditional_denoiser_knows_the_class() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(400) % 2
    images = (0.1 * torch.randn(400, 1, 1, 1, generator=generator) + (2 * labels - 1)[:, None, None, None]).float()
    data = dataset(images, images.flip(0), (labels, labels.flip(0)))
    known, unknown = (errors(data, [-6.0], conditional=flag)[0].train for flag in (True, False))
    assert known == pytest.approx(0.01, rel=0.2)  # the variance within a class
    assert unknown == pytest.approx(1.0, rel=0.05)


def test_gaussian_images_have_the_closed_form() -> None:
    deviation = 0.5
    generator = torch.Generator().manual_seed(2)
    images = deviation * torch.randn(6000, 1, 1, 1, generator=generator)
    for one in errors(dataset(images[:5000], images[5000:]), [-6.0, -2.0, 0.0, 2.0], num=1000):
        alpha = 1 / (1 + math.exp(-one.log_snr))
        expected = deviation**2 / (alpha * deviation**2 + 1 - alpha)
        assert abs(one.train - expected) < 4 * one.train_se
        assert abs(one.heldout - expected) < 4 * one.heldout_se
        assert not one.is_remembered


def test_two_parts_of_a_large_set_stand_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture in 4 dimensions: the product of two parts' residuals is near the whole set's error, one's is not."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.rand(20, 4, generator=generator) * 2 - 1
    images = centres[torch.arange(2000) % 20] + 0.1 * torch.randn(2000, 4, generator=generator)
    data = dataset(images.reshape(-1, 1, 2, 2), images.reshape(-1, 1, 2, 2)[:300])
    levels = [-2.0, 0.0, 1.5]
    whole = [one.train for one in errors(data, levels, num=1500)]
    monkeypatch.setattr(image_set, "MOST_VALUES", 4 * 60)
    parts = errors(data, levels, num=1500)
    kept = optimal_error._errors
    monkeypatch.setattr(optimal_error, "_errors", lambda ideals, *rest: kept(ideals[:1], *rest))
    single = [one.train for one in errors(data, levels, num=1500)]
    for number, expected in enumerate(whole):
        assert abs(parts[number].train / expected - 1) < 0.04
    assert max(abs(one / expected - 1) for one, expected in zip(single, whole, strict=True)) > 0.1


def test_a_level_that_is_remembered_ends_the_estimate_and_the_first_one_refuses_it() -> None:
    generator = torch.Generator().manual_seed(4)
    images = torch.randn(40, 1, 4, 4, generator=generator).clamp(-1, 1)
    data = dataset(images[:20], images[20:])
    found = errors(data, [-8.0, -4.0, 0.0, 4.0])
    assert found[-1].is_remembered
    assert not found[0].is_remembered
    assert len(found) < 4
    with pytest.raises(UsageError, match="even at log SNR 4 the best denoiser of them does well by remembering"):
        errors(data, [4.0])
