"""The checks as a package's tests call them."""

import importlib
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from broken_images import Refuses, Shades, Steps
from broken_maps import Means, Plain
from broken_networks import Counts, Here, Makes, Small
from broken_noise import Curve, Even, Flat, Learns, Observing, Uniform
from pydantic import ConfigDict, Field, field_serializer

from debiasctl import registry
from debiasctl.api import DataError, Dataset, Extension, PluginOptions, Weighting
from debiasctl.testing import (
    GaussianDenoiser,
    NotCheckedWarning,
    check_autoencoder,
    check_backbone,
    check_command,
    check_dataset,
    check_engine,
    check_extension,
    check_features,
    check_model_source,
    check_sampler,
    check_schedule,
    check_timesteps,
    check_weighting,
    tiny_dataset,
    tiny_training,
)
from debiasctl.testing import __all__ as names
from debiasctl.testing.every_kind import LEAVES, MADE
from debiasctl.testing.every_kind import laws as every_law
from debiasctl.testing.kinds import examined


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("check", "plugin"),
    [
        (check_weighting, Flat),
        (check_weighting, Learns),
        (check_schedule, Curve),
        (check_timesteps, Uniform),
        (check_timesteps, Observing),
        (check_sampler, Steps),
        (check_dataset, Shades),
        (check_backbone, Small),
        (check_autoencoder, Plain),
        (check_features, Means),
        (check_extension, Counts),
        (check_model_source, Makes),
    ],
)
def test_what_keeps_the_laws_passes(check: Any, plugin: type) -> None:
    """Were one of the plugins that the broken ones derive from broken itself, those would prove nothing."""
    check(plugin)
    assert plugin.__name__ not in {record.name for kind in registry.KINDS for record in registry.records(kind)}


@pytest.mark.filterwarnings("error")
def test_the_example_plugins_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not their package is installed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "plugins" / "debiasctl-examples")
    for check, module, name in (
        (check_weighting, "weighting", "Sech"),
        (check_sampler, "sampler", "PLMS"),
        (check_dataset, "dataset", "Rings"),
    ):
        check(getattr(importlib.import_module(f"debiasctl_examples.{module}"), name))


def test_an_engine_in_this_process_passes_as_far_as_it_can_be_checked() -> None:
    with pytest.warns(NotCheckedWarning, match="A job whose process dies.*it runs jobs in the process that calls it"):
        check_engine(Here)


def test_the_message_lists_every_broken_law() -> None:
    class Negative(Weighting):
        """Below 0, and in single precision."""

        space = "eps"

        def __call__(self, snr: torch.Tensor) -> torch.Tensor:
            return -torch.ones_like(snr).float()

    with pytest.raises(AssertionError) as caught:
        check_weighting(Negative)
    text = str(caught.value)
    assert text.startswith("Negative breaks ")
    assert " laws of a weighting:\n- Its weights are finite and not negative at every SNR" in text
    assert "gives -1.0 at SNR 1e-20; weights must be finite and not negative" in text


class Gamma(Flat):
    """With an option."""

    class Options(PluginOptions):
        """Its options."""

        gamma: float = Field(gt=0, description="what it multiplies by")

    def __call__(self, snr: torch.Tensor) -> torch.Tensor:
        return self.options.gamma * torch.ones_like(snr)


def test_options_are_given_as_a_mapping() -> None:
    check_weighting(Gamma, {"gamma": 5})
    with pytest.raises(AssertionError, match=r"Gamma cannot be checked: it needs options that have no default: gamma"):
        check_weighting(Gamma)
    with pytest.raises(AssertionError, match=r"gamma: input should be greater than 0 \(given: -1\)"):
        check_weighting(Gamma, {"gamma": -1})


def test_what_cannot_be_checked_is_a_warning() -> None:
    class Missing(Dataset):
        """Files that are not there."""

        def info(self, location: Any) -> Any:
            return Shades(PluginOptions()).info(location)

        def load(self, location: Any) -> Any:
            raise DataError("the images are on another machine")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_dataset(Missing)
    texts = [str(one.message) for one in caught]
    assert all("the images are on another machine" in text for text in texts)
    assert len(texts) > 4


def test_a_refusal_is_no_excuse_where_nothing_can_be_lacking() -> None:
    with pytest.raises(AssertionError, match="this sampler makes no steps"):
        check_sampler(Refuses)


def test_a_gradient_that_is_missing_on_purpose_is_listed() -> None:
    from broken_networks import Idle

    class Half(Small):
        """With a parameter that nothing uses."""

        net = Idle

    with pytest.raises(AssertionError, match="none reaches unused"):
        check_backbone(Half)
    check_backbone(Half, without_gradient=["unused"])


def test_an_extension_is_checked_with_settings() -> None:
    class Picky(Extension):
        """Wants a certain number of images per step."""

        def on_start(self, context: Any) -> None:
            assert context.optimizer.param_groups[0]["weight_decay"] == 0.5

    with pytest.raises(AssertionError, match="AssertionError"):
        check_extension(Picky)
    check_extension(Picky, settings={"optimizer": {"weight_decay": 0.5}})


# ---------------------------------------------------------------- the laws of every kind


class Long(Flat):
    """A first line that is so long that no listing of plugins can show it in one line of a terminal of usual width, as it goes on."""  # noqa: E501


class Bare(Flat):
    """An option without a description."""

    class Options(PluginOptions):
        """Its options."""

        number: int = 1


class Thawed(Flat):
    """Options that can be set."""

    class Options(PluginOptions):
        """Its options."""

        model_config = ConfigDict(frozen=False)
        number: int = Field(1, description="a number")


