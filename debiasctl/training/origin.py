"""The provenance of a training: its data's content, software versions, and its plugins' distributions."""

import logging
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from itertools import chain

import torch

from debiasctl import registry
from debiasctl.api import LoadedDataset
from debiasctl.errors import RunError, UnknownPluginError
from debiasctl.registry.choices import PluginChoice, with_nested
from debiasctl.runs.store import Run
from debiasctl.specs.sections import ContentSection, ProvenanceSection, RunSpec

_LOG = logging.getLogger(__name__)
_PACKAGES = ("debiasctl", "torch", "accelerate", "numpy", "pydantic", "safetensors")


def content_section(data: LoadedDataset) -> ContentSection:
    """Describe the content of a data set, as the spec of a run states it."""
    info = data.info
    counts: list[int] = []
    if info.classes:
        labels = data.train.labels(torch.arange(len(data.train)))
        assert labels is not None, "a data set with classes has labels"
        counts = torch.bincount(labels, minlength=len(info.classes)).tolist()
    return ContentSection(
        image_size=info.image_size,
        channels=info.channels,
        classes=info.classes,
        class_counts=tuple(counts),
        num_train=len(data.train),
        num_heldout=len(data.heldout),
        content_hash=data.content_hash,
    )


def provenance() -> ProvenanceSection:
    """A new run's identity, and the software versions and the commit that it is made with."""
    packages: dict[str, str] = {}
    for package in _PACKAGES:
        try:
            packages[package] = version(package) or "unknown"
        except (PackageNotFoundError, KeyError, ValueError):  # its metadata may be broken
            packages[package] = "unknown"
    return ProvenanceSection(
        run=os.urandom(8).hex(), packages=packages, python=platform.python_version(), git_commit=_git_commit()
    )


def _git_commit() -> str | None:
    try:
        result = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


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
