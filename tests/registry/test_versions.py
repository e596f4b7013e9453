"""The version of debiasctl that a plugin's distribution requires in its metadata."""

import json
import sys
import tomllib
from pathlib import Path

import pytest
from tiny import debiasctl, error_of, succeed, write_distribution

import debiasctl as package
from debiasctl import registry
from debiasctl.errors import PluginVersionError
from debiasctl.registry.versions import applying, compatible, misfit

CODE = '''
from debiasctl.api import Weighting


class One(Weighting):
    """One."""

    space = "eps"

    def __call__(self, snr):
        return snr * 0 + 1
'''


def install(tmp_path: Path, patch: pytest.MonkeyPatch, *requires: str) -> None:
    points = {"debiasctl.weightings": {"dated": "dated_pack:One"}, "debiasctl.commands": {"dated": "dated_pack:app"}}
    modules = {"dated_pack": CODE}
    write_distribution(
        tmp_path, name="dated-pack", version="3", entry_points=points, modules=modules, requires=requires
    )
    patch.syspath_prepend(tmp_path)
    patch.delitem(sys.modules, "dated_pack", raising=False)


@pytest.mark.parametrize(
    ("installed", "required", "fits"),
    [
        ("0.1.0", "debiasctl>=0.1,<0.2", True),
        ("0.1.0.dev1", "debiasctl>=0.1,<0.2", True),
        ("0.1.0rc1", "debiasctl>=0.1", True),
        ("0.1.0+g1234.dirty", "debiasctl==0.1.0", True),
        ("0.1.3.post1", "debiasctl~=0.1.0", True),
        ("0.2.0.dev1", "debiasctl>=0.1,<0.2", False),
        ("0.2.0", "debiasctl>=0.1,<0.2", False),
        ("0.1.0", "debiasctl>=0.2", False),
        ("0.1.0", "debiasctl[hf,ray]>=0.2", False),
        ("0.1.0", "debiasctl (>=0.2)", False),
        ("0.1.0", "Debiasctl>=0.2", False),
        ("0.1.0", "debiasctl", True),
        ("0.1.0", "debiasctl @ file:///somewhere", True),
        ("0.1.0", "debiasctl>=0.2; extra == 'more'", True),
        ("0.1.0", "debiasctl>=0.2; python_version < '3'", True),
        ("0.1.0", "debiasctl>=0.2; python_version >= '3'", False),
        ("0.1.0", "debiasctl-examples>=9", True),
        ("0.1.0", "debiasctl>=banana", True),
        ("unknown", "debiasctl>=0.2", True),
    ],
)
def test_whether_a_version_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, required: str, fits: bool
) -> None:
    monkeypatch.setattr(package, "__version__", installed)
    install(tmp_path, monkeypatch, "numpy>=1", required)
    record = registry.find("weightings", "dated")
    assert (misfit(record.requires) is None) == fits
    if fits:
        assert registry.load("weightings", "dated").__name__ == "One"
    else:
        with pytest.raises(PluginVersionError):
            registry.load("weightings", "dated")
        assert "dated_pack" not in sys.modules  # nothing of it has run


def test_requirements_of_extras_do_not_apply() -> None:
    assert applying(["debiasctl>=0.1; extra == 'a'", "debiasctl[hf] >=0.1 , <0.3", "debiasctl>="]) == (
        "debiasctl>=0.1,<0.3",
    )


def test_every_command_says_what_is_needed_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "debiasctl>=7,<8")
    cause = (
        "dated-pack 3 needs debiasctl>=7,<8, and this is debiasctl 0.1.0. Install a version of dated-pack that works"
    )
    listed = succeed("plugins", "list", "--json")
    rows = {row["name"]: row for row in json.loads(listed.out)["plugins"] if row["kind"] == "weightings"}
    assert (rows["dated"]["requires"], rows["dated"]["usable"]) == (["debiasctl>=7,<8"], False)
    assert (rows["constant"]["requires"], rows["constant"]["usable"]) == ([], True)
    assert cause in listed.err
    assert "needs debiasctl>=7,<8" in succeed("plugins", "list", "weightings").out
    of = "weighting 'dated' of dated-pack 3 cannot be used: "
    for words in (
        ("plugins", "describe", "weightings", "dated"),
        ("train", "digits", "--weighting", "dated", "--steps", "1"),
        ("weightings", "table", "dated"),
    ):
        assert of + cause in error_of(*words, code=1)
    assert "command 'dated' of dated-pack 3 cannot be used: " + cause in error_of("dated", code=1)
    assert "dated" in succeed("--help").out
    assert debiasctl("doctor").code == 1
    checked = debiasctl("plugins", "check", "weightings", "dated", "--json")
    assert checked.code == 1
    (one,) = json.loads(checked.out)["plugins"]
    (broken,) = [law for law in one["laws"] if law["state"] == "failed"]
    assert broken["law"] == "Its distribution works with this version of debiasctl"
    assert cause in broken["detail"]
    succeed("plugins", "describe", "weightings", "constant")


def test_a_distribution_that_states_nothing_is_used_and_told_of_by_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch)
    assert registry.create("weightings", "dated").options is not None
    checked = succeed("plugins", "check", "weightings", "dated")
    assert "dated-pack states no requirement on debiasctl. In its pyproject.toml: dependencies =" in checked.out


@pytest.mark.parametrize(
    ("installed", "wanted"),
    [
        ("0.1.0", ">=0.1,<0.2"), ("0.9.3", ">=0.9,<0.10"), ("0.3.2.dev4", ">=0.3,<0.4"), ("1.0.0", ">=1.0,<2"),
        ("2", ">=2.0,<3"), ("0.2.0.dev3", ">=0.2.0.dev3,<0.3"), ("1.0rc1", ">=1.0rc1,<2"),
    ],
)  # fmt: skip
def test_what_a_package_should_state(monkeypatch: pytest.MonkeyPatch, installed: str, wanted: str) -> None:
    monkeypatch.setattr(package, "__version__", installed)
    assert compatible() == f"debiasctl{wanted}"
    assert misfit([compatible()]) is None


def test_the_packages_in_the_repository_state_it() -> None:
    found = {
        path.parent.name: tomllib.loads(path.read_text())["project"]["dependencies"]
        for path in (Path(package.__file__).parents[1] / "plugins").glob("*/pyproject.toml")
    }
    assert found
    assert [name for name, dependencies in found.items() if compatible() not in dependencies] == []
