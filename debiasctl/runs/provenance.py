"""The provenance of a new run: its identity, and the software that it is made with."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version

from debiasctl.specs.recorded import ProvenanceSection

_PACKAGES = ("debiasctl", "torch", "accelerate", "numpy", "pydantic", "safetensors")


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
