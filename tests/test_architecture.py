"""The direction of imports, read from the source: the design's, held."""

import ast
import graphlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import debiasctl

ROOT = Path(debiasctl.__file__).parent

# parts of the package, lowest layer first: a part imports from its own layer or from below
LAYERS = (
    {"errors", "threads"},
    {"refs", "validation", "api", "files", "paths", "counter_random", "subsets", "read_ahead", "processes"},
    {"registry", "choices", "diffusion"},
    {"weightings", "backbones", "datasets", "samplers", "timesteps", "features", "schedules", "specs"},
    {"runs", "run_lock", "run_status", "metrics_file", "archive", "pictures", "weight_curves", "plots"},
    {"training", "sampling", "evaluation", "comparison", "analysis", "monitoring"},
    {"cli"},
    {"__main__"},
)
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
PLUGIN_FOLDERS = {"weightings", "backbones", "datasets", "samplers", "timesteps", "features", "schedules"}

# parts that may know only these others
NARROW = {
    "errors": set(),
    "threads": set(),
    "api": set(),
    "counter_random": set(),
    "subsets": set(),
    "read_ahead": set(),
    "processes": set(),
    "refs": {"errors"},
    "paths": {"errors"},
    "files": {"errors"},
    "validation": set(),
    "registry": {"errors", "refs", "validation", "api"},
    "choices": {"errors", "refs", "registry"},
    "specs": {"errors", "refs", "validation", "api", "registry", "choices"},
    "diffusion": {"errors", "api"},
    **{folder: {"errors", "api", "files", "subsets", "diffusion", "choices"} for folder in PLUGIN_FOLDERS},
}
HEAVY = {
    "torch",
    "matplotlib",
    "plotille",
    "numpy",
    "pydantic",
    "rich",
    "torchvision",
    "accelerate",
    "sklearn",
    "scipy",
    "safetensors",
    "PIL",
}


@dataclass(frozen=True)
class Import:
    """`module` imports `target` (both dotted); `lazy` inside a function, `typing` for type checkers alone."""

    module: str
    target: str
    lazy: bool
    typing: bool


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(module: str, tree: ast.AST) -> list[Import]:
    found: list[Import] = []

    def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        assert node.level == 0, f"{module} imports relatively"
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [name if name in MODULES else str(node.module) for name in names]

    def visit(node: ast.AST, lazy: bool, typing: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(module, target, lazy, typing) for target in targets(node))
            return
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, lazy, True)
            for child in node.orelse:
                visit(child, lazy, typing)
            return
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, lazy, typing)

    visit(tree, False, False)
    return found


IMPORTS = [
    found
    for module, path in MODULES.items()
    for found in imports_of(module, ast.parse(path.read_text(encoding="utf-8")))
]
OURS = [found for found in IMPORTS if found.target.split(".")[0] == "debiasctl" and not found.typing]


def part(module: str) -> str:
    names = module.split(".")
    return names[1] if len(names) > 1 else ""


def test_the_reader_sees_what_there_is() -> None:
    """Were the reading of imports broken, every other test here would pass."""
    source = """
import debiasctl.files
from debiasctl import registry, __version__
if TYPE_CHECKING:
    from debiasctl.api import Space
else:
    import numpy
def f():
    from torch import nn
"""
    assert imports_of("m", ast.parse(source)) == [
        Import("m", "debiasctl.files", False, False),
        Import("m", "debiasctl.registry", False, False),
        Import("m", "debiasctl", False, False),
        Import("m", "debiasctl.api", False, True),
        Import("m", "numpy", False, False),
        Import("m", "torch", True, False),
    ]
    assert Import("debiasctl.specs", "debiasctl.registry", False, False) in OURS
    assert len(MODULES) > 50


def test_every_part_has_its_place() -> None:
    assert {part(module) for module in MODULES} - {""} <= LAYER.keys()


def test_imports_point_downwards() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.target) and LAYER[part(found.target)] > LAYER[part(found.module)]
    ]
    assert wrong == []


@pytest.mark.parametrize("name", NARROW)
def test_a_part_knows_only_what_it_may(name: str) -> None:
    known = {part(found.target) for found in OURS if part(found.module) == name} - {"", name}
    assert known <= NARROW[name]


def test_plugins_are_reached_through_the_registry_alone() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.target) in PLUGIN_FOLDERS and part(found.module) != part(found.target)
    ]
    assert wrong == []


def test_nothing_imports_the_command_line() -> None:
    assert {part(found.module) for found in OURS if part(found.target) == "cli"} <= {"cli", "__main__"}


@pytest.mark.parametrize("lazy", [False, True], ids=["at the top", "inside functions too"])
def test_no_import_goes_in_a_circle(lazy: bool) -> None:
    graph: dict[str, set[str]] = {}
    for found in OURS:
        if (lazy or not found.lazy) and found.target != "debiasctl":
            graph.setdefault(found.module, set()).add(found.target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in IMPORTS
        if not (found.lazy or found.typing) and part(found.module) in {"cli", "__main__", ""}
        and found.target.split(".")[0] in HEAVY
    ]  # fmt: skip
    assert wrong == []


def test_what_a_cheap_command_reads_needs_no_heavy_module() -> None:
    """All that the command line imports at its top, and all that this imports in turn."""
    edges: dict[str, set[str]] = {}
    for found in IMPORTS:
        if not (found.lazy or found.typing):
            edges.setdefault(found.module, set()).add(found.target)
    reached, todo = set(), ["debiasctl.cli.app"]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += edges.get(module, set())
    assert {"debiasctl.registry", "debiasctl.cli.train"} <= reached
    assert not {name.split(".")[0] for name in reached} & HEAVY


@pytest.mark.parametrize("module", ["debiasctl.api", "debiasctl.specs", "debiasctl.runs", "debiasctl.registry"])
def test_specs_and_runs_are_read_without_torch(module: str) -> None:
    heavy = HEAVY - {"pydantic"}
    assert not {
        found.target.split(".")[0]
        for found in IMPORTS
        if found.module == module and not (found.lazy or found.typing)
    } & heavy  # fmt: skip
