import dataclasses
import math

import pytest
import torch

from debiasctl.analysis.ideal import ClosedForm, ideal_for
from debiasctl.analysis.ideal.closed_form import ROUNDING
from debiasctl.api import ArraySplit, DataLocation, DatasetInfo, GaussianMixture, Level, LoadedDataset
from debiasctl.boundary import ContractError
from debiasctl.data.pixels import to_model_space
from debiasctl.errors import PluginOptionsError, UsageError
from debiasctl.registry.contracts.densities import check_density
from debiasctl.registry.entry_points import create

SMALL = "gaussian-mixture:image_size=8,num=4000,components=3"


@pytest.fixture
def location(tmp_path):
    return DataLocation(None, tmp_path)


@pytest.fixture
def data(location) -> LoadedDataset:
    return create("datasets", SMALL).load(location)


def density_of(data: LoadedDataset) -> GaussianMixture:
    assert data.density is not None
    return data.density


def test_images_have_the_means_and_covariances_of_the_density(data):
    density = density_of(data)
    assert isinstance(data.train, ArraySplit)
    images = to_model_space(data.train.array).double()
    for number in range(3):
        own = images[data.train.targets == number]
        away = density.coefficients(own - density.means[number])
        variances = density.variances[number] + ROUNDING
        assert (away.mean(dim=0) / (variances / len(own)).sqrt()).square().mean() == pytest.approx(1, abs=0.4)
        found = away.square().mean(dim=0) / variances
        assert float(found.mean()) == pytest.approx(1, abs=0.02)
        assert float((found - 1).square().mean()) == pytest.approx(2 / len(own), rel=0.4)  # of normal numbers


def test_values_at_the_ends_are_as_rare_as_promised(location):
    for reference in (SMALL, "gaussian-mixture:deviation=0.15,num=8", "gaussian-mixture:channels=1,components=1,num=8"):
        density = density_of(create("datasets", reference).load(location))
        deviations = density.pixel_variances().sqrt()
        nearest = ((1 - density.means.abs()) / deviations).min()
        assert float(nearest) >= 5 - 1e-9
        assert math.erfc(5 / math.sqrt(2)) / 2 < 3e-7


def test_options_decide_the_images(location):
    first = create("datasets", SMALL).load(location)
    assert create("datasets", SMALL).load(location).content_hash == first.content_hash
    for change in ("seed=1", "spectrum=3", "contrast=0.5", "deviation=0.05"):
        assert create("datasets", f"{SMALL},{change}").load(location).content_hash != first.content_hash
    fewer = create("datasets", SMALL.replace("4000", "1500")).load(location)
    assert torch.equal(fewer.train.images(torch.arange(1500)), first.train.images(torch.arange(1500)))
    assert fewer.info.class_counts == (500, 500, 500)
    assert torch.bincount(first.train.labels(torch.arange(4000))).tolist() == list(first.info.class_counts)


def test_images_that_are_evenly_spread_are_of_all_classes(data):
    for step in (2, 3, 6):
        counts = torch.bincount(data.train.labels(torch.arange(0, 3600, step)), minlength=3)
        assert (counts - 1200 / step).abs().max() < 5 * (800 / step) ** 0.5


def test_brightness_differs_most_and_fine_detail_least(data):
    variances = density_of(data).variances[0]
    assert variances.flatten().argmax() == 0
    assert variances.flatten().argmin() == variances.numel() - 1


@pytest.mark.parametrize("log_snr", [-9.0, -4.0, -1.0, 1.0, 4.0, 8.0, 12.0])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_irreducible_error_of_its_images_is_the_closed_form(data, log_snr, mirrored):
    """Held-out images, whose values are rounded, at levels from almost noise alone to finer than the rounding."""
    level = Level(0.0, math.sqrt(1 / (1 + math.exp(-log_snr))), math.sqrt(1 / (1 + math.exp(log_snr))))
    ideal = ideal_for(data, mirrored=mirrored, conditional=False, device=torch.device("cpu"), seed=0)
    assert isinstance(ideal, ClosedForm)
    x0 = to_model_space(data.heldout.images(torch.arange(1000))).double()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = ideal(level.alpha * x0 + level.sigma * noise, level)
    gap = (x0 - found.mean).square().flatten(1).mean(dim=1) - found.variance
    assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(gap))
    assert found.variance.mean() > 3 * gap.std() / math.sqrt(len(gap))  # so that the bar is worth something


@pytest.mark.parametrize("option", ["channels=2", "image_size=10", "components=0", "num=1", "contrast=2", "spectrum=9"])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(PluginOptionsError, match=option.partition("=")[0]):
        create("datasets", f"gaussian-mixture:{option}")


def test_a_deviation_without_room_for_a_mean_is_refused(location):
    with pytest.raises(UsageError, match=r"beyond \[-1, 1\] within 5 .* Lower the deviation"):
        create("datasets", "gaussian-mixture:deviation=0.18").load(location)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"weights": torch.ones(3).double()}, "sum of 1"),
        ({"weights": torch.ones(3)}, "the weights of a density"),
        ({"means": torch.zeros(3, 3, 8, 9).double()}, "the means of a density, float64"),
        ({"variances": -torch.ones(3, 3, 8, 8).double()}, "negative variance"),
        ({"variances": torch.full((3, 3, 8, 8), math.nan).double()}, "variances are not finite"),
        ({"basis": (torch.ones(3, 3).double(), torch.eye(8).double(), torch.eye(8).double())}, "not orthonormal"),
        ({"basis": (torch.eye(3).double(), torch.eye(8).double())}, "2 matrices"),
        ({"classes": torch.tensor([0, 1, 3])}, "classes beyond the 3"),
        ({"classes": torch.zeros(3)}, "the classes of a density, int64"),
    ],
)
def test_an_impossible_density_of_a_plugin_is_refused(data, change, message):
    info: DatasetInfo = data.info
    check_density(data.density, info)
    with pytest.raises(ContractError, match=message):
        check_density(dataclasses.replace(data.density, **change), info)


@pytest.mark.parametrize("change", ["means", "variances", "basis"])
def test_a_density_that_is_not_the_images_own_is_refused(data, change):
    channels, rows, columns = data.density.basis
    changed = {
        "means": -data.density.means,
        "variances": data.density.variances * 1.2,
        "basis": (channels, rows.flip(0), columns),
    }[change]
    wrong = dataclasses.replace(data, density=dataclasses.replace(data.density, **{change: changed}))
    with pytest.raises(UsageError, match="its images are not drawn from it"):
        ideal_for(wrong, mirrored=False, conditional=False, device=torch.device("cpu"), seed=0)
