"""The files of a new package, made from the templates by putting its names in place of theirs."""

import builtins
import keyword
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from string import Template as Text

from debiasctl import templates
from debiasctl.errors import UsageError
from debiasctl.files import atomic_folder, check_place
from debiasctl.reading.regular import read_text
from debiasctl.registry import KINDS
from debiasctl.registry.versions import compatible
from debiasctl.scaffold.kinds import TEMPLATES
from debiasctl.scaffold.names import Package, class_name

_ROOT = Path(templates.__file__).parent
_MODULE = "my_package"  # the templates' own


def uses_of(package: Package) -> list[str]:
    """Commands that use the plugin once it is installed."""
    names = {"NAME": package.name, "RUN": package.distribution.removeprefix("debiasctl-")}
    return [re.sub(r"\b(NAME|RUN)\b", lambda found: names[found[0]], use) for use in TEMPLATES[package.kind].uses]


def files_of(package: Package) -> dict[str, str]:
    """The package's files by their paths in its folder."""
    template, folder = TEMPLATES[package.kind], _ROOT / package.kind
    plugin, tests = f"{template.stem}.py", f"test_{template.stem}.py"
    attribute, singular = _attribute(package), KINDS[package.kind].singular
    article = "an" if singular[0] in "aeiou" else "a"
    names = {
        _MODULE: package.module,
        template.name: package.name,
        template.attribute: attribute,
        "my_kind": package.kind,
        "my-plugin": package.name,
    }
    fields = {
        "distribution": package.distribution,
        "module": package.module,
        "kind": package.kind,
        "name": package.name,
        "key": package.name if re.fullmatch(r"[\w-]+", package.name) else f'"{package.name}"',
        "attribute": attribute,
        "stem": template.stem,
        "singular": singular,
        "article": article.capitalize(),
        "article_kind": f"{article} {singular}",
        "description": read_text(folder / "__init__.py").strip().strip('"').rstrip("."),
        "requirement": compatible(),
        "uses": "\n".join(uses_of(package)),
    }
    common = _ROOT / "package"
    return {
        "pyproject.toml": Text(read_text(common / "pyproject.toml.in")).substitute(fields),
        "README.md": Text(read_text(common / "README.md.in")).substitute(fields),
        ".gitignore": read_text(common / "gitignore"),
        ".github/workflows/tests.yml": read_text(common / "tests.yml"),
        f"{package.module}/__init__.py": read_text(folder / "__init__.py"),
        f"{package.module}/{plugin}": _renamed(read_text(folder / plugin), names),
        f"{package.module}/py.typed": "",
        f"tests/{tests}": _renamed(read_text(folder / tests), names),
        "tests/test_package.py": _renamed(read_text(common / "test_package.py"), names),
    }


def write_package(package: Package, folder: Path) -> list[str]:
    """Write the package as a new folder, whole or not at all; returns its files' paths.

    Raises:
        UsageError: if there is something at `folder`; DebiasctlError: if it cannot be written.
    """
    if os.path.lexists(folder):
        inside = folder.is_dir() and folder.name != package.distribution
        instead = folder / package.distribution if inside else folder.with_name(f"{package.distribution}-2")
        raise UsageError(
            f"`dir={folder}` exists, and is left as it is. Name a new folder, such as `dir={shlex.quote(str(instead))}`"
        )
    check_place(folder)
    files = files_of(package)
    with atomic_folder(folder) as temporary:
        for name, text in files.items():
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return list(files)


def _attribute(package: Package) -> str:
    """The class that the entry point names, or a command's Typer app."""
    template = TEMPLATES[package.kind]
    if template.attribute == "app":
        return "app"
    folder = _ROOT / package.kind
    sources = read_text(folder / f"{template.stem}.py") + read_text(folder / f"test_{template.stem}.py")
    words = {*re.findall(r"\w+", sources), *dir(builtins), *keyword.kwlist} - {template.attribute}
    return class_name(package.name, words)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """The text with names in place of others, all at once, so that none is taken for another."""
    pattern = "|".join(re.escape(name) for name in names)
    return re.sub(rf"(?<![\w-])({pattern})(?![\w-])", lambda found: names[found[0]], text)
