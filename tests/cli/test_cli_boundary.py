"""What the command line says and keeps where plugins break, print, or have broken metadata."""

import json
import os
import subprocess
import sys
from importlib import invalidate_caches
from pathlib import Path

import bad_plugins
import pytest
from tiny import OPTIONS, debiasctl, error_of, succeed, write_distribution

from debiasctl.cli.app import _any_distribution_offers
from debiasctl.cli.completion import complete_plugin
from debiasctl.registry import metadata
from debiasctl.runs.store import find_run

LOUD = '''
import sys
import threading
print("loud at import")
import torch
from debiasctl.api import ArraySplit, Dataset, DatasetInfo, LoadedDataset, Weighting, hash_splits


class Loud(Dataset):
    """Prints wherever it can."""

    def info(self, location):
        print("loud in info")
        return DatasetInfo(8, 1, (), 60, 20)

    def load(self, location):
        print("loud in load")
        thread = threading.Thread(target=print, args=["loud in a thread"])
        thread.start()
        thread.join()
        sys.stdout.write("loud without a line's end\\n")
        images = torch.arange(80 * 64).remainder(256).to(torch.uint8).reshape(80, 1, 8, 8)
        train, heldout = ArraySplit(images[:60]), ArraySplit(images[60:])
        return LoadedDataset(self.info(location), Split(train), heldout, hash_splits("loud", [train, heldout]))


class Split:
    """Prints in the thread that reads ahead."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def images(self, indices):
        print("loud in images")
        return self.split.images(indices)

    def labels(self, indices):
        return None


class LoudWeighting(Weighting):
    """Prints too. \x1b[31m"""

    space = "eps"

    def __call__(self, snr):
        print("loud in a weight")
        return torch.ones_like(snr)
'''
COMMANDS = '''
import typer
app = typer.Typer()

@app.command()
def fails(how: str):
    """Fail in some way."""
    if how == "exit":
        raise typer.Exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how == "base":
        raise BaseException("deep down")
    raise ValueError("a command's own\\x1b[31m")
'''


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    site = tmp_path / "site"
    write_distribution(site, name="bad-pack", version="6.6", entry_points=bad_plugins.ENTRY_POINTS, modules={})
    points = {
        "debiasctl.datasets": {"loud": "loud_plugins:Loud"},
        "debiasctl.weightings": {"loud": "loud_plugins:LoudWeighting"},
        "debiasctl.commands": {"fails": "failing_commands:app"},
    }
    modules = {"loud_plugins": LOUD, "failing_commands": COMMANDS}
    write_distribution(site, name="loud-pack", version="1", entry_points=points, modules=modules)
    monkeypatch.syspath_prepend(site)
    for module in modules:
        monkeypatch.delitem(sys.modules, module, raising=False)
    return site


def train(*arguments: str, code: int = 1, data: str = "digits") -> str:
    return error_of("train", data, *OPTIONS, "--steps", "3", "--name", "run", "--device", "cpu", *arguments, code=code)


def extension(folder: Path, how: str) -> tuple[str, str]:
    (folder / "spec.json").write_text(json.dumps({"extensions": [f"bad:how={how}"]}))
    return "--spec", str(folder / "spec.json")


@pytest.mark.parametrize("place", ["on_start", "after_backward", "after_step"])
@pytest.mark.parametrize("way", ["exit", "interrupt", "mute", "base", "zero"])
def test_no_extension_ends_a_training_as_if_all_were_well(place: str, way: str, tmp_path: Path) -> None:
    message = train(*extension(tmp_path, f"{place}-{way}"))
    assert message.startswith(f"extension 'bad' of bad-pack 6.6 failed in its {place} (")
    assert message.endswith("\ndebiasctl --debug ... shows the traceback\n")
    run = find_run("run")
    assert run.status().state == "failed"
    assert "extension 'bad' of bad-pack 6.6" in str(run.status().message)
    assert run.checkpoint_steps() == [0]


@pytest.mark.parametrize(
    "arguments, singular",
    [
        (("--backbone", "bad:how=forward-exit"), "backbone"),
        (("--backbone", "bad:how=forward-detached"), "backbone"),
        (("--backbone", "bad:how=build-exit"), "backbone"),
        (("--weighting", "bad:how=at-exit"), "weighting"),
        (("--timesteps", "bad:how=observe-exit"), "timestep distribution"),
        (("--timesteps", "bad:how=state-numpy"), "timestep distribution"),
        (("--schedule", "bad:how=table-short"), "schedule"),
    ],
)
def test_whatever_breaks_in_a_training_is_named(arguments: tuple[str, ...], singular: str) -> None:
    assert train(*arguments).startswith(f"{singular} 'bad' of bad-pack 6.6")


