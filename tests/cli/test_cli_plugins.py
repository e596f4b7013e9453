"""Plugins of packages that lie in a folder outside the project."""

import json
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny import OPTIONS, debiasctl, error_of, succeed, write_distribution

from debiasctl.cli.completion import complete_described, complete_plugin
from debiasctl.runs.store import find_run

WEIGHTING = '''
"""A weighting of somebody else."""
from pydantic import Field
from debiasctl.api import PluginOptions, Weighting


class Power(Weighting):
    """SNR^-p on the error of eps.

    More about it.
    """

    space = "eps"

    class Options(PluginOptions):
        """Options."""

        power: float = Field(0.25, ge=0, le=1, description="the exponent p")
        bands: tuple[int, ...] = Field((1, 2), description="of no meaning")

    def __call__(self, snr):
        return snr**-self.options.power
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
    listed = json.loads(succeed("plugins", "list", "weightings", "--json").out)["plugins"]
    rows = {row["name"]: row for row in listed}
    assert rows["power"] == {
        "kind": "weightings", "name": "power", "distribution": "good-weighting", "version": "1.2.3",
        "target": "good_weighting:Power", "conflict": False, "requires": [], "usable": True,
    }  # fmt: skip
    assert rows["debiased"]["distribution"] == "debiasctl"
    assert "broken" in rows
    line = next(line for line in succeed("plugins", "list").out.splitlines() if " power " in line)
    assert line.split() == ["weightings", "power", "good-weighting", "1.2.3"]
    assert "good_weighting" not in sys.modules


def test_it_is_described(site: Path) -> None:
    text = succeed("plugins", "describe", "weighting", "power").out
    for part in ("good-weighting 1.2.3", "SNR^-p on the error of eps.", "More about it.", "the exponent p", "0.25",
                 "number from 0 to 1", "list of integer", "[1, 2]"):  # fmt: skip
        assert part in text
    found = json.loads(succeed("plugins", "describe", "weightings", "power", "--json").out)
    assert found["options"][0] == {
        "name": "power", "type": "number from 0 to 1", "required": False, "default": 0.25,
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
    message = error_of("train", "--resume", "run", "--steps", "3", code=1)
    assert "weighting 'power' of good-weighting 1.2.3, which is not installed here" in message


def test_a_run_whose_backbone_was_removed_is_readable_and_says_what_sampling_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "from debiasctl.builtin.backbones.dit import DiT\nclass Own(DiT):\n    'One of its own.'\n"
    write_distribution(tmp_path / "own", name="own-backbone", version="2.0", entry_points={"debiasctl.backbones": {
        "own": "own_backbone:Own"}}, modules={"own_backbone": module})  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path / "own")
    backbone = ("--backbone", "own:hidden_size=8,depth=1,num_heads=1")
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "run", *backbone)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path / "own")])
    assert "own" in succeed("runs", "show", "run").out
    succeed("runs", "list")
    message = error_of("sample", "run", "--num", "2", "--steps", "2", code=2)
    assert "backbone 'own' of own-backbone 2.0 is not installed here" in message
    assert "pip install own-backbone==2.0" in message


def test_one_inside_another_is_recorded_and_missed_as_any_other(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", "run", "--weighting", "product:factors=[p2,power]")
    own = find_run("run").spec().loss.weighting.options["factors"][1]
    assert (own["name"], own["distribution"], own["version"]) == ("power", "good-weighting", "1.2.3")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(site)])
    succeed("runs", "show", "run")
    message = error_of("train", "--resume", "run", "--steps", "3", code=1)
    assert "weighting 'power' of good-weighting 1.2.3, which is not installed here" in message
    other = site.parent / "other"
    write_distribution(other, name="usurper", version="9", entry_points={"debiasctl.weightings": {
        "power": "usurper:Power"}}, modules={"usurper": WEIGHTING})  # fmt: skip
    monkeypatch.syspath_prepend(other)
    message = error_of("train", "--resume", "run", "--steps", "3", code=1)
    assert "was trained with weighting 'power' of good-weighting 1.2.3, and here it is usurper 9's" in message


THIRD_PARTY = Path(__file__).parents[1] / "third_party" / "good"


@pytest.fixture
def inverse_square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a weighting in a package as a user would write it: SNR^-2p on eps, p = 1/2, and no more than that."""
    project = tomllib.loads((THIRD_PARTY / "pyproject.toml").read_text())["project"]
    code = (THIRD_PARTY / "debiasctl_good.py").read_text()
    for word in ("prediction", "x0", '"v"', "edm", "timesteps", "schedule"):
        assert word not in code  # it knows nothing of them
    lines = [line for line in code.splitlines() if line.strip() and not line.strip().startswith('"""')]
    assert len(lines) <= 11
    write_distribution(tmp_path / "good", name=project["name"], version=project["version"],
                       entry_points=project["entry-points"], modules={"debiasctl_good": code})  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path / "good")
    monkeypatch.delitem(sys.modules, "debiasctl_good", raising=False)
    (name,) = project["entry-points"]["debiasctl.weightings"]
    return str(name)


def effective_weight(*arguments: str) -> list[float]:
    plan: dict[str, Any] = json.loads(succeed("train", "digits", *OPTIONS, "--dry-run", "--json", *arguments).out)
    found: list[float] = plan["objective"]["effective_weight"]
    return found


@pytest.mark.parametrize(
    ("prediction", "schedule"), [("eps", "linear"), ("x0", "cosine"), ("v", "linear"), ("edm", "edm")]
)
def test_a_weighting_of_ten_lines_trains_whatever_the_network_predicts(
    inverse_square: str, prediction: str, schedule: str
) -> None:
    """At p = 1/2 it is `inverse-snr`: the two runs, and all that is shown of the two, are one."""
    settings = ("--prediction", prediction, "--schedule", schedule, "--timesteps", "importance")
    for name, weighting in (("mine", inverse_square), ("ours", "inverse-snr")):
        succeed("train", "digits", *OPTIONS, *settings, "--steps", "2", "--name", name, "--weighting", weighting)
    mine, ours = (torch.load(find_run(name).checkpoint_path(2) / "state.pt", weights_only=True)["optimizer"]
                  for name in ("mine", "ours"))  # fmt: skip
    for number, state in ours["state"].items():
        torch.testing.assert_close(mine["state"][number]["exp_avg"], state["exp_avg"], rtol=1e-3, atol=1e-7)
    for timesteps in ("importance", "lognormal"):
        shown = [effective_weight(*settings[:4], "--timesteps", timesteps, "--weighting", weighting)
                 for weighting in (inverse_square, "inverse-snr")]  # fmt: skip
        assert shown[0] == pytest.approx(shown[1], rel=1e-9)


def test_a_weighting_of_ten_lines_does_all_that_ours_do(inverse_square: str, tmp_path: Path) -> None:
    assert inverse_square in succeed("plugins", "list", "weightings").out
    mine, ours = (json.loads(succeed("plugins", "describe", "weightings", name, "--json").out)
                  for name in (inverse_square, "inverse-snr"))  # fmt: skip
    for unit in ("eps", "x0", "v"):
        assert mine["weights"][unit] == pytest.approx(ours["weights"][unit], rel=1e-12)
    text = succeed("plugins", "describe", "weightings", inverse_square).out
    for part in ("debiasctl-good 1.2.3", "the error of eps", "SNR^-2p", "With its defaults on the linear schedule"):
        assert part in text
    everything = json.loads(succeed("weightings", "table", "--json").out)["weights"]
    assert inverse_square in everything
    refs = {
        f"{inverse_square}:power=0.25": "debiased",
        f"product:factors=[debiased,{inverse_square}:power=0.25]": "inverse-snr",
        f"uncertainty:base={inverse_square}": "inverse-snr",
    }
    for schedule in ("cosine", "linear:zero_terminal_snr=true"):
        found = json.loads(succeed("weightings", "table", *refs, "debiased", "inverse-snr", "--prediction", "v",
                                   "--schedule", schedule, "--json").out)["weights"]  # fmt: skip
        for ref, same in refs.items():
            for unit in ("eps", "x0", "v"):
                assert found[ref][unit] == pytest.approx(found[same][unit], rel=1e-9)
    out = tmp_path / "weights.svg"
    succeed("weightings", "plot", inverse_square, "debiased", "--out", out)
    assert inverse_square in out.read_text()
    nested = f"uncertainty:base='product:factors=[p2,{inverse_square}]'"
    succeed("train", "digits", *OPTIONS, "--steps", "2", "--name", "nested", "--weighting", nested)
    succeed("train", "--resume", "nested", "--steps", "3")
    inner = find_run("nested").spec().loss.weighting.options["base"]["options"]["factors"][1]
    assert (inner["name"], inner["options"], inner["distribution"]) == (
        inverse_square,
        {"power": 0.5},
        "debiasctl-good",
    )


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
    outcome = succeed("greet", "you", "--loud")
    assert (outcome.out, outcome.err) == ("hello you!\n", "imported\n")
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

    from debiasctl.registry import metadata

    metadata._scan.cache_clear()
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
        metadata._scan.cache_clear()


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
    assert complete_plugin("weightings")("p") == ["p2", "power", "product"]
    assert complete_plugin("samplers")("d") == ["ddim", "ddpm", "dpm-solver", "dpm-solver++"]
    assert complete_described(SimpleNamespace(params={}), "gre") == ["greet"]
