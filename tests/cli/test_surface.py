"""The command line as its users know it: names that scripts rely on, help, and what start-up imports."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from tiny import debiasctl, error_of, succeed

from debiasctl import __version__
from debiasctl.cli.app import app

# Renaming or removing one of these breaks its users' scripts: CHANGELOG.md says so when it must be.
SURFACE = {
    "": "--debug --help --install-completion --show-completion --version",
    "train": "DATASET|PATH --accumulation --autoencoder --backbone --batch-size --checkpoint-every --data "
    "--data-dir --deterministic --device --dry-run --evaluate-every --extension --help --image-size --images "
    "--init-from --json --lr --max-hours --name --normalize --precision --prediction --processes --resume --schedule "
    "--seed --set --spec --steps --timesteps --track --trial --weighting",
    "ema": "RUN --help --json --length --step",
    "sample": "RUN... --batch-size --checkpoint --class --columns --compile --device --guide --help --json --labels "
    "--num --out --precision --processes --same-noise --sampler --scale --seed --steps --trajectory --weights -n -o",
    "evaluate": "RUN --batch-size --checkpoint --checkpoints --data --data-dir --device --export-reference "
    "--feature-weights --features --guide --help --json --metrics --num --plot --precision --processes "
    "--reference --sampler --samples --seed --steps --weights --width -n",
    "doctor": "--help --json",
    "likelihood": "RUN --batch-size --checkpoint --data --data-dir --device --draws --help --json --method "
    "--num --plot --seed --steps --terms --variance --weights --width",
    "analyze": "RUN... --all --checkpoint --counterfactual --data --data-dir --device --help --html --json --metric "
    "--num --only --open --picture --plot --processes --reference --sampler --seed --steps --trajectories --validation "
    "--weights --where --width -n",
    "compare": "RUN... --against --all --arm --block --borrowed --by --columns --csv --data-dir --device --features "
    "--figures --help --html --json --latex --level --margin --md --metric --open --paired --picture --plot --primary "
    "--reference --skip-damaged --sort --top --unpaired --where --width",
    "sweep": "DATASET|PATH|STUDY.yaml --accumulation --autoencoder --backbone --batch-size --checkpoint-every "
    "--data-dir --deterministic --device --dry-run --engine --evaluate-every --evaluate-steps --extension --features "
    "--help --image-size --images --jobs --json --lr --margin --max-seeds --metrics --name --normalize --num "
    "--precision --prediction --primary --reference --resume --retries --sampler --schedule --seeds --set --spec "
    "--steps --threads --timesteps --trial --until-decided --weighting -j -n",
    "sweep list": "--help --json",
    "sweep show": "SWEEP --help --json",
    "sweep watch": "SWEEP --help",
    "sweep rm": "SWEEP --help --runs --yes -y",
    "runs": "--help",
    "runs list": "[RUN]... --all --columns --csv --help --json --md --sort --top --where",
    "runs watch": "[RUN]... --every --help --where",
    "runs tag": "RUN... --add --help --json --remove --where",
    "runs note": "RUN TEXT --help --json --remove",
    "runs prune": "[RUN]... --analyses --checkpoints --dry-run --features --help --json --keep-last --keep-steps-too "
    "--samples --where --yes -y",
    "runs show": "RUN --help --json",
    "runs rm": "RUN --help --yes -y",
    "runs path": "RUN --help",
    "runs add-model": "NAME SOURCE:OPTIONS --autoencoder --data-dir --dataset --help --json --weighting",
    "runs export-checkpoint": "RUN FILE --checkpoint --force --format --help --weights",
    "runs export": "RUN --force --help --out -o",
    "runs import": "ARCHIVE --help --name",
    "plugins": "--help",
    "plugins list": "KIND --help --json",
    "plugins check": "KIND NAME --distribution --help --json --timeout",
    "plugins describe": "KIND NAME --help --json",
    "plugins new": "KIND NAME --dir --help --json --package",
    "spec": "--help",
    "spec describe": "SECTION[.SETTING] --help --json",
    "datasets": "--help",
    "datasets list": "--help --json",
    "datasets show": "NAME|PATH --data-dir --help --image-size --json --labels --num --out -n -o",
    "datasets check": "NAME|PATH --data-dir --help --json --out -o",
    "weightings": "--help",
    "weightings fit": "RUN... --data --data-dir --device --help --json --num --out --rule --snippet --weighting -o",
    "weightings list": "--help --json",
    "weightings identify": "FILE:FUNCTION|FILE.csv --argument --given --help --json --out --plot --prediction "
    "--schedule --zero-terminal-snr -o",
    "weightings table": "REF --csv --help --json --normalize --prediction --schedule",
    "weightings plot": "REF --help --normalize --out --prediction --schedule --timesteps --width -o",
}


def commands(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}".strip())


def surface(path: str, command: Any) -> str:
    context = command.make_context(path, [], resilient_parsing=True)
    arguments, options = [], []
    for parameter in command.get_params(context):
        if parameter.param_type_name == "argument":
            arguments.append(parameter.metavar or parameter.name.upper())
        else:
            options += [*parameter.opts, *parameter.secondary_opts]
    return " ".join([*arguments, *sorted(option for option in options if option != "-h")])


def test_the_surface_is_frozen() -> None:
    found = {path: surface(path, command) for path, command in commands(typer.main.get_command(app))}
    assert found == SURFACE


GROUPS = ("runs", "plugins", "spec", "datasets", "weightings")


@pytest.mark.parametrize("path", [path for path in SURFACE if path not in GROUPS])
def test_help_has_an_example(path: str) -> None:
    text = succeed(*path.split(), "--help").out
    assert "Example" in text
    assert f"debiasctl {path}".strip() in text.partition("Example")[2]
    assert succeed(*path.split(), "-h").out == text


def test_no_arguments_show_the_help() -> None:
    outcome = debiasctl()
    assert "Usage: debiasctl" in outcome.out + outcome.err
    assert outcome.code == 2


def test_version() -> None:
    assert succeed("--version").out == f"debiasctl {__version__}\n"


# Typer's words for one thing differ from release to release: where there are two, either is right.
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["trian", "digits"], r"No such command 'trian'\. Did you mean 'train'\?"),
        (["train", "digits", "--weigthing", "debiased"], r"No such option:? '?--weigthing"),
        (["train", "digits", "--steps", "many"], "'--steps'"),
        (["train", "digits", "--steps", "0"], r"'--steps': .*(greater than or equal to 1|not in the range x>=1)\b"),
        (["sample"], r"Missing argument 'RUN\.\.\.'"),
        (["sample", "a", "--num", "0"], "'--num'"),
        (["runs", "shwo"], "No such command 'shwo'"),
    ],
)
def test_what_the_parser_refuses(arguments: list[str], message: str) -> None:
    assert re.search(message, error_of(*arguments, code=2))


def test_debug_shows_the_traceback_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    plain, debug = debiasctl("sample", "no-run"), debiasctl("--debug", "sample", "no-run")
    assert plain.err == debug.err[-len(plain.err) :]
    assert plain.err.startswith("error: there is no run 'no-run'")
    assert "Traceback (most recent call last)" in debug.err
    assert "Traceback" not in plain.err
    assert plain.code == debug.code == 2
    assert plain.out == debug.out == ""


def test_a_bug_ends_as_one_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("debiasctl.runs.store.find_run", lambda text: 1 / 0)
    outcome = debiasctl("sample", "a")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ZeroDivisionError: division by zero\nThis looks like a bug")


def test_the_systems_errors_name_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(text: str) -> None:
        raise PermissionError(13, "Permission denied", "/some/file")

    monkeypatch.setattr("debiasctl.runs.store.find_run", fail)
    assert error_of("sample", "a", code=1) == "Permission denied (/some/file)\n"


def test_looking_imports_nothing_heavy() -> None:
    """In a process of its own, for this one has imported everything."""
    code = """