def test_a_state_that_could_not_be_read_back_is_refused_before_the_first_step(tmp_path: Path) -> None:
    message = train(*extension(tmp_path, "state-deep"))
    assert "its state_dict holds a numpy.ndarray at ['list'][1]['inner'], which no checkpoint can be resumed" in message
    assert find_run("run").status().step == 0


@pytest.mark.parametrize("how", ["init-exit", "info-exit", "load-exit", "recommended-exit", "split-exit"])
def test_no_data_set_ends_a_command_as_if_all_were_well(how: str) -> None:
    assert train(data=f"bad:how={how}").startswith("dataset 'bad' of bad-pack 6.6 failed in its ")


def test_a_network_that_needs_real_numbers_trains() -> None:
    """Its operations are counted on the network itself, because the meta device has no numbers."""
    arguments = ("--backbone", "bad:how=forward-item", "--steps", "1", "--name", "run", "--device", "cpu")
    succeed("train", "digits", "--batch-size", "4", "--set", "training.heldout_images=4", *arguments)


def test_sampling_and_measuring_name_what_breaks() -> None:
    succeed("train", "digits", *OPTIONS, "--steps", "1", "--name", "run", "--device", "cpu")
    sample = ("sample", "run", "--num", "4", "--steps", "2", "--device", "cpu")
    for how in ("sample-small", "call-exit", "grid-short", "init-exit"):
        if not how.startswith("init"):
            assert error_of(*sample, "--sampler", f"bad:how={how}", code=1).startswith("sampler 'bad' of bad-pack 6.6")
    assert not list(find_run("run").samples_dir.glob("*/*.png"))
    measure = ("evaluate", "run", "--num", "8", "--steps", "2", "--device", "cpu", "--features")
    for how in ("prepare-exit", "extract-exit", "extract-wide", "details"):
        assert error_of(*measure, f"bad:how={how}", code=1).startswith("feature extractor 'bad' of bad-pack 6.6")
    assert error_of(*measure, "nameless", code=1).startswith("feature extractor 'nameless' of bad-pack 6.6")


def test_the_traceback_is_shown_on_request() -> None:
    outcome = debiasctl("--debug", "train", "bad:how=info-error", "--dry-run")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert "ValueError: no" in outcome.err
    assert "\x1b" not in outcome.err.rpartition("error: ")[2]


def test_what_plugins_print_is_no_result() -> None:
    arguments = ("loud", "--weighting", "loud", *OPTIONS, "--device", "cpu")
    for command in (("--dry-run",), ("--steps", "2", "--name", "run")):
        outcome = succeed("train", *arguments, *command, "--json")
        assert json.loads(outcome.out)
        assert "loud in a weight" in outcome.err
    for place in ("load", "a thread", "images"):
        assert f"loud in {place}" in outcome.err
    sys.modules.pop("loud_plugins")
    outcome = succeed("plugins", "describe", "weightings", "loud", "--json")
    assert json.loads(outcome.out)["name"] == "loud"
    assert "loud at import" in outcome.err
    assert "\x1b" not in succeed("plugins", "describe", "weightings", "loud").out


def test_commands_of_plugins() -> None:
    assert error_of("bad", code=1).startswith(
        "command 'bad' of bad-pack 6.6: its app is a str, and should be a Typer app"
    )
    for how, cause in (("other", "ValueError: a command's own"), ("base", "BaseException: deep down")):
        message = error_of("fails", how, code=1)
        assert message.startswith(f"command 'fails' of loud-pack 1 failed in its command ({cause}")
        assert "\x1b" not in message
    assert debiasctl("fails", "exit").code == 3


@pytest.mark.parametrize("name", ["endless", "opaque", "failing"])
def test_defaults_that_cannot_be_shown(name: str) -> None:
    assert error_of("plugins", "describe", "weightings", name, code=1).startswith(f"weighting '{name}' of bad-pack 6.6")


def test_nested_plugins_are_described_by_what_they_are() -> None:
    assert "weighting reference" in succeed("plugins", "describe", "weightings", "uncertainty").out
    assert "list of weighting reference" in succeed("plugins", "describe", "weightings", "product").out
    assert "timestep distribution reference" in succeed("plugins", "describe", "timesteps", "importance").out


