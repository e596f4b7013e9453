"""`debiasctl plugins new` writes a package for every kind that works at once, and its guide shows that very code."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT, read
from tiny import BACKBONE, error_of, succeed, write_distribution

from debiasctl import __version__, registry
from debiasctl.scaffold import Package, files_of, uses_of
from debiasctl.scaffold.kinds import TEMPLATES
from debiasctl.scaffold.names import class_name

Written = dict[str, dict[str, Any]]
GUIDES = ROOT / "docs" / "how-to" / "plugins"
WITH_PROCESSES = {"engines"}  # kinds whose tests and uses start processes, which take long


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """What `plugins new --json` says of a package of each kind, which it wrote."""
    folder = tmp_path_factory.mktemp("written")
    found = {}
    for kind, template in TEMPLATES.items():
        place = str(folder / f"debiasctl-{template.name}")
        found[kind] = json.loads(succeed("plugins", "new", kind, template.name, "--dir", place, "--json").out)
    return found


@pytest.fixture(scope="module")
def site(written: Written, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that all of them are installed in, as pip would leave it."""
    site = tmp_path_factory.mktemp("site")
    for one in written.values():
        folder = Path(one["folder"])
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        points = project["entry-points"]
        write_distribution(site, name=project["name"], version=project["version"], entry_points=points, modules={})
        shutil.copytree(folder / one["module"], site / one["module"])
    return site


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(site)
    before = set(sys.modules)
    yield site
    for name in set(sys.modules) - before:
        if name.startswith("debiasctl_my_"):
            del sys.modules[name]


def test_there_is_a_template_for_every_kind() -> None:
    assert TEMPLATES.keys() == registry.KINDS.keys()


@pytest.mark.parametrize("kind", TEMPLATES)
def test_what_is_written_is_the_template_with_the_names_of_the_package(kind: str) -> None:
    """So that the guide, which shows the template, shows what `plugins new` writes."""
    template, folder = TEMPLATES[kind], ROOT / "debiasctl" / "templates" / kind
    files = files_of(Package(kind, template.name, "my-package", "my_package"))
    for source, target in (
        (f"{template.stem}.py", f"my_package/{template.stem}.py"),
        (f"test_{template.stem}.py", f"tests/test_{template.stem}.py"),
        ("__init__.py", "my_package/__init__.py"),
    ):
        assert files[target] == (folder / source).read_text(encoding="utf-8")
    renamed = files_of(Package(kind, "soft-cut", "lab-things", "lab_things"))
    text = "".join(f"{path}\n{content}" for path, content in renamed.items())
    assert not re.search(r"my_package|my-package|My[A-Z]|my[-_](kind|plugin)", text)
    assert template.name not in text
    assert "class SoftCut(" in text or kind == "commands"


@pytest.mark.parametrize("kind", TEMPLATES)
def test_its_guide_shows_it_and_the_commands_that_are_printed(kind: str, written: Written) -> None:
    template = TEMPLATES[kind]
    page = (GUIDES / f"{kind}.md").read_text(encoding="utf-8")
    shown = re.findall(r"^:::\{literalinclude\} (.*)$", page, re.MULTILINE)
    names = (f"{template.stem}.py", f"test_{template.stem}.py")
    assert [(GUIDES / path).resolve() for path in shown] == [
        ROOT / "debiasctl" / "templates" / kind / name for name in names
    ]
    lines = read(GUIDES / f"{kind}.md").blocks[0].code.splitlines()
    said = [f"cd debiasctl-{template.name}", *written[kind]["next"][1:]]
    assert lines == [f"debiasctl plugins new {kind} {template.name}", *said]
    base = registry.KINDS[kind].base
    assert (
        base is None
        or f"({base})" in (ROOT / "debiasctl" / "templates" / kind / names[0]).read_text()
        or (
            kind == "samplers"  # which derives from what the base has been made into
        )
    )


