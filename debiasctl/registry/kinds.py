"""The kinds of plugins: their names, what they are, and the base class of each."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from debiasctl.errors import UsageError
from debiasctl.wording import did_you_mean, quoted

if TYPE_CHECKING:
    from debiasctl.api import Plugin


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: `name` ends the name of its entry-point group, and `base` names a class of `debiasctl.api`."""

    name: str
    singular: str  # what messages call one plugin
    what: str
    base: str | None


KINDS = {
    kind.name: kind
    for kind in (
        Kind("datasets", "dataset", "images to train on", "Dataset"),
        Kind("autoencoders", "autoencoder", "maps between images and the latents that are trained on", "Autoencoder"),
        Kind("backbones", "backbone", "networks", "Backbone"),
        Kind("schedules", "schedule", "noise schedules", "Schedule"),
        Kind("weightings", "weighting", "loss weights as functions of the signal-to-noise ratio", "Weighting"),
        Kind("timesteps", "timestep distribution", "how training draws t", "TimestepDistribution"),
        Kind("samplers", "sampler", "how images are drawn from a trained model", "Sampler"),
        Kind("features", "feature extractor", "feature extractors for evaluation", "Features"),
        Kind("extensions", "extension", "objects called at fixed points of training", "Extension"),
        Kind("models", "model source", "places and formats that trained networks come from", "ModelSource"),
        Kind("engines", "engine", "what runs the jobs of a sweep", "Engine"),
        Kind("commands", "command", "subcommands of debiasctl", None),
    )
}

# the commands that debiasctl has itself, whose names no plugin's can have
OWN_COMMANDS = frozenset(
    {
        "analyze",
        "compare",
        "datasets",
        "doctor",
        "ema",
        "evaluate",
        "likelihood",
        "plugins",
        "runs",
        "sample",
        "spec",
        "sweep",
        "train",
        "weightings",
    }
)


def kind_named(text: str) -> str:
    """The name of the kind that `text` names, singular or plural.

    Raises:
        UsageError: if there is no such kind.
    """
    for kind in KINDS.values():
        if text == kind.singular or kind.name in (text, f"{text}s"):
            return kind.name
    raise UsageError(f"unknown plugin kind {quoted(text)}.{did_you_mean(text, KINDS)} Known: {', '.join(KINDS)}")


def base_of(kind: str) -> "type[Plugin]":
    """The class that every plugin of a kind derives from; commands have none."""
    from debiasctl import api

    name = KINDS[kind].base
    assert name is not None, "a command is no plugin class"
    base: type[Plugin] = getattr(api, name)
    return base
