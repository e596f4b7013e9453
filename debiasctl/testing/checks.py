"""The checks of each kind, for the tests of a plugin's package."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from debiasctl import registry
from debiasctl.api import (
    Autoencoder,
    Backbone,
    DataLocation,
    Dataset,
    Engine,
    Extension,
    Features,
    ImageShape,
    LoadedDataset,
    ModelSource,
    Sampler,
    Schedule,
    TimestepDistribution,
    Weighting,
)
from debiasctl.testing.every_kind import MADE
from debiasctl.testing.kinds import examined
from debiasctl.testing.results import Result

Options = Mapping[str, Any] | None


class NotCheckedWarning(UserWarning):
    """A law of a plugin could not be checked here; the text says why."""


def check_weighting(plugin: type[Weighting], options: Options = None) -> None:
    """Check that a weighting keeps the laws of its kind.

    Raises:
        AssertionError: if it does not; the message names each law that is broken, and what was found.
    """
    _check("weightings", plugin, options)


def check_schedule(plugin: type[Schedule], options: Options = None) -> None:
    """Check that a noise schedule keeps the laws of its kind; see `check_weighting`."""
    _check("schedules", plugin, options)


def check_timesteps(plugin: type[TimestepDistribution], options: Options = None) -> None:
    """Check that a distribution of timesteps keeps the laws of its kind; see `check_weighting`."""
    _check("timesteps", plugin, options)


def check_sampler(plugin: type[Sampler], options: Options = None) -> None:
    """Check that a sampler keeps the laws of its kind; see `check_weighting`."""
    _check("samplers", plugin, options)


def check_dataset(plugin: type[Dataset], options: Options = None, *, location: DataLocation | None = None) -> None:
    """Check that a data set keeps the laws of its kind; see `check_weighting`.

    `location` is where its files are, if it has any; nothing is downloaded.
    """
    _check("datasets", plugin, options, location=location)


def check_backbone(
    plugin: type[Backbone],
    options: Options = None,
    *,
    shape: ImageShape | None = None,
    without_gradient: Sequence[str] = (),
) -> None:
    """Check that a backbone keeps the laws of its kind; see `check_weighting`.

    Networks are built for `shape`, or for the smallest square images that it takes. `without_gradient` names the
    parameters that get no gradient on purpose.
    """
    _check("backbones", plugin, options, shape=shape, without_gradient=without_gradient)


def check_autoencoder(plugin: type[Autoencoder], options: Options = None, *, data: LoadedDataset | None = None) -> None:
    """Check that an autoencoder keeps the laws of its kind; see `check_weighting`.

    `data` are images to fit it to and to encode, by default tiny ones.
    """
    _check("autoencoders", plugin, options, data=data)


def check_features(plugin: type[Features], options: Options = None, *, data: LoadedDataset | None = None) -> None:
    """Check that a feature extractor keeps the laws of its kind; see `check_weighting`.

    `data` are images to prepare it with, by default tiny ones.
    """
    _check("features", plugin, options, data=data)


def check_extension(
    plugin: type[Extension], options: Options = None, *, settings: Mapping[str, Any] | None = None
) -> None:
    """Check that an extension keeps the laws of its kind; see `check_weighting`.

    It is part of tiny trainings, with the `settings` of a spec (see `tiny_training`).
    """
    _check("extensions", plugin, options, settings=settings or {})


def check_model_source(plugin: type[ModelSource], options: Options = None, *, read_option: str = "path") -> None:
    """Check that a model source keeps the laws of its kind; see `check_weighting`.

    A file that it writes is read again by the option `read_option`.
    """
    _check("models", plugin, options, read_option=read_option)


def check_engine(plugin: type[Engine], options: Options = None) -> None:
    """Check that an engine keeps the laws of its kind; see `check_weighting`."""
    _check("engines", plugin, options)


def check_command(app: Any) -> None:
    """Check that a command, a Typer app, keeps the laws of its kind; see `check_weighting`."""
    _check("commands", app, None)


def _check(kind: str, plugin: Any, options: Options, **more: Any) -> None:
    __tracebackhide__ = True  # pytest then shows where the check was called
    with registry.lent(kind, plugin) as record:
        results = list(examined(record, options or {}, **more))
    name = getattr(plugin, "__name__", record.name)
    if results[0].law == MADE and results[0].state == "not checked":
        raise AssertionError(f"{name} cannot be checked: {results[0].detail}, as the second argument")
    for result in results:
        if result.state == "not checked":
            warnings.warn(f"{name}: not checked: {result.law} ({result.detail})", NotCheckedWarning, stacklevel=3)
    text = report(name, registry.KINDS[kind].singular, results)
    if text:
        raise AssertionError(text)


def report(name: str, singular: str, results: Iterable[Result]) -> str:
    """The laws that are broken, one a line, with what was found; nothing if all are kept."""
    results = list(results)
    broken = [result for result in results if result.state == "failed"]
    if not broken:
        return ""
    lines = [f"- {result.law}.\n  But: {result.detail}" for result in broken]
    article = "an" if singular[0] in "aeiou" else "a"
    return f"{name} breaks {len(broken)} of the {len(results)} laws of {article} {singular}:\n" + "\n".join(lines)