def test_the_overview_lists_every_guide() -> None:
    overview = (GUIDES.parent / "write-a-plugin.md").read_text(encoding="utf-8")
    assert {path.stem for path in GUIDES.glob("*.md")} == set(registry.KINDS)
    for kind in registry.KINDS:
        assert f"](./plugins/{kind}.md)" in overview
        assert f"\n./plugins/{kind}\n" in overview


def test_the_packages_in_the_repository_are_listed() -> None:
    page = (ROOT / "docs" / "how-to" / "plugin-packages.md").read_text(encoding="utf-8")
    here = {path.parent.name for path in (ROOT / "plugins").glob("*/pyproject.toml")}
    assert here
    assert [name for name in here if f"## {name}\n" not in page] == []


def test_they_are_listed_with_nothing_imported_and_described(installed: Path) -> None:
    listed = json.loads(succeed("plugins", "list", "--json").out)["plugins"]
    ours = {(one["kind"], one["name"]): one for one in listed if one["distribution"].startswith("debiasctl-my-")}
    assert set(ours) == {(kind, template.name) for kind, template in TEMPLATES.items()}
    assert not [name for name in sys.modules if name.startswith("debiasctl_my_")]
    for kind, name in ours:
        described = json.loads(succeed("plugins", "describe", kind, name, "--json").out)
        assert described["options"] or kind == "commands"
        assert all(option["description"] or kind in ("schedules", "samplers") for option in described["options"])


def test_all_their_tests_pass_in_one_process(written: Written, site: Path) -> None:
    folders = [one["folder"] for kind, one in written.items() if kind not in WITH_PROCESSES]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
    ]
    environment = os.environ | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [*command, "--rootdir", folders[0], "-W", "error", *folders],
        capture_output=True, text=True, env=environment, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.parametrize("kind", [kind for kind in TEMPLATES if kind not in WITH_PROCESSES])
