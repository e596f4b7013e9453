"""What a plugin's source says, read without importing it: for completion and listings, which must be quick."""

import ast
from collections.abc import Iterator
from functools import lru_cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path

from debiasctl.registry.metadata import PluginRecord

_DEEPEST = 20  # names followed from one module to the next, in case they lead in a circle


def summary(record: PluginRecord) -> str:
    """The first line of a plugin's docstring, or nothing where the source cannot be read."""
    found = _found(*record.target.partition(":")[::2])
    return ((ast.get_docstring(found[1]) if found and isinstance(found[1], ast.ClassDef) else None) or "").partition(
        "\n"
    )[0]


def option_values(record: PluginRecord) -> dict[str, list[str]]:
    """The names of a plugin's options, each with its values where they are a few names, or true and false.

    Options of the classes that it derives from are included; nothing is found where the source cannot be read.
    """
    module, _, name = record.target.partition(":")
    return dict(_options(module, name, _DEEPEST))


def _options(module: str, name: str, depth: int) -> Iterator[tuple[str, list[str]]]:
    """The options of a plugin's class: of its own `Options`, else of its base's."""
    found = _found(module, name, depth)
    plugin = found[1] if found else None
    if found is None or not isinstance(plugin, ast.ClassDef) or depth == 0:
        return
    module = found[0]
    own = next((node for node in plugin.body if isinstance(node, ast.ClassDef) and node.name == "Options"), None)
    if own is not None:
        yield from _fields(module, own, depth - 1)
        return
    for base in plugin.bases:
        yield from _options(module, ast.unparse(base), depth - 1)


def _fields(module: str, model: ast.ClassDef, depth: int) -> Iterator[tuple[str, list[str]]]:
    """The fields of a model, those of the models that it derives from first."""
    for base in model.bases:
        text = ast.unparse(base)
        if text.endswith(".Options"):
            yield from _options(module, text.removesuffix(".Options"), depth)
        elif (found := _found(module, text, depth)) is not None and isinstance(found[1], ast.ClassDef):
            yield from _fields(found[0], found[1], depth - 1) if depth else ()
    for node in model.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not _of_class(node.annotation):
            yield node.target.id, _values(module, node.annotation, depth)


def _of_class(annotation: ast.expr) -> bool:
    """Whether it annotates a variable of the class, which is no field of its instances."""
    head = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return ast.unparse(head).rpartition(".")[2] == "ClassVar"


def _values(module: str, annotation: ast.expr, depth: int) -> list[str]:
    if isinstance(annotation, ast.Name) and annotation.id == "bool":
        return ["true", "false"]
    if isinstance(annotation, ast.Name):
        found = _found(module, annotation.id, depth)
        annotation = found[1].value if found and isinstance(found[1], ast.Assign) else annotation
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value).rpartition(".")[2] == "Literal":
        return [str(node.value) for node in ast.walk(annotation.slice) if isinstance(node, ast.Constant)]
    return []


def _found(module: str, name: str, depth: int = _DEEPEST) -> tuple[str, ast.stmt] | None:
    """The module that defines a name that `module` defines or imports, and the class or assignment that does."""
    tree = _tree(module)
    for node in tree.body if tree and depth else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign) and any(isinstance(one, ast.Name) and one.id == name for one in node.targets):
            return module, node
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    package = module if _is_package(module) else module.rpartition(".")[0]
                    source = resolve_name("." * node.level + (node.module or ""), package)
                    return _found(source, alias.name, depth - 1)
    return None


@lru_cache(maxsize=256)
def _tree(module: str) -> ast.Module | None:
    origin = _origin(module)
    if origin is None or origin.suffix != ".py":
        return None
    try:
        return ast.parse(origin.read_bytes())
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return None  # the plugin is reported as broken by whoever uses it


def _is_package(module: str) -> bool:
    origin = _origin(module)
    return origin is not None and origin.name == "__init__.py"


@lru_cache(maxsize=256)
def _origin(module: str) -> Path | None:
    """The file of a module; unlike importlib.util.find_spec, the packages that it lies in are not imported."""
    found: ModuleSpec | None = None
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        where = None if found is None else found.submodule_search_locations
        found = PathFinder.find_spec(".".join(parts[:depth]), where) if depth == 1 or where is not None else None
        if found is None:
            return None
    return Path(found.origin) if found and found.origin else None
