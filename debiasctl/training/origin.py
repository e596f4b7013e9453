"""The plugins of a training: those that it began with are compared with those that are installed."""

import logging
from itertools import chain

from debiasctl import registry
from debiasctl.errors import RunError, UnknownPluginError
from debiasctl.registry.choices import PluginChoice, with_nested
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec

_LOG = logging.getLogger(__name__)


def check_plugins(run: Run, spec: RunSpec) -> None:
    """Warn of plugins with another version than the run began with.

    Raises:
        RunError: if a plugin is no longer installed, or comes from another distribution.
    """
    choices = {
        "datasets": [spec.data.dataset],
        "backbones": [spec.model.backbone],
        "schedules": [spec.diffusion.schedule],
        "weightings": [spec.loss.weighting],
        "timesteps": [spec.loss.timesteps],
        "extensions": list(spec.extensions),
    }
    if spec.data.autoencoder is not None:
        choices["autoencoders"] = [spec.data.autoencoder]
    if spec.monitor is not None:
        choices["samplers"] = [spec.monitor.sampler]
        choices["features"] = [spec.monitor.features] if spec.monitor.features else []
    for kind, chosen in choices.items():
        singular = registry.KINDS[kind].singular
        for choice in chain.from_iterable(map(with_nested, chosen)):
            record = _installed(run, kind, choice)
            begun, now = f"{choice.distribution} {choice.version}", f"{record.distribution} {record.version}"
            if choice.distribution not in (None, record.distribution):
                raise RunError(
                    f"run '{run.name}' was trained with {singular} '{choice.name}' of {begun}, and here "
                    f"it is {now}'s. Install {choice.distribution} instead to resume the run"
                )
            if choice.version not in (None, record.version):
                _LOG.warning(
                    "%s '%s' came from %s when run '%s' began and comes from %s now",
                    singular, choice.name, begun, run.name, now,
                )  # fmt: skip


def _installed(run: Run, kind: str, choice: PluginChoice) -> registry.PluginRecord:
    try:
        return registry.find(kind, choice.name)
    except UnknownPluginError as error:
        plugin = f"{registry.KINDS[kind].singular} '{choice.name}'"
        if choice.distribution is None:
            raise RunError(
                f"run '{run.name}' was trained with {plugin}, which is not installed here. Install it"
            ) from error
        raise RunError(
            f"run '{run.name}' was trained with {plugin} of {choice.distribution} {choice.version}, which is not "
            f"installed here. Install it to resume, for example: pip install {choice.distribution}=={choice.version}"
        ) from error
