"""Packages whose plugins raise or print when imported, want another debiasctl, have bad options, or claim a taken name.

Each is reported by every command that meets it, and nothing else is harmed.
"""

import json
import sys
from pathlib import Path

import pytest
from tiny import OPTIONS, debiasctl, error_of, succeed, write_distribution

from debiasctl.cli.commands import COMMANDS
from debiasctl.cli.completion import complete_plugin
from debiasctl.registry.kinds import OWN_COMMANDS

GOOD = '''
import typer
from debiasctl.api import PluginOptions, Weighting
from pydantic import Field


class One(Weighting):
    """One."""

    space = "eps"

    def __call__(self, snr):
        return snr * 0 + 1


class BadDefault(One):
    """Refuses its own default."""

    class Options(PluginOptions):
        """Its options."""

        power: float = Field(-1.0, gt=0, description="above 0")


class Failing(One):
    """Fails while its default is made."""

    class Options(PluginOptions):
        """Its options."""

        power: float = Field(default_factory=lambda: 1 / 0, description="a number")


app = typer.Typer()


@app.command()
def greet():
    """Say hello."""
    print("hello")
'''
WEIGHTINGS, COMMAND = "debiasctl.weightings", "debiasctl.commands"
PACKAGES = {  # name: entry points, module, what it requires
    "sound-pack": (
        {WEIGHTINGS: {"sound": "mis_sound:One", "defaults": "mis_sound:BadDefault", "fails": "mis_sound:Failing",
                      "astray": "mis sound One"}},
        {"mis_sound": GOOD},
        "debiasctl>=0.1",
    ),
    "raising-pack": (
        {WEIGHTINGS: {"raises": "mis_raises:One"}, COMMAND: {"raises": "mis_raises:app"}},
        {"mis_raises": "raise RuntimeError('no licence')"},
        "debiasctl>=0.1",
    ),
    "printing-pack": (
        {WEIGHTINGS: {"prints": "mis_prints:One"}, COMMAND: {"prints": "mis_prints:app"}},
        {"mis_prints": "print('ADVERTISEMENT')\n" + GOOD},
        "debiasctl>=0.1",
    ),
    "newer-pack": ({WEIGHTINGS: {"newer": "mis_sound:One"}, COMMAND: {"newer": "mis_sound:app"}}, {}, "debiasctl>=9"),
    "clashing-pack": (
        {WEIGHTINGS: {"debiased": "mis_sound:One"}, COMMAND: {"train": "mis_sound:app", "prints": "mis_sound:app"}},
        {},
        "debiasctl>=0.1",
    ),
}  # fmt: skip
CAUSES = {
    "raises": "weighting 'raises' of raising-pack 1 cannot be imported (RuntimeError: no licence)",
    "newer": "weighting 'newer' of newer-pack 1 cannot be used: newer-pack 1 needs debiasctl>=9, and this is debiasctl",
    "debiased": "weighting 'debiased' is claimed by two distributions: clashing-pack 1 and debiasctl",
    "defaults": "weighting 'defaults' of sound-pack 1: its Options have defaults that it refuses itself",
    "fails": "weighting 'fails' of sound-pack 1 failed in its Options (ZeroDivisionError: division by zero)",
}
COMMANDS_CAUSES = {
    "raises": "command 'raises' of raising-pack 1 cannot be imported (RuntimeError: no licence)",
    "newer": "command 'newer' of newer-pack 1 cannot be used: newer-pack 1 needs debiasctl>=9",
    "train": "command 'train' is claimed by debiasctl itself, and by clashing-pack 1, whose command cannot be used",
    "prints": "command 'prints' is claimed by two distributions: clashing-pack 1 and printing-pack 1",
}
ASTRAY = "sound-pack 1: the weighting 'astray' cannot be used, because its entry point is 'mis sound One', and"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (points, modules, requires) in PACKAGES.items():
        write_distribution(tmp_path, name=name, version="1", entry_points=points, modules=modules, requires=[requires])
        for module in modules:
            monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_names_of_its_own_commands_are_those_that_there_are() -> None:
    assert set(COMMANDS) == OWN_COMMANDS


@pytest.mark.parametrize("name", CAUSES)
def test_training_says_so(name: str) -> None:
    assert CAUSES[name] in error_of("train", "digits", "--weighting", name, "--steps", "1", code=1)


