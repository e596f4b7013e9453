"""Refusing a setting that names no plugin before any plugin, and torch with it, is imported."""

from collections.abc import Mapping
from typing import Any

from debiasctl import registry
from debiasctl.specs.files import extension_list

# section and name of a setting that chooses a plugin -> the plugin's kind
_CHOICES = {
    ("data", "dataset"): "datasets",
    ("data", "autoencoder"): "autoencoders",
    ("loss", "weighting"): "weightings",
    ("loss", "timesteps"): "timesteps",
    ("model", "backbone"): "backbones",
    ("diffusion", "schedule"): "schedules",
    ("monitor", "sampler"): "samplers",
    ("monitor", "features"): "features",
}


def check_names(settings: Mapping[str, Any]) -> None:
    """Check that the plugins that raw settings name are installed; whatever else is wrong is left to validation.

    Raises:
        UnknownPluginError: if one is not; ReferenceSyntaxError: if one cannot be read.
    """
    for (section, name), kind in _CHOICES.items():
        held = settings.get(section)
        choice = held.get(name) if isinstance(held, Mapping) else None
        if isinstance(choice, Mapping):
            choice = choice.get("name")
        elif isinstance(choice, str):
            choice = registry.as_ref(choice).name
        if isinstance(choice, str):
            registry.find(kind, choice)
    extensions = extension_list(settings.get("extensions"))
    for choice in extensions if isinstance(extensions, list | tuple) else ():
        if isinstance(choice, str):
            registry.find("extensions", registry.as_ref(choice).name)
