"""The documented keys of the JSON outputs are those that the commands print, no more and no fewer."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from adm_files import GIVEN, save_small
from PIL import Image
from tiny import OPTIONS, debiasctl
from toy_parts import toys

from debiasctl.analysis.parts import catalogue
from debiasctl.cli.app import app
from debiasctl.cli.output import JSON_VERSION
from debiasctl.runs.records import ExtensionFigures, ExtensionsRecord
from debiasctl.runs.store import append_metrics, find_run

DOCUMENTED: dict[str, dict[str, Any]] = yaml.safe_load(
    (Path(__file__).parents[1] / "docs" / "reference" / "json-keys.yaml").read_text(encoding="utf-8")
)
_MONITOR = ["--evaluate-every", "16", "--set=monitor.features=pixels", "--set=monitor.num=16", "--set=monitor.steps=2"]
_TRAIN = [*OPTIONS, *_MONITOR, "--steps", "4", "--set", "ema.kind=power", "--set", "ema.snapshot_every=1"]
_SAMPLE = ["--num", "512", "--steps", "2"]
_GUIDED = ["--sampler", "ddim:guidance=2", "--guide", "a"]
_SWEEP = [*OPTIONS, "--steps", "1", "--seeds", "1", "--num", "8", "--evaluate-steps", "2", "--features", "pixels"]
# every command with --json, in an order in which each finds what it needs; several calls show one output's variants
CALLS = [
    ("train", ["train", "digits", *_TRAIN, "--name", "a"]),
    ("train", ["train", "digits", *_TRAIN, "--name", "b", "--seed", "1"]),
    ("train --dry-run", ["train", "digits", *_TRAIN, "--dry-run"]),
    ("sample", ["sample", "a", *_SAMPLE, "--out", "a.npz"]),
    ("sample", ["sample", "b", "--num", "1", "--steps", "1", *_GUIDED]),
    ("sample --same-noise", ["sample", "a", "b", "--num", "1", "--steps", "2,3", "--same-noise", "--out", "s.png"]),
    ("ema", ["ema", "a", "--length", "0.055"]),
    ("evaluate", ["evaluate", "a", "--num", "64", "--steps", "2"]),
    ("evaluate", ["evaluate", "a", "--num", "512", "--steps", "2,3"]),
    ("evaluate", ["evaluate", "b", "--num", "512", "--steps", "2,3"]),
    ("evaluate", ["evaluate", "b", "--num", "16", "--steps", "1", "--features", "pixels", *_GUIDED]),
    ("evaluate", ["evaluate", "--samples", "a.npz", "--reference", "digits"]),
    ("likelihood", ["likelihood", "a", "--num", "4", "--terms", "3", "--steps", "2"]),
    ("compare", ["compare", "a", "b"]),
    ("compare", ["compare", "a", "--by", "num"]),
    ("compare", ["compare", "--figures", "figures.csv", "--level", "fid=4"]),
    ("sweep --dry-run", ["sweep", "digits", *_SWEEP, "--dry-run"]),
    ("sweep", ["sweep", "digits", *_SWEEP]),
    ("analyze", ["analyze", "a", "b"]),
    ("analyze", ["analyze", "a", "digits-*"]),
    ("sweep list", ["sweep", "list"]),
    ("sweep show", ["sweep", "show", "digits"]),
    ("doctor", ["doctor"]),
    ("runs tag", ["runs", "tag", "a", "--add", "first"]),
    ("runs note", ["runs", "note", "a", "a note"]),
    ("runs list", ["runs", "list"]),
    ("runs show", ["runs", "show", "a"]),
    ("runs prune", ["runs", "prune", "--dry-run"]),
    ("runs add-model", ["runs", "add-model", "m", f"guided-diffusion:path=m.pt,{GIVEN}"]),
    ("plugins list", ["plugins", "list"]),
    ("plugins describe", ["plugins", "describe", "weightings", "min-snr"]),
    ("plugins check", ["plugins", "check", "min-snr"]),
    ("plugins new", ["plugins", "new", "weightings", "my-scheme"]),
    ("datasets list", ["datasets", "list"]),
    ("datasets show", ["datasets", "show", "images"]),
    ("datasets check", ["datasets", "check", "images"]),
    ("weightings fit", ["weightings", "fit", "a", "--rule", "uncertainty", "--snippet", "fit.py"]),
    ("weightings fit", ["weightings", "fit", "a", "--rule", "optimal-loss", "--num", "16"]),
    ("weightings list", ["weightings", "list"]),
    ("weightings identify", ["weightings", "identify", "weights.csv", "--prediction", "v", "--plot", "out.svg"]),
    ("weightings table", ["weightings", "table", "debiased"]),
    ("spec describe", ["spec", "describe"]),
]


def commands_with_json(command: Any, name: str = "") -> Iterator[str]:
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands_with_json(inner, f"{name} {part}".strip())
    if any("--json" in parameter.opts for parameter in command.params):
        yield name


def paths(value: Any, path: str = "") -> Iterator[str]:
    """Where everything in a JSON value lies, as json-keys.yaml writes it."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from paths(inner, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for one in value:
            yield from paths(one, f"{path}[]") if isinstance(one, dict) else [path]
    else:
        yield path


