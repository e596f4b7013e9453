"""The direction of imports, read from the source: the design's, held."""

import ast
import contextlib
import graphlib
import importlib
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

import pytest

import debiasctl
from debiasctl.cli.commands import COMMANDS

ROOT = Path(debiasctl.__file__).parent

# rooms of the package, lowest layer first: a room imports from itself or from a lower layer
LAYERS = (
    {"claims", "errors", "frames"},
    {"temporaries", "wording"},
    {"boundary", "reading"},
    {"files", "paths"},
    {"api"},
    {"diffusion", "reporting"},  # reporting is given plain data
    {"registry"},
    {"scaffold", "specs"},
    {"runs"},
    {"data", "compute"},
    {"models"},
    {"sampling"},
    {"evaluation"},
    {"training", "analysis"},
    {"comparison"},
    {"sweeps"},
    {"python"},
    {"testing"},  # what plugins' authors check their plugins with
    {"cli"},
    {"__main__", ""},  # `import debiasctl` offers the Python API, lazily
)
LAYER = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
PUBLIC = {"api", "diffusion"}  # what plugins import, ours like anyone's
TEMPLATES = "templates"  # the code of packages that are written, whose tests import what is for tests
LONGEST = 400  # lines of a module

# rooms that may be imported by these others alone
IMPORTERS = {
    "training": {"cli", "sweeps", "testing"},
    "builtin": set(),  # reached through the registry
    "cli": {"__main__"},
}
HEAVY = {
    "torch",
    "matplotlib",
    "plotille",
    "jinja2",
    "numpy",
    "pydantic",
    "rich",
    "torchvision",
    "accelerate",
    "sklearn",
    "scipy",
    "safetensors",
    "PIL",
    "cleanfid",
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
OURS = [found for found in IMPORTS if found.target.split(".")[0] == "debiasctl"]


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
    assert Import("debiasctl.specs.sections", "debiasctl.registry.choices", False, False) in OURS
    assert len(MODULES) > 50


def test_every_room_has_its_place() -> None:
    assert {part(module) for module in MODULES} - {"", "builtin", TEMPLATES} <= LAYER.keys()


def test_imports_point_downwards() -> None:
    """Imports for type checkers count: what is needed to read a signature is needed to understand it."""
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.module) not in {"builtin", TEMPLATES}
        and part(found.target) not in {"", TEMPLATES, part(found.module)}
        and LAYER[part(found.target)] >= LAYER[part(found.module)]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", IMPORTERS)
def test_a_room_is_imported_by_those_alone_that_may(room: str) -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.target) == room and part(found.module) not in {room, *IMPORTERS[room]}
    ]
    assert wrong == []


def test_built_in_plugins_import_what_is_public_alone() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.module) == "builtin" and part(found.target) not in {"builtin", *PUBLIC}
    ]
    assert wrong == []


def test_written_packages_import_what_is_public_alone() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in OURS
        if part(found.module) == TEMPLATES and part(found.target) not in {"", "testing", *PUBLIC}
    ]
    assert wrong == []
    assert [found for found in OURS if part(found.target) == TEMPLATES] == [
        Import("debiasctl.scaffold.package", "debiasctl.templates", False, False)  # for where it lies
    ]


def test_no_import_goes_in_a_circle() -> None:
    """Neither one at the top of a module, nor one inside a function, nor one for type checkers."""
    graph: dict[str, set[str]] = {}
    for found in OURS:
        if found.target != "debiasctl":
            graph.setdefault(found.module, set()).add(found.target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize(
    "room, folders",
    [
        ("evaluation", {"likelihood", "metrics", "reference", "uncertainty"}),
        ("builtin", {"weightings", "timesteps", "features"}),
    ],
)
def test_the_folders_of_a_room_import_in_no_circle(room: str, folders: set[str]) -> None:
    """A folder counts as one, and so does each module beside it."""
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if part(module) == room and module.count(".") > 1:
            graph[module.split(".")[2]] = set()
    for found in OURS:
        if part(found.module) == part(found.target) == room and found.target.count(".") > 1:
            graph[found.module.split(".")[2]].add(found.target.split(".")[2])
    assert folders <= graph.keys()
    graphlib.TopologicalSorter({one: others - {one} for one, others in graph.items()}).prepare()  # raises CycleError


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_short_enough_to_read(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= LONGEST


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    wrong = [
        f"{found.module} imports {found.target}"
        for found in IMPORTS
        if not (found.lazy or found.typing) and part(found.module) in {"cli", "__main__", ""}
        and found.target.split(".")[0] in HEAVY
    ]  # fmt: skip
    assert wrong == []


def test_what_a_cheap_command_reads_needs_no_heavy_module() -> None:
    """All that the command line and its commands import at their top, and all that this imports in turn."""
    edges: dict[str, set[str]] = {}
    for found in IMPORTS:
        if not (found.lazy or found.typing):
            edges.setdefault(found.module, set()).add(found.target)
    cheap = [f"debiasctl.cli.{name}" for name in COMMANDS]
    reached, todo = set(), ["debiasctl.cli.app", "debiasctl.cli.completion", "debiasctl.registry", *cheap]
    while todo:
        module = todo.pop()
        if module not in reached:
            reached.add(module)
            todo += edges.get(module, set())
    assert {"debiasctl.registry.entry_points", "debiasctl.cli.train"} <= reached
    assert not {name.split(".")[0] for name in reached} & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "debiasctl.api",
        "debiasctl.specs.sections",
        "debiasctl.runs.store",
        "debiasctl.runs.records",
        "debiasctl.registry.entry_points",
        "debiasctl.training.conduct",
    ],
)
def test_specs_and_runs_are_read_without_torch(module: str) -> None:
    heavy = HEAVY - {"pydantic"}
    assert not {
        found.target.split(".")[0]
        for found in IMPORTS
        if found.module == module and not (found.lazy or found.typing)
    } & heavy  # fmt: skip