@pytest.mark.parametrize("name", [name for name in CAUSES if name != "defaults"])
def test_describing_says_so(name: str) -> None:
    assert CAUSES[name] in error_of("plugins", "describe", "weightings", name, code=1)


@pytest.mark.parametrize("name", COMMANDS_CAUSES)
def test_a_command_says_so(name: str) -> None:
    assert COMMANDS_CAUSES[name] in error_of("plugins", "describe", "commands", name, code=1)
    if name != "train":
        assert COMMANDS_CAUSES[name] in error_of(name, code=1)


def test_the_list_and_the_help_and_completion_go_on() -> None:
    listed = succeed("plugins", "list", "--json")
    rows = {(row["kind"], row["name"], row["distribution"]): row for row in json.loads(listed.out)["plugins"]}
    usable = {key[:2] for key, row in rows.items() if row["usable"] and row["distribution"] != "debiasctl"}
    assert usable == {
        ("weightings", "sound"), ("weightings", "defaults"), ("weightings", "fails"), ("weightings", "raises"),
        ("weightings", "prints"), ("commands", "raises"),
    }  # fmt: skip
    assert rows["commands", "train", "clashing-pack"]["conflict"]
    assert ASTRAY in listed.err
    helped = succeed("--help").out
    assert "raises" in helped
    assert "Train a diffusion model under a chosen loss weighting." in helped
    assert complete_plugin("weightings")("ra") == ["raises"]
    assert not {module for _, modules, _ in PACKAGES.values() for module in modules} & sys.modules.keys()


def test_doctor_reports_them_all() -> None:
    done = debiasctl("doctor", "--json")
    assert done.code == 1
    problems = "\n".join(json.loads(done.out)["problems"])
    for cause in (*CAUSES.values(), *COMMANDS_CAUSES.values(), ASTRAY):
        assert cause in problems
    assert "sound'" not in problems.replace("mis sound", "")
    assert "ADVERTISEMENT" not in done.out


def test_what_is_printed_stays_out_of_results_and_the_others_work() -> None:
    described = succeed("plugins", "describe", "weightings", "prints", "--json")
    assert json.loads(described.out)["name"] == "prints"
    assert "ADVERTISEMENT" in described.err
    succeed("train", "digits", "--weighting", "sound", *OPTIONS, "--steps", "1", "--name", "sound")
    assert "sound" in succeed("runs", "list").out


BACKBONE = '''
from debiasctl.api import Backbone
from torch import nn


class Net(nn.Conv2d):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x)


class Mono(Backbone):
    """One convolution."""

    def build(self, shape, num_classes):
        return Net(shape.in_channels, shape.out_channels, 3, padding=1)
'''


def test_a_run_of_a_package_that_is_gone_stays_readable_and_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {WEIGHTINGS: {"own": "gone_pack:One"}, "debiasctl.backbones": {"mono": "gone_pack:Mono"}}
    code, site = GOOD + BACKBONE, tmp_path / "gone"
    write_distribution(
        site, name="gone-pack", version="2.5", entry_points=points, modules={"gone_pack": code}, requires=["debiasctl"]
    )
    with monkeypatch.context() as installed:
        installed.syspath_prepend(site)
        for name, weighting in (("a", "own"), ("b", "constant")):
            succeed("train", "digits", "--backbone", "mono", "--weighting", weighting, "--batch-size", "8", "--steps",
                    "2", "--name", name)  # fmt: skip
            succeed("evaluate", name, "--num", "16", "--steps", "2", "--features", "pixels")
    gone = "backbone 'mono' of gone-pack 2.5"
    assert "own" in succeed("runs", "list").out
    assert "mono" in succeed("runs", "show", "a").out
    assert "fd_pixels" in succeed("compare", "a", "b").out
    install = "Install it, for example: pip install gone-pack==2.5"
    for words in (("sample", "a", "--num", "2", "--steps", "2", "--out", str(tmp_path / "x.png")),
                  ("evaluate", "a", "--num", "16", "--steps", "3")):  # fmt: skip
        assert f"{gone} is not installed here. {install}" in error_of(*words, code=2)
    resumed = error_of("train", "--resume", "a", "--steps", "4", code=1)
    assert "of gone-pack 2.5, which is not installed here. Install it to resume" in resumed
