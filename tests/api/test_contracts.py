"""What a plugin gets from its kind's base: options, and defaults for all that it does not say."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from pydantic import Field
from torch import nn

from debiasctl import api, builtin, diffusion, registry
from debiasctl.api import (
    Backbone,
    DataLocation,
    Dataset,
    DatasetInfo,
    Estimate,
    Features,
    ImageShape,
    NestedWeighting,
    PluginOptions,
    PreparedFeatures,
    Sampler,
    TimestepContext,
    TimestepDistribution,
    Weighting,
)
from debiasctl.diffusion import GridSampler, SamplerOptions, Step


class Plain(Weighting):
    """A weighting that says no more than it must."""

    space = "x0"

    def __call__(self, snr):
        return snr


def test_a_plugin_without_options_takes_none() -> None:
    assert Plain.Options is PluginOptions
    assert Plain(Plain.Options()).options == PluginOptions()


def test_a_distribution_of_t_is_by_default_part_of_the_objective() -> None:
    class Tilted(TimestepDistribution):
        """q ∝ t + 1."""

        def probabilities(self, context):
            return torch.arange(1, len(context.snr) + 1, dtype=torch.float64)

    tilted, table = Tilted(Tilted.Options()), torch.ones(4, dtype=torch.float64)
    assert (tilted.corrected, tilted.varies, tilted.observes) == (False, False, False)
    assert torch.equal(tilted.base(TimestepContext(table, table, table)), table)
    draws = torch.rand(3, dtype=torch.float64)
    assert torch.equal(tilted.spread(draws, draws[:1], torch.arange(3), 3), draws)
    assert tilted.state_dict() == {}


def test_a_backbones_options_are_by_default_what_was_given() -> None:
    class Linear(Backbone):
        """One layer."""

        def build(self, shape, num_classes):
            return nn.Identity()

    options = Linear.Options()
    assert Linear.resolve_options(options, ImageShape(8, 1, 1)) is options
    assert Linear(options).set_memory_format(nn.Identity(), torch.channels_last) is False


def test_a_sampler_need_not_say_where_it_looks() -> None:
    class Guess(Sampler):
        """The first estimate."""

        def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
            return denoiser(x, denoiser.num_timesteps - 1, labels).x0

    assert Guess(Guess.Options()).grid(None, 10**6) is None


def test_a_data_set_need_not_recommend_anything() -> None:
    class Nothing(Dataset):
        """No images."""

        def info(self, location):
            return DatasetInfo(8, 1, (), 0, 0)

        def load(self, location):
            raise NotImplementedError

    location = DataLocation(None, Path("none"))
    assert Nothing(Nothing.Options()).recommended(location) == {}
    assert Nothing(Nothing.Options()).info(location).value_type == "uint8"


class Means(PreparedFeatures):
    """Row means."""

    def __init__(self) -> None:
        super().__init__(identity="means", dimension=8, details={"of": "rows"})

    def __call__(self, images):
        return images.double().mean(dim=(1, 3))

    def spatial(self, images):
        return self(images) + 1


def test_features_are_by_default_made_from_images_of_one_size() -> None:
    class Rows(Features):
        """Row means."""

        def prepare(self, data, *, cache_dir, device):
            return Means()

    rows = Rows(Rows.Options())
    assert (rows.labelled, rows.pretrained, rows.any_size, rows.weights_files) == (False, False, False, ())
    means, images = Means(), torch.ones(2, 1, 8, 8, dtype=torch.uint8)
    assert (means.identity, means.dimension, means.details) == ("means", 8, {"of": "rows"})
    assert (means.offers, means.verified, means.notes()) == ({"features", "spatial"}, False, ())
    assert rows.weights_option is None
    parts = means.parts(images, ["spatial", "features"])
    assert {name: rows.shape for name, rows in parts.items()} == {"spatial": (2, 8), "features": (2, 8)}
    assert torch.equal(parts["spatial"], means(images) + 1)


def test_features_offer_what_they_override() -> None:
    class Only(Means):
        """Without spatial features."""

        spatial = PreparedFeatures.spatial

    class Classified(Only):
        """With classes."""

        def logits(self, images):
            return self(images)

    assert Only().offers == {"features"}
    assert Classified().offers == {"features", "logits"}
    with pytest.raises(NotImplementedError, match="does not offer spatial features"):
        Classified().spatial(torch.ones(1, 1, 8, 8))


def test_a_method_that_is_missing_is_named() -> None:
    class Lazy(GridSampler):
        """No steps."""

    with pytest.raises(TypeError, match="steps"):
        Lazy(SamplerOptions())


def test_a_sampler_on_a_grid_is_its_steps() -> None:
    class Jump(GridSampler):
        """The estimate of x0, whatever the level."""

        def steps(self, model, x, grid, noise):
            for level in grid[:-1]:
                x = model(x, level).x0
                yield Step(x, x)

    assert Jump.Options is SamplerOptions
    found = Jump(SamplerOptions())(Half(), torch.ones(1, 1, 2, 2), num_steps=3, noise=None)
    assert torch.equal(found, torch.full((1, 1, 2, 2), 1 / 8))
    assert len(Jump(SamplerOptions()).grid(Half(), 3)) == 4


class Half:
    """A denoiser that halves what it sees."""

    num_timesteps, alphas_cumprod, null_label, nfe = 4, torch.linspace(0.9, 0.1, 4, dtype=torch.float64), None, 0

    def __call__(self, x_t, t, labels=None):
        return Estimate(x_t / 2, x_t, x_t)


# ---------------------------------------------------------------- plugins among options


class Doubled(Weighting):
    """Twice another weighting."""

    class Options(PluginOptions):
        """Options."""

        of: NestedWeighting = Field("debiased", validate_default=True, description="the other weighting")

    options: Options

    @property
    def space(self):
        return self.options.of.create().space

    def __call__(self, snr):
        return 2 * self.options.of.create()(snr)


@pytest.mark.parametrize("value", [{}, {"of": "p2:k=2"}, {"of": {"name": "p2", "options": {"k": 2.0}}}])
def test_a_plugin_among_options_is_resolved_made_and_stored(value: dict) -> None:
    options = Doubled.Options.model_validate(value, context=registry.resolve)
    name, settings = ("p2", {"k": 2.0, "gamma": 1.0}) if value else ("debiased", {})
    stored = options.model_dump(mode="json")["of"]
    assert (stored["name"], stored["options"], stored["distribution"]) == (name, settings, "debiasctl")
    assert stored["version"]
    snr = torch.logspace(-3, 3, 7, dtype=torch.float64)
    assert torch.equal(
        Doubled(options)(snr), 2 * registry.create("weightings", {"name": name, "options": settings})(snr)
    )
    again = Doubled.Options.model_validate({"of": stored}, context=registry.resolve)
    assert again == options
    assert Doubled.Options(of=options.of) == options  # what was found once needs no finding


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("debias", "unknown weighting 'debias'. Did you mean 'debiased'?"),
        ("p2:k=-1", "weighting 'p2': k: input should be greater than 0"),
        ("uniform", "unknown weighting 'uniform'"),
    ],
)
def test_a_plugin_among_options_that_is_not_there(value: str, message: str) -> None:
    with pytest.raises(ValueError, match="of\n") as caught:
        Doubled.Options.model_validate({"of": value}, context=registry.resolve)
    assert message in str(caught.value)
    assert "See: debiasctl plugins" not in str(caught.value)  # the outer message says it


def test_options_that_name_plugins_are_validated_by_the_registry() -> None:
    with pytest.raises(ValueError, match=r"plugins are found by debiasctl\.registry\.resolve only"):
        Doubled.Options()


# ---------------------------------------------------------------- the module


def test_the_api_imports_no_torch() -> None:
    code = "import sys, debiasctl.api; print(sorted({'torch', 'numpy', 'urllib.request'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"


@pytest.mark.parametrize("package", [api, diffusion])
def test_all_that_is_public_is_documented(package: ModuleType) -> None:
    assert sorted(set(package.__all__)) == sorted(package.__all__)
    for name in package.__all__:
        if name not in ("Noise", "Part", "Prediction", "Space", "Spacing", "SNR_MAX", "SNR_MIN"):  # no classes
            assert getattr(package, name).__doc__, name


def test_what_our_plugins_take_from_diffusion_is_exported() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(builtin.__file__).parent.rglob("*.py")]
    taken = [found for text in sources for found in re.findall(r"^\s*from debiasctl\.diffusion(.*) import", text, re.M)]
    assert taken
    assert set(taken) == {""}