def test_the_commands_that_are_printed_run(
    kind: str, written: Written, installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [shlex.split(line) for line in written[kind]["next"]]
    check, *uses = [arguments for program, *arguments in lines if program == "debiasctl"]
    assert check == ["plugins", "check", kind, TEMPLATES[kind].name]
    assert uses
    for arguments in [check, *uses] if kind == "weightings" else uses:  # a check has a process of its own
        succeed(*smaller(arguments))


def smaller(arguments: list[str]) -> list[str]:
    """The same command with less work."""
    if arguments[0] == "train":
        network = [] if "--backbone" in arguments else ["--backbone", BACKBONE]
        return [*arguments, *network, "--steps", "2", "--batch-size", "8", "--set", "training.heldout_images=4"]
    less = {"sample": ["--num", "4", "--steps", "3"], "evaluate": ["--num", "40", "--steps", "2"]}
    return [*arguments, *less.get(arguments[0], [])]


@pytest.mark.slow  # it installs twelve packages, and each has seconds of imports
def test_each_installs_with_pip_and_passes_its_tests(written: Written, tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DEBIASCTL_HOME": str(tmp_path / "home"),
    }

    def run(*command: str | Path, cwd: Path = ROOT) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=cwd, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    run(ROOT / ".ci" / "layer", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", ROOT)
    for kind, one in written.items():
        folder = Path(one["folder"])
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", "-e", folder)
        assert "passed" in run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
        run(python, "-m", "debiasctl", "plugins", "check", kind, one["name"], cwd=tmp_path)
        listed = json.loads(run(python, "-m", "debiasctl", "plugins", "list", kind, "--json"))["plugins"]
        assert one["name"] in [plugin["name"] for plugin in listed]
    last = written["engines"]["next"][-1]
    small = [
        "--steps",
        "2",
        "--batch-size",
        "8",
        "--backbone",
        BACKBONE,
        "--num",
        "8",
        "--features",
        "pixels:dimension=4",
    ]
    run(python, "-m", "debiasctl", *shlex.split(last)[1:], *small, "--evaluate-steps", "2", cwd=tmp_path)


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("weigthings", "x"), "unknown plugin kind 'weigthings'. Did you mean 'weightings'?"),
        (("weightings", "a b"), "'a b' cannot be the name of a plugin"),
        (("weightings", "../x"), "'../x' cannot be the name of a plugin"),
        (("weightings", "é"), "cannot be the name of a plugin"),
        (("weightings", "a" * 37), "at most 36 letters"),
        (("weightings", "min-snr"), f"weighting 'min-snr' is installed already, by debiasctl {__version__}"),
        (("commands", "train"), "command 'train' is installed already, by debiasctl itself"),
        (
            ("commands", "x", "--package", "json"),
            "--package json: its module 'json' would hide that of Python's standard",
        ),
        (("commands", "x", "--package", "numpy"), "is installed, and this package would take its place"),
        (("commands", "x", "--package", "sklearn"), "its module 'sklearn' would hide an installed one ("),
        (("commands", "x", "--package", "class"), "which is a word of Python's own"),
        (("commands", "x", "--package", "3d"), "cannot begin with a digit"),
        (("commands", "x", "--package", "tests"), "the name of another folder beside it"),
        (("commands", "x", "--package", "a b"), "--package a b cannot be the name of a package"),
        (("commands", "x", "--package", "a-"), "cannot be the name of a package"),
        (("commands", "x", "--dir", "file"), "--dir file exists, and is left as it is. Name a new folder"),
        (("commands", "x", "--dir", "."), "such as --dir debiasctl-x"),
        (("commands", "x", "--dir", "link"), "--dir link exists"),
    ],
)
def test_bad_names_are_refused_and_nothing_is_written(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("link").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert message in error_of("plugins", "new", *arguments, code=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_name_of_another_package_is_refused_by_its_name(installed: Path) -> None:
    text = error_of("plugins", "new", "weighting", "my-weighting", code=2)
    assert "weighting 'my-weighting' is installed already, by debiasctl-my-weighting 0.1.0" in text
    text = error_of("plugins", "new", "samplers", "my-weighting", code=2)  # another kind may have the name
    assert "debiasctl-my-weighting 0.1.0 is installed, and this package would take its place" in text


def test_a_package_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    real = Path.write_text

    def full(path: Path, text: str, **more: str) -> int:
        if path.name == "test_package.py":
            raise OSError(28, "No space left on device")
        return real(path, text, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert "the disk is full" in error_of("plugins", "new", "weightings", "x", code=1)
    assert list(tmp_path.iterdir()) == []
    out = succeed("plugins", "new", "weightings", "x").out
    assert "  cd debiasctl-x\n" in out
    assert "exists" in error_of("plugins", "new", "weightings", "x", code=2)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("my-scheme", "MyScheme"), ("dpm-solver++", "DpmSolver"), ("A.b_c", "ABC"), ("3d", "My3d"), ("none", "MyNone"),
        ("field", "MyField"), ("print", "Print"),
    ],
)  # fmt: skip
def test_the_class_has_the_plugins_name(name: str, expected: str) -> None:
    assert class_name(name, {"Field"}) == expected


@pytest.mark.parametrize("kind", TEMPLATES)
@pytest.mark.parametrize(
    "name", ["weighting", "field", "steps", "job", "deque", "torch", "self", "x", "a" * 36, "Options"]
)
def test_odd_names_still_make_code_that_compiles(kind: str, name: str) -> None:
    files = files_of(Package(kind, name, f"debiasctl-{name}", f"debiasctl_{name}"))
    tomllib.loads(files["pyproject.toml"])
    for path, text in files.items():
        if path.endswith(".py"):
            compile(text, path, "exec")
            assert max(map(len, text.splitlines())) <= 120


def test_a_name_that_is_no_bare_key_of_toml_is_quoted() -> None:
    package = Package("samplers", "a.b++", "debiasctl-a-b", "debiasctl_a_b")
    points = tomllib.loads(files_of(package)["pyproject.toml"])["project"]["entry-points"]
    assert points == {"debiasctl.samplers": {"a.b++": "debiasctl_a_b.sampler:AB"}}
    assert uses_of(Package("samplers", "RUN", "p", "p"))[1].startswith("debiasctl sample p --sampler RUN ")