# ---------------------------------------------------------------- the packages in plugins/

PACKAGES = sorted((ROOT.parent / "plugins").glob("*/"))
# what a third party may import, and of it the names in __all__ alone
OFFERED = (
    "debiasctl", "debiasctl.api", "debiasctl.api.arrays", "debiasctl.api.errors", "debiasctl.api.files",
    "debiasctl.api.state_dicts", "debiasctl.diffusion", "debiasctl.testing",
)  # fmt: skip
TAKES_A_NAME = ("import_module", "__import__", "find_spec", "importorskip", "setattr", "delattr", "patch", "setitem")


def not_offered(source: str) -> set[str]:
    """What of debiasctl a module uses that is not public: imported, as an attribute, or by its name in a string."""
    used, names = set[tuple[str, str]](), dict[str, str]()  # (module, name of it), and what modules are called here
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                used.add((alias.name, ""))
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            used |= {(str(node.module), alias.name) for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in TAKES_A_NAME:
            texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            used |= {(text, "") for text in texts if text in MODULES or text.rpartition(".")[0] in MODULES}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "import" in node.value:
            with contextlib.suppress(SyntaxError):  # code for another process, most likely
                used |= {(found, "") for found in not_offered(textwrap.dedent(node.value))}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if names.get(first, "").split(".")[0] == "debiasctl" and re.fullmatch(r"[\w.]+", rest):
                module, _, name = f"{names[first]}.{rest}".rpartition(".")
                used |= {(module, name)} if module in MODULES else set()
    return {
        f"{module}.{name}".rstrip(".")
        for module, name in used
        if module.split(".")[0] == "debiasctl" and not _is_offered(module, name)
    }


def _is_offered(module: str, name: str) -> bool:
    if f"{module}.{name}" in OFFERED or (module in OFFERED and not name):
        return True
    return module in OFFERED and name in importlib.import_module(module).__all__


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            "from debiasctl.api import Weighting\nfrom debiasctl.api.files import quoted\nimport debiasctl.testing",
            set(),
        ),
        ("from debiasctl import run, api\nimport debiasctl\ndebiasctl.run('a').sample()\ndebiasctl.api.Space", set()),
        ("from debiasctl_x import y\nfrom .debiasctl import z\nimport torch", set()),
        ("from debiasctl.api import SECRET", {"debiasctl.api.SECRET"}),
        ("from debiasctl import registry", {"debiasctl.registry"}),
        ("def f():\n    from debiasctl.runs.store import Run", {"debiasctl.runs.store.Run"}),
        ("import debiasctl.cli as c", {"debiasctl.cli"}),
        ("import debiasctl as d\nd.training.session", {"debiasctl.training", "debiasctl.training.session"}),
        ("import debiasctl\ndebiasctl.boundary.summary(1)", {"debiasctl.boundary", "debiasctl.boundary.summary"}),
        ("from debiasctl.api.samplers import Level", {"debiasctl.api.samplers.Level"}),
        ("from importlib import import_module\nimport_module('debiasctl.specs')", {"debiasctl.specs"}),
        ("m.setattr('debiasctl.paths.home', 1)", {"debiasctl.paths.home"}),
        ("run(['-c', 'from debiasctl.cli.app import main\\nmain()'])", {"debiasctl.cli.app.main"}),
    ],
)
def test_what_is_not_public_is_seen(source: str, found: set[str]) -> None:
    assert not_offered(source) == found


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_imports_what_is_public_alone(package: Path) -> None:
    """Its tests too: they show others how to test theirs."""
    files = sorted(package.rglob("*.py"))
    assert files
    wrong = {path.name: not_offered(path.read_text(encoding="utf-8")) for path in files}
    assert {name: found for name, found in wrong.items() if found} == {}


# how files and texts of others are opened and parsed outside of the room `reading`, each with what makes it safe there
RAW_READERS = {
    ("debiasctl.builtin.datasets._support.decoded_images", "np.load"),  # after the header is checked
    ("debiasctl.models.tensor_files", "torch.load"),  # of weights alone, after the zip is checked
    ("debiasctl.builtin.features._support.dinov2_network", "torch.load"),  # of weights alone, of a checked file
    ("debiasctl.testing.laws", "torch.load"),  # of weights alone, which were stored just before
    ("debiasctl.registry.source", "origin.read_bytes"),  # a module's source
}
RAW = {"json.load", "json.loads", "yaml.load", "yaml.safe_load", "np.load", "torch.load", "pickle.load"}


def test_what_others_wrote_is_read_by_the_room_for_it() -> None:
    """A new place that opens or parses by itself would block on a pipe, or believe what a header states."""
    found = set()
    for module, path in MODULES.items():
        if part(module) in {"reading", TEMPLATES}:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name in RAW or name.endswith((".read_bytes", ".read_text")):
                    found.add((module, name))
    assert found == RAW_READERS