def foreign(site: Path, folder: str, *, points: bytes | None, about: str | None = "Name: other\nVersion: 3\n") -> None:
    (site / folder).mkdir()
    if points is not None:
        (site / folder / "entry_points.txt").write_bytes(points)
    if about is not None:
        (site / folder / "METADATA").write_text(f"Metadata-Version: 2.1\n{about}")
    metadata._scan.cache_clear()
    invalidate_caches()


BROKEN = {
    "not-utf-8": (
        "other-3.dist-info",
        b"[debiasctl.weightings]\nx = \xff\xfe:Y\n",
        "Name: other\nVersion: 3\n",
        "other",
    ),
    "no-metadata": ("other-3.dist-info", b"[debiasctl.weightings]\nother = other:Y\n", None, None),
    "not-entry-points": ("other-3.dist-info", b"[debiasctl.weightings]\nno equals sign\n[", None, "other"),
    "elsewhere": ("other-3.dist-info", b"[console_scripts]\n\xff = x:y\n", "Name: other\nVersion: 3\n", "other"),
    "wrong-group": (
        "other-3.dist-info",
        b"[debiasctl.weighting]\nmine = other:Y\n",
        "Name: other\nVersion: 3\n",
        "other 3: 'mine' is in the entry-point group 'debiasctl.weighting', which debiasctl does not read. Did you "
        "mean 'debiasctl.weightings'?",
    ),
    "no-kind": ("other-3.dist-info", b"[debiasctl]\nmine = other:Y\n", "Name: other\nVersion: 3\n", "'debiasctl'"),
    "wrong-name": (
        "other-3.dist-info",
        b"[debiasctl.weightings]\nmy\x1b[31m scheme = other:Y\n",
        "Name: other\nVersion: 3\n",
        "cannot be used, because its name is not one",
    ),
    "control": (
        "other-3.dist-info",
        b"[debiasctl.weightings]\nother = oth\x1b[31mer:Y\n",
        "Name: oth\x1b[31mer\nVersion: 3\x07\n",
        "cannot be used, because its entry point is",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_another_packages_metadata_holds_harms_nothing(case: str, site: Path) -> None:
    folder, points, about, note = BROKEN[case]
    foreign(site, folder, points=points, about=about)
    listed = succeed("plugins", "list")
    rows = json.loads(succeed("plugins", "list", "--json").out)["plugins"]
    assert {"debiased", "loud"} <= {row["name"] for row in rows}
    assert "\x1b" not in listed.out + listed.err
    if note is not None:
        assert note in listed.err
        found = debiasctl("doctor", "--json")
        assert any(note in problem for problem in json.loads(found.out)["problems"])
    else:
        assert "other" in {row["name"] for row in rows}
        message = error_of("train", "digits", "--weighting", "other", code=1)
        assert "cannot be imported" in message
        assert "\x1b" not in message
    assert "debiased" in complete_plugin("weightings")("deb")
    assert _any_distribution_offers("debiasctl.commands")
    succeed("train", "digits", *OPTIONS, "--dry-run", "--device", "cpu")


def test_doctor_loads_every_plugin() -> None:
    outcome = debiasctl("doctor", "--json")
    assert outcome.code == 1
    found = {(one["kind"], one["name"]): one["problem"] for one in json.loads(outcome.out)["plugins"]}
    assert found["weightings", "loud"] is None
    assert found["weightings", "debiased"] is None
    for kind, name in (("weightings", "attribute"), ("weightings", "endless"), ("commands", "bad")):
        assert "of bad-pack 6.6" in found[kind, name]
    assert "loud at import" in outcome.err or "loud_plugins" in sys.modules


def test_a_fresh_process_reads_past_broken_metadata(site: Path, tmp_path: Path) -> None:
    """pydantic and torch read the entry points of every distribution when they are imported."""
    foreign(site, "other-3.dist-info", points=b"[torch.backends]\nx = \xff:y\n")
    environment = os.environ | {"PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "debiasctl", "train", "digits", *OPTIONS, "--dry-run", "--json", "--device", "cpu"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["steps"]
    words = {"_DEBIASCTL_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "debiasctl train digits --set ema.d"}
    done = subprocess.run(
        command[:3], env=environment | words, capture_output=True, text=True, timeout=300, check=False
    )
    assert "ema.decay" in done.stdout, done.stderr
