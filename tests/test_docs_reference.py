"""The reference pages say of the code what the code is, and leave nothing out."""

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer

from debiasctl import api, diffusion, registry, testing
from debiasctl.cli.app import app
from debiasctl.specs.describe import describe_spec

EXTENSIONS = Path(__file__).parents[1] / "docs" / "_ext"


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXTENSIONS)
        yield importlib.import_module("reference")


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    return {name: write() for name, write in reference.PAGES.items()}


def rows(page: str, heading: str) -> dict[str, str]:
    """The rows of the tables below a heading by what stands first in them."""
    part = re.split(r"^#{2,3} ", page.partition(f"{heading}\n")[2], flags=re.MULTILINE)[0]
    found = [re.fullmatch(r"\| `([^`]+)`.*", line) for line in part.splitlines()]
    return {row[1]: row[0] for row in found if row}


def test_every_page_is_in_a_file_and_every_file_is_complete(reference: ModuleType) -> None:
    folder = EXTENSIONS.parent / "reference"
    marks = [mark for path in folder.glob("*.md") for mark in re.findall("<!-- generated: (.*) -->", path.read_text())]
    assert sorted(marks) == sorted(reference.PAGES)
    assert "| `--weighting TEXT` |" in reference.expand("# Commands\n\n<!-- generated: commands -->\n")
    with pytest.raises(KeyError):
        reference.expand("<!-- generated: comands -->")


def test_every_option_of_every_command_is_there(pages: dict[str, str]) -> None:
    found = 0
    group = typer.main.get_command(app)
    for name, command in group.commands.items():
        for path, inner in [(f"{name} {part}", one) for part, one in getattr(command, "commands", {}).items()] or [
            (name, command)
        ]:
            shown = rows(pages["commands"], f"## {path}")
            for parameter in inner.params:
                if parameter.param_type_name == "option":
                    (row,) = [row for key, row in shown.items() if parameter.opts[0] in re.split(r"[ ,]+", key)]
                    assert not parameter.required or "| required |" in row
                    found += 1
    assert found > 100
    assert rows(pages["commands"], "## sample")["--sampler TEXT"].startswith("| `--sampler TEXT` | `ddim` | Sampler.")


def test_every_setting_is_there(pages: dict[str, str]) -> None:
    for section in describe_spec():
        assert set(rows(pages["settings"], f"## {section.name}")) == {field.name for field in section.settings}
    assert rows(pages["settings"], "## training")["training.steps"] == (
        r"| `training.steps` | integer \>= 1 | `100000` | optimizer steps |"
    )


def test_every_plugin_is_there_with_its_options(pages: dict[str, str]) -> None:
    for kind in registry.KINDS:
        for record in registry.records(kind):
            if record.distribution != "debiasctl":
                continue
            part = pages["plugins"].partition(f"({kind}-{record.name})=\n")[2]
            assert part.startswith(f"### {record.name}\n")
            options = registry.load(kind, record.name).Options.model_fields
            assert set(rows(part, f"### {record.name}")) == set(options)


def test_every_metric_is_there_with_what_it_needs(reference: ModuleType, pages: dict[str, str]) -> None:
    metrics = importlib.import_module("reference.metrics")
    features, pixels = rows(pages["metrics"], "## In features"), rows(pages["metrics"], "## Of the pixels")
    assert set(features) | set(pixels) == set(metrics.catalogue())
    assert "`fid` in `inception`" in features["fd_FEATURES"]
    assert "Needs reference images |" in features["kd_FEATURES"]
    assert "Needs grey images |" in pixels["std_shift_grey"]
    assert "Needs colour images |" in pixels["std_shift_r"]
    without = {name for name, row in {**features, **pixels}.items() if "| none |" in row}
    assert without == {"recall", "coverage"}


def test_every_public_name_is_there(pages: dict[str, str]) -> None:
    for page, package in (("api", api), ("diffusion", diffusion), ("testing", testing)):
        named = re.findall(rf"^\.\. auto\w+:: {re.escape(package.__name__)}\.(\w+)$", pages[page], re.MULTILINE)
        assert sorted(named) == sorted(package.__all__)


@pytest.mark.parametrize(
    "plain, expected",
    [
        ("a_b * [c] <d>", r"a\_b \* \[c\] \<d\>"),
        ("`a_b` and c_d", r"`a_b` and c\_d"),
        ("see --data-dir, not --", "see `--data-dir`, not --"),
        ("(2310.08442)", "([2310.08442](https://arxiv.org/abs/2310.08442))"),
        ("0.12345", "0.12345"),
    ],
)
def test_plain_text_reads_the_same_as_markdown(reference: ModuleType, plain: str, expected: str) -> None:
    assert importlib.import_module("reference.markdown").text(plain) == expected


@pytest.mark.parametrize("package", [api, diffusion], ids=lambda package: package.__name__)
def test_no_summary_of_a_property_is_read_as_a_type(package: ModuleType) -> None:
    """Napoleon takes what stands before a colon in a property's first line for its type."""
    classes = [member for name in package.__all__ if isinstance(member := getattr(package, name), type)]
    summaries = {
        f"{one.__name__}.{name}": (found.__doc__ or "").splitlines()[0]
        for one in classes
        for name, found in vars(one).items()
        if isinstance(found, property)
    }
    assert summaries
    assert [name for name, summary in summaries.items() if ":" in summary] == []