class Doubled(Flat):
    """Options that are stored as others."""

    class Options(PluginOptions):
        """Its options."""

        number: int = Field(1, description="a number")

        @field_serializer("number")
        def twice(self, number: int) -> int:
            return 2 * number


class Single(Flat):
    """There is only one."""

    only: Any = None

    def __new__(cls, options: Any) -> Any:
        Single.only = Single.only or super().__new__(cls)
        return Single.only


class Abstract(Weighting):
    """Lacks everything."""


class Global(Flat):
    """Sets the default dtype."""

    def __call__(self, snr: torch.Tensor) -> torch.Tensor:
        torch.set_default_dtype(torch.float64)
        return torch.ones_like(snr)


EVERY = {
    MADE: Abstract,
    "Its docstring's first line says what it is": Long,
    "Every option is described": Bare,
    "Its options are frozen, and unknown ones are refused": Thawed,
    "JSON holds its options, which come back the same": Doubled,
    "Making one does not change the options, and another can be made from them": Single,
    LEAVES: Global,
}


@pytest.mark.parametrize("law", EVERY)
def test_a_law_of_every_kind_fails(law: str) -> None:
    with registry.lent("weightings", EVERY[law]) as record:
        results = {result.law: result for result in examined(record, {})}
    assert results[law].state == "failed"
    assert torch.get_default_dtype() == torch.float32


def test_there_is_a_broken_plugin_for_each_of_them() -> None:
    assert set(EVERY) == {MADE, LEAVES, *(law.text for law in every_law)}


# ---------------------------------------------------------------- commands


def command(text: str | None = "Say hello.", **settings: Any) -> typer.Typer:
    app = typer.Typer()

    def greet(name: str = typer.Option("you", help=settings.pop("named", "whom to greet"))) -> None:
        print(f"hello {name}")

    greet.__doc__ = text
    app.command(**settings)(greet)
    return app


def test_a_command() -> None:
    check_command(command())


@pytest.mark.parametrize(
    ("app", "law"),
    [
        ("no app", "It is a Typer app"),
        (command(text=None), "Its --help works, and says what it does"),
        (command(named=None), "Every option and argument has a help text"),
        (
            command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True}),
            "An unknown option is refused with exit code 2",
        ),
    ],
)
def test_a_law_of_commands_fails(app: Any, law: str) -> None:
    with pytest.raises(AssertionError, match=f"- {law}"):
        check_command(app)


# ---------------------------------------------------------------- what is exported with them


def test_every_name_is_there() -> None:
    import debiasctl.testing as module

    assert all(hasattr(module, name) for name in names)
    with pytest.raises(AttributeError, match="check_nothing"):
        _ = module.check_nothing


@pytest.mark.parametrize("schedule", ["linear", "flow", "cosine:num_timesteps=50"])
def test_the_denoiser_is_the_best_one(schedule: str) -> None:
    """Its estimate is E[x0 | x_t]: the error of x0 is orthogonal to x_t, and has the variance of the posterior."""
    denoiser = GaussianDenoiser(0.2, 0.5, schedule=schedule)
    generator = torch.Generator().manual_seed(0)
    x0 = 0.2 + 0.5 * torch.randn(200_000, 1, 1, 1, generator=generator, dtype=torch.float64)
    eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
    t = denoiser.num_timesteps // 3
    alpha, sigma = (float(one[t]) for one in (denoiser.process.alpha, denoiser.process.sigma))
    x = alpha * x0 + sigma * eps
    estimate = denoiser(x, t)
    error = x0 - estimate.x0
    assert abs(float((error * x).mean())) < 0.005
    posterior = 0.25 * sigma**2 / (alpha**2 * 0.25 + sigma**2)
    assert float(error.var()) == pytest.approx(posterior, rel=0.02)
    torch.testing.assert_close(alpha * estimate.x0 + sigma * estimate.eps, x)
    torch.testing.assert_close(estimate.v, alpha * estimate.eps - sigma * estimate.x0)
    assert denoiser.nfe == 1


def test_many_small_steps_give_the_images_that_it_expects() -> None:
    denoiser = GaussianDenoiser([-0.4, 0.3], 0.2)
    x, labels = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 1, 2])
    sampler = Steps(PluginOptions())
    found = sampler(denoiser, x, num_steps=1000, noise=None, labels=labels)
    torch.testing.assert_close(found, denoiser.expected(x, 999, labels), rtol=0, atol=0.01)
    with pytest.raises(ValueError, match="called without the labels"):
        denoiser(x, 5)


def test_a_tiny_training() -> None:
    seen: list[int] = []
    settings = {"loss": {"weighting": "p2"}}
    found = tiny_training(settings, steps=3, on_step=lambda done, network, extensions: seen.append(done))
    assert seen == [1, 2, 3]
    assert len(found.losses) == 3
    assert found.extensions == ()
    assert set(found.network.state_dict()) == {
        name.removeprefix("model/") for name in found.state if name.startswith("model/")
    }
    assert found.state["state/step"] == 3
    again = tiny_training(settings, steps=3)
    assert again.losses == found.losses


def test_tiny_images() -> None:
    data = tiny_dataset(12, 3, classes=2, num=16)
    assert (data.info.image_size, data.info.channels, len(data.train), len(data.heldout)) == (12, 3, 16, 4)
    assert data.train.images(torch.arange(16)).dtype == torch.uint8


def test_the_base_of_schedules_is_sound() -> None:
    with pytest.raises(AssertionError, match="Every option is described"):
        check_schedule(Even)  # whose number of timesteps is not, and nothing else
