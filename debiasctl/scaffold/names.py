"""The names of a new package and its plugin, which nothing that is installed has already."""

import keyword
import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from importlib.util import find_spec

from debiasctl.errors import UsageError
from debiasctl.registry import KINDS, records
from debiasctl.registry.refs import NAME
from debiasctl.wording import quoted

LONGEST = 36  # characters of a plugin's name, so that lines of code that hold it stay short
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?")
_OWN = {"tests", "build", "dist"}  # folders beside the module


@dataclass(frozen=True)
class Package:
    """A new package: the plugin's `kind` and `name`, the `distribution` to install, and the `module` to import."""

    kind: str
    name: str
    distribution: str
    module: str


def package_for(kind: str, name: str, *, distribution: str | None = None, taken: Collection[str] = ()) -> Package:
    """The names of a package with a plugin of that kind and name; `distribution` is debiasctl-NAME unless given.

    `taken` are names that debiasctl itself has for what is no plugin: its own commands.

    Raises:
        UsageError: if a name is none, or is taken by what is installed.
    """
    _check_plugin(kind, name, taken)
    if distribution is None:
        slug = re.sub(r"[-_.+]+", "-", name).strip("-").lower()
        distribution = slug if slug.startswith("debiasctl-") else f"debiasctl-{slug}"
    module = re.sub(r"[-_.]+", "_", distribution).lower()
    _check_distribution(distribution, module)
    return Package(kind, name, distribution, module)


def class_name(name: str, words: Collection[str]) -> str:
    """The plugin's name in CamelCase, for its class; with My before it if it were no name then, or one of `words`."""
    camel = "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_.+]+", name))
    if camel.isidentifier() and not keyword.iskeyword(camel) and camel not in words:
        return camel
    return f"My{camel}"


def _check_plugin(kind: str, name: str, taken: Collection[str]) -> None:
    singular = KINDS[kind].singular
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        raise UsageError(
            f"{quoted(name)} cannot be the name of a plugin. A name is at most {LONGEST} letters, digits, '.', '_', "
            "'+' and '-', and begins with a letter or a digit, for example: my-scheme"
        )
    owners = [f"{record.distribution} {record.version}" for record in records(kind) if record.name == name]
    if name in taken:
        owners.append("debiasctl itself")
    if owners:
        raise UsageError(
            f"{singular} '{name}' is installed already, by {' and '.join(owners)}, and a name can be claimed once. "
            f"Choose another name; see: debiasctl plugins list {kind}"
        )


def _check_distribution(distribution: str, module: str) -> None:
    if not _DISTRIBUTION.fullmatch(distribution):
        raise UsageError(
            f"`package={quoted(distribution, mark='')}` cannot be the name of a package. A name is at most 50 letters, "
            "digits, '.', '_' and '-', and begins and ends with a letter or a digit, for example: debiasctl-my-scheme"
        )
    reason = _why_not(distribution, module)
    if reason is not None:
        raise UsageError(f"`package={distribution}`: {reason}. Give the package another name, such as debiasctl-NAME")


def _why_not(distribution: str, module: str) -> str | None:
    """Why no package of this name should be made, or None."""
    from importlib.metadata import PackageNotFoundError, version  # it takes long to import

    if not module.isidentifier():
        return f"its module would be '{module}', and a module's name cannot begin with a digit"
    if keyword.iskeyword(module):
        return f"its module would be '{module}', which is a word of Python's own"
    if module in sys.stdlib_module_names:
        return f"its module '{module}' would hide that of Python's standard library"
    if module in _OWN:
        return f"its module would be '{module}', which is the name of another folder beside it"
    try:
        found = version(distribution)
    except PackageNotFoundError:
        pass
    else:
        return f"{distribution} {found} is installed, and this package would take its place"
    spec = _spec(module)
    if spec is not None and spec.origin is not None:
        return f"its module '{module}' would hide an installed one ({spec.origin})"
    return None


def _spec(module: str) -> ModuleSpec | None:
    """Where a top-level module is, which is not imported; None for a folder that merely has its name."""
    try:
        return find_spec(module)
    except (ImportError, ValueError):  # a broken one of this name
        return None
