"""Which versions of debiasctl a plugin's distribution says that it works with, and whether this is one of them.

The version of what plugins import is debiasctl's own: a distribution states it as it states any dependency
(`debiasctl>=0.1,<0.2`), in its metadata.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import debiasctl
from debiasctl.wording import printable

if TYPE_CHECKING:
    from importlib.metadata import Distribution

_OURS = re.compile(r"\s*debiasctl\s*(?=[\[(<>=!~;@,]|$)", re.IGNORECASE)  # and not debiasctl-other


def requirements_in(distribution: "Distribution") -> tuple[str, ...]:
    """What a distribution's metadata require of debiasctl, as they state it."""
    try:
        stated = distribution.requires or []
        return tuple(text.strip() for text in stated if _OURS.match(text))
    except Exception:  # noqa: BLE001 - whatever lies in another package's metadata harms no plugin
        return ()


def applying(requirements: Sequence[str]) -> tuple[str, ...]:
    """The requirements that hold here, without those of extras and of other systems; as `debiasctl>=0.1`."""
    if not requirements:
        return ()
    from packaging.requirements import InvalidRequirement, Requirement  # it takes long to import

    found = []
    for text in requirements:
        try:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                bounds = sorted(map(str, requirement.specifier), key=lambda one: (one.startswith("<"), one))
                found.append(f"debiasctl{','.join(bounds)}")
        except (InvalidRequirement, ValueError):  # pip would not install it; nothing follows from it
            continue
    return tuple(dict.fromkeys(found))


def misfit(requirements: Sequence[str]) -> str | None:
    """What this version of debiasctl fails to be, such as `debiasctl>=0.2,<0.3`; None if it is what is required.

    A development or pre-release version counts as the release that it precedes, too.
    """
    stated = applying(requirements)
    if not stated:
        return None
    from packaging.requirements import Requirement
    from packaging.version import InvalidVersion, Version

    try:
        installed = Version(debiasctl.__version__)
    except InvalidVersion:
        return None
    for text in stated:
        allowed = Requirement(text).specifier
        if not any(allowed.contains(one, prereleases=True) for one in (installed, installed.base_version)):
            return printable(text)
    return None


def compatible() -> str:
    """The requirement of a package that works with this version, whose successors change nothing that it uses.

    Before 1.0, a new minor version may change what plugins use; after, a new major version alone.
    """
    from packaging.version import Version

    version = Version(debiasctl.__version__)
    major, minor = (*version.release, 0)[:2]
    least = min(Version(f"{major}.{minor}"), version)  # 0.2.0.dev1 is less than 0.2
    return f"debiasctl>={least},<{f'0.{minor + 1}' if major == 0 else major + 1}"


def advice(distribution: str, version: str, needed: str) -> str:
    """What to do about a distribution that needs another version of debiasctl."""
    return (
        f"{distribution} {version} needs {needed}, and this is debiasctl {debiasctl.__version__}. Install a version of "
        f"{distribution} that works with it (pip install --upgrade {distribution}), or the debiasctl that it needs "
        f"(pip install '{needed}')"
    )