def versioned(text: str) -> dict[str, Any]:
    """The object that a command printed, without the version that comes first."""
    value = json.loads(text)
    assert isinstance(value, dict)
    assert next(iter(value.items())) == ("json_version", JSON_VERSION)
    return {key: inner for key, inner in value.items() if key != "json_version"}


def pattern(key: str) -> re.Pattern[str]:
    """What `key` stands for; varying keys may have dots in them."""
    parts = re.split(r"(\*\*|\*)", key)
    return re.compile("".join({"**": ".*", "*": r"[^\[\]]+?"}.get(part, re.escape(part)) for part in parts))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, set[str]]]:
    """By command, where everything lies that it prints."""
    folder = tmp_path_factory.mktemp("json")
    found: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEBIASCTL_HOME", str(folder / "home"))
        patch.chdir(folder)
        patch.setattr(catalogue, "PARTS", toys())  # every part's record has the same keys
        rows = [
            f"{arm},{seed},fid,{arm * 90 / steps + seed},{steps}"
            for arm in (1, 2)
            for seed in (0, 1)
            for steps in (10, 50)
        ]
        (folder / "figures.csv").write_text("\n".join(["arm,seed,metric,value,steps", *rows]), encoding="utf-8")
        lines = [f"{snr},{min(snr, 5) / (snr + 1)}" for snr in (10 ** (n / 4) for n in range(-12, 13))]
        (folder / "weights.csv").write_text("\n".join(["snr,weight", *lines]), encoding="utf-8")
        save_small(folder / "m.pt")
        for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
            (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8)).save(folder / "images" / name)
        for name, arguments in CALLS:
            outcome = debiasctl(*arguments, "--json")
            assert outcome.code == 0, outcome.err
            found.setdefault(name, set()).update(paths(versioned(outcome.out)))
        figures = ExtensionFigures(name="sparse", figures={"sparsity": 0.5})
        append_metrics(find_run("a"), [ExtensionsRecord(step=4, extensions=[figures])])
        found["runs show"].update(paths(versioned(debiasctl("runs", "show", "a", "--json").out)))
        # a run or sweep that cannot be read is listed too
        (folder / "home" / "sweeps" / "bad").mkdir()
        found["sweep list"].update(paths(versioned(debiasctl("sweep", "list", "--json").out)))
        (folder / "home" / "runs" / "b" / "status.json").write_text("{", encoding="utf-8")
        found["runs list"].update(paths(versioned(debiasctl("runs", "list", "--json").out)))
        yield found


def test_every_command_with_json_is_documented_and_called() -> None:
    known = set(commands_with_json(typer.main.get_command(app)))
    assert {name.partition(" --")[0] for name in DOCUMENTED} == known
    assert {name for name, _ in CALLS} == set(DOCUMENTED)


@pytest.mark.parametrize("command", DOCUMENTED)
def test_what_is_printed_is_documented(command: str, printed: dict[str, set[str]]) -> None:
    patterns = [pattern(key) for key in DOCUMENTED[command]["keys"]]
    assert sorted(path for path in printed[command] if not any(one.fullmatch(path) for one in patterns)) == []


@pytest.mark.parametrize("command", DOCUMENTED)
def test_what_is_documented_is_printed(command: str, printed: dict[str, set[str]]) -> None:
    keys = DOCUMENTED[command]["keys"]
    assert [key for key in keys if not any(pattern(key).fullmatch(path) for path in printed[command])] == []


def test_the_page_can_be_written() -> None:
    for entry in DOCUMENTED.values():
        assert entry["about"].endswith(".")
        assert all(str(meaning).strip() for meaning in entry["keys"].values())
