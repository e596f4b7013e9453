"""Plugins of packages that lie in a folder outside the project."""

import json
import sys
from pathlib import Path

import pytest
from tiny import OPTIONS, debiasctl, error_of, succeed, write_distribution

from debiasctl.cli.completion import complete_any_plugin, complete_plugin
from debiasctl.runs import find_run

WEIGHTING = '''
"""A weighting of somebody else."""
from pydantic import Field
from debiasctl.api import PluginOptions


class Power:
    """SNR^-p on the error of eps.

    More about it.
    """

    space = "eps"

    class Options(PluginOptions):
        """Options."""

        power: float = Field(0.25, ge=0, le=1, description="the exponent p")
        bands: tuple[int, ...] = Field((1, 2), description="of no meaning")

    def __init__(self, options):
        self.power = options.power

    def __call__(self, snr):
        return snr**-self.power
'''
COMMANDS = '''
"""Commands of somebody else."""
import typer
from debiasctl.errors import UsageError

print("imported")
app = typer.Typer()


@app.command()
def greet(name: str, loud: bool = False):
    """Say hello."""
    if name == "nobody":
        raise UsageError("there is nobody to greet")
    print(f"hello {name}{'!' if loud else ''}")
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    for name, version, points, module, code in (
        ("good-weighting", "1.2.3", {"debiasctl.weightings": {"power": "good_weighting:Power"}}, "good_weighting",
         WEIGHTING),
        ("bad-weighting", "0.1", {"debiasctl.weightings": {"broken": "bad_weighting:Broken"},
                                  "debiasctl.commands": {"crash": "bad_weighting:app"}}, "bad_weighting",
         "import no_such_module_anywhere\n"),
        ("greeter", "2", {"debiasctl.commands": {"greet": "greeter_commands:app"}}, "greeter_commands", COMMANDS),
    ):  # fmt: skip
        write_distribution(site, name=name, version=version, entry_points=points, modules={module: code})
    monkeypatch.syspath_prepend(site)
    for module in ("good_weighting", "bad_weighting", "greeter_commands"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return site


def test_a_third_partys_weighting_is_listed_with_its_origin_and_nothing_is_imported(site: Path) -> None:
    rows = {row["name"]: row for row in json.loads(succeed("plugins", "list", "weightings", "--json").out)}
    assert rows["power"] == {
        "kind": "weightings", "name": "power", "distribution": "good-weighting", "version": "1.2.3",
        "target": "good_weighting:Power", "conflict": False,
    }  # fmt: skip
    assert rows["debiased"]["distribution"] == "debiasctl"
    assert "broken" in rows
    line = next(line for line in succeed("plugins", "list").out.splitlines() if " power " in line)
    assert line.split() == ["weightings", "power", "good-weighting", "1.2.3"]
    assert "good_weighting" not in sys.modules


def test_it_is_described(site: Path) -> None:
    text = succeed("plugins", "describe", "weighting", "power").out
    for part in ("good-weighting 1.2.3", "SNR^-p on the error of eps.", "More about it.", "the exponent p", "0.25",
                 "number >= 0 <= 1", "list of integer", "[1, 2]"):  # fmt: skip
        assert part in text
    found = json.loads(succeed("plugins", "describe", "weightings", "power", "--json").out)
    assert found["options"][0] == {
        "name": "power", "type": "number >= 0 <= 1", "required": False, "default": 0.25,
        "description": "the exponent p",
    }  # fmt: skip


def test_it_is_trained_with_and_recorded_and_sampled_after_a_resume(site: Path) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", "run", "--weighting", "power:power=0.5")
    assert find_run("run").spec().loss.weighting.model_dump() == {
        "name": "power", "options": {"power": 0.5, "bands": [1, 2]}, "distribution": "good-weighting",
        "version": "1.2.3",
    }  # fmt: skip
    succeed("train", "--resume", "run", "--steps", "3")
    succeed("sample", "run", "--num", "2", "--steps", "2")
    # SNR^-1/2 is the paper's weighting: the two runs are one
    succeed("train", "digits", *OPTIONS, "--steps", "3", "--name", "same", "--weighting", "debiased",
            "--set", "optimizer.decay=none")  # fmt: skip
    succeed("train", "digits", *OPTIONS, "--steps", "3", "--name", "power", "--weighting", "power:power=0.5",
            "--set", "optimizer.decay=none")  # fmt: skip
    first, second = (find_run(name).checkpoint_path(3) / "ema.safetensors" for name in ("same", "power"))
    assert first.stat().st_size == second.stat().st_size
    assert "power: input should be less than or equal to 1" in error_of(
        "train", "digits", "--weighting", "power:power=2", code=2
    )


def test_a_run_whose_weighting_was_removed_can_be_sampled_and_says_what_training_lacks(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", "run", "--weighting", "power")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    succeed("sample", "run", "--num", "2", "--steps", "2")
    assert "unknown weighting 'power'" in error_of("train", "--resume", "run", "--steps", "3", code=2)


def test_a_broken_one_is_named_and_harms_nothing_else(site: Path) -> None:
    message = error_of("train", "digits", *OPTIONS, "--weighting", "broken", code=1)
    assert "weighting 'broken' of bad-weighting 0.1 cannot be imported (ModuleNotFoundError" in message
    assert "pip uninstall bad-weighting" in message
    assert message in error_of("plugins", "describe", "weightings", "broken", code=1)
    succeed("train", "digits", *OPTIONS, "--steps", "1")


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--debug", "--help"], []])
def test_a_command_is_in_the_help_and_not_imported_for_it(arguments: list[str], site: Path) -> None:
    outcome = debiasctl(*arguments)
    text = " ".join((outcome.out + outcome.err).replace("│", " ").split())
    assert "greet From the plugin package greeter." in text
    assert "crash From the plugin package bad-weighting." in text
    assert "imported" not in text
    assert "error:" not in text


def test_a_plugins_command_runs_as_any_other(site: Path) -> None:
    assert succeed("greet", "you", "--loud").out == "imported\nhello you!\n"
    assert "Say hello." in succeed("greet", "--help").out
    assert error_of("greet", "nobody", code=2) == "there is nobody to greet\n"
    assert "Missing argument" in error_of("greet", code=2)
    assert "command 'crash' of bad-weighting 0.1 cannot be imported" in error_of("crash", code=1)
    assert "Say hello" not in succeed("train", "--help").out
    found = json.loads(succeed("plugins", "describe", "commands", "greet", "--json").out)
    assert found["documentation"] == "See: debiasctl greet --help"


def test_two_packages_that_claim_one_name(site: Path) -> None:
    points = {"debiasctl.weightings": {"debiased": "good_weighting:Power"},
              "debiasctl.commands": {"train": "greeter_commands:app", "greet": "greeter_commands:app"}}  # fmt: skip
    write_distribution(site, name="usurper", version="9", entry_points=points, modules={})
    from importlib import invalidate_caches

    from debiasctl import registry

    registry._records.cache_clear()
    invalidate_caches()
    try:
        message = error_of("train", "digits", *OPTIONS, "--weighting", "debiased", code=1)
        assert "'debiased' is claimed by two distributions: debiasctl" in message
        assert "usurper 9" in message
        assert "claimed twice" in succeed("plugins", "list", "weightings").out
        assert "'greet' is claimed by two distributions" in error_of("greet", "you", code=1)
        assert succeed("--help").out.count("│ train ") == 1  # nobody takes over a command of ours
        succeed("train", "digits", *OPTIONS, "--steps", "1", "--weighting", "constant")
    finally:
        registry._records.cache_clear()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["list", "weights"], "unknown plugin kind 'weights'. Did you mean 'weightings'?"),
        (["describe", "weighting", "debias"], "Did you mean 'debiased'?"),
        (["describe", "sampler", "debiased"], "unknown sampler 'debiased'"),
    ],
)
def test_what_is_not_there(arguments: list[str], message: str) -> None:
    assert message in error_of("plugins", *arguments, code=2)


def test_an_option_that_has_no_default_or_no_options_at_all() -> None:
    found = json.loads(succeed("plugins", "describe", "dataset", "folder", "--json").out)
    path = next(option for option in found["options"] if option["name"] == "path")
    assert (path["required"], path["default"]) == (True, None)
    assert "required" in succeed("plugins", "describe", "dataset", "folder").out
    assert "It takes no options." in succeed("plugins", "describe", "weighting", "debiased").out


def test_names_are_completed(site: Path) -> None:
    assert complete_plugin("weightings")("p") == ["p2", "power"]
    assert complete_plugin("samplers")("") == ["ddim", "ddpm"]
    assert complete_any_plugin("gre") == ["greet"]