import json, sys
from debiasctl.cli.app import main
from debiasctl.cli.completion import complete_plugin, complete_run, complete_setting
heavy, seen = ("torch", "torchvision", "sklearn", "scipy", "accelerate", "matplotlib", "plotille", "cleanfid"), {}
for arguments in (["--help"], ["--version"], ["train", "--help"], ["weightings", "plot", "--help"], ["runs", "list"],
                  ["plugins", "list"]):
    sys.argv = ["debiasctl", *arguments]
    try:
        main()
    except SystemExit as end:
        assert not end.code
    more = ("numpy", "pydantic") if len(seen) < 2 else ()
    seen[" ".join(arguments)] = [name for name in (*heavy, *more) if name in sys.modules]
complete_run(""), complete_plugin("weightings")("min-snr:"), complete_setting("optim")
seen["completion"] = [name for name in heavy if name in sys.modules]
print(json.dumps(seen), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seen = json.loads(done.stderr.splitlines()[-1])
    assert len(seen) == 7
    assert {name: found for name, found in seen.items() if found} == {}


def test_a_wrong_name_is_refused_before_torch_is_imported(debiasctl_home: Path, tmp_path: Path) -> None:
    """In a process of its own, for this one has imported everything."""
    (debiasctl_home / "runs" / "taken").mkdir(parents=True)
    (debiasctl_home / "runs" / "taken" / "status.json").write_text("{}")
    picture = tmp_path / "one.png"
    picture.write_bytes(b"")
    mistakes = [
        f"train {tmp_path} --weighting nothing",
        f"train {tmp_path} --backbone nothing",
        f"train {tmp_path} --set diffusion.schedule=nothing",
        f"train {tmp_path} --evaluate-every 5 --set monitor.features=nothing",
        f"train {tmp_path} --name taken",
        f"train {tmp_path} --name a/b",
        f"train {picture}",
        "train nothing",
        "train digits --init-from nothing",
        "sample nothing",
        "weightings plot nothing",
        f"weightings plot --out {tmp_path}/x.txt",
    ]
    code = """
import json, sys
from debiasctl.cli.app import main
seen = {}
for line in json.loads(sys.argv[1]):
    sys.argv = ["debiasctl", *line.split()]
    try:
        main()
    except SystemExit as end:
        seen[line] = [end.code, "torch" in sys.modules]
print(json.dumps(seen))
"""
    command = [sys.executable, "-c", code, json.dumps(mistakes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == {line: [2, False] for line in mistakes}, done.stderr
