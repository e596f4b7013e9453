"""The project's own files agree with each other: workflows, hooks, versions, addresses."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from debiasctl import __version__

ROOT = Path(__file__).parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOWS = {
    path.stem: yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # "on" and 3.10 stay strings
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
STEPS = [
    (name, step) for name, flow in WORKFLOWS.items() for job in flow["jobs"].values() for step in job["steps"]
]  # fmt: skip
PARTS = {path.name for path in (ROOT / ".ci").iterdir()}


def pythons() -> list[str]:
    found = [re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line) for line in PROJECT["classifiers"]]
    return [match[1] for match in found if match]


def pinned(package: str) -> str:
    (version,) = (
        line.partition("==")[2]
        for line in PROJECT["optional-dependencies"]["dev"]
        if re.split(r"\W", line)[0] == package
    )
    return str(version)


def test_there_are_the_three_workflows() -> None:
    assert set(WORKFLOWS) == {"fast", "full", "weekly"}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_may_read_alone_and_ends(name: str) -> None:
    flow = WORKFLOWS[name]
    assert flow["permissions"] == {"contents": "read"}
    assert flow["concurrency"]["group"]
    for job in flow["jobs"].values():
        assert "permissions" not in job
        assert int(job["timeout-minutes"]) > 0


def test_actions_are_pinned_and_keep_no_credentials() -> None:
    used = [step for _, step in STEPS if "uses" in step]
    assert used
    for step in used:
        action, _, tag = step["uses"].partition("@")
        assert re.fullmatch(r"v\d+(\.\d+)*", tag), step["uses"]
        assert action != "actions/checkout" or step["with"]["persist-credentials"] == "false"


def test_what_workflows_run_is_there() -> None:
    commands = [(name, step["run"]) for name, step in STEPS if "run" in step]
    called = {(name, part) for name, command in commands for part in re.findall(r"\.ci/(\w+)", command)}
    assert {part for _, part in called} <= PARTS
    assert {
        ("fast", "lint"),
        ("fast", "readme"),
        ("full", "run"),
        ("full", "dependencies"),
        ("weekly", "slow"),
    } <= called


def test_everything_runs_every_part() -> None:
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    called = set(re.findall(r"\.ci/([a-z]+)", run)) | set(re.findall(r"^for part in (.+); do$", run, re.M)[0].split())
    by_others = {"run", "layer", "dependencies", "slow"}
    assert called | by_others == PARTS
    assert all((ROOT / ".ci" / part).stat().st_mode & 0o111 for part in PARTS)


def test_the_tests_run_on_every_python_that_is_promised() -> None:
    matrix = WORKFLOWS["fast"]["jobs"]["tests"]["strategy"]["matrix"]
    assert matrix["python"] == pythons()
    assert {image.partition("-")[0] for image in matrix["os"]} == {"ubuntu", "macos"}
    ends = {
        row["which"]: row["python"]
        for row in WORKFLOWS["full"]["jobs"]["dependencies"]["strategy"]["matrix"]["include"]
    }
    assert ends == {"lowest": pythons()[0], "latest": pythons()[-1]}
    assert PROJECT["requires-python"] == f">={pythons()[0]}"


@pytest.mark.parametrize(
    ("package", "repository"), [("ruff", "astral-sh/ruff-pre-commit"), ("typos", "crate-ci/typos")]
)
def test_hooks_are_the_versions_that_are_installed_for_development(package: str, repository: str) -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    (rev,) = (entry["rev"] for entry in hooks if entry["repo"].endswith(repository))
    assert rev == f"v{pinned(package)}"


def test_hooks_that_run_what_is_installed_for_development_have_its_version_pinned() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    commands = [hook["entry"] for entry in hooks if entry["repo"] == "local" for hook in entry["hooks"]]
    assert "mypy" in commands
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pinned(command)) for command in commands)


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.load((ROOT / "CITATION.cff").read_text(encoding="utf-8"), Loader=yaml.BaseLoader)
    assert citation["version"] == __version__
    assert citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Source"]
    assert citation["references"][0]["identifiers"][0]["value"] == "arXiv:2310.08442"


PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(ROOT / "benchmarks").glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "_build" not in path.parts
]


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    folders = r"\.ci|\.github|benchmarks|builtin|completions|debiasctl|docs(?!/_build)|plugins|tests"
    named = re.findall(rf"(?<![\w/.$~-])((?:{folders})/[\w./-]*\w)", text)
    missing += [name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "debiasctl"))]
    assert missing == []


@pytest.mark.parametrize("page", ["SECURITY.md", "CITATION.cff", "pyproject.toml"])
def test_there_is_one_address(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = set(re.findall(r"https://github\.com/[\w.-]+/[\w.-]+", text))
    assert found == {PROJECT["urls"]["Source"]}


def test_a_workers_report_of_a_name_without_utf8_can_be_sent(request: pytest.FixtureRequest) -> None:
    report = pytest.TestReport(
        "test_x", ("test_x.py", 1, "test_x"), {}, "failed", "no 'caf\udce9'", "call",
        sections=[("Captured log", "caf\udce9")], user_properties=[("file", "caf\udce9")],
    )  # fmt: skip
    sent = request.config.hook.pytest_report_to_serializable(config=request.config, report=report)
    text = json.dumps(sent, ensure_ascii=False).encode("utf-8").decode("utf-8")
    assert text.count(r"caf\\udce9") == 3
