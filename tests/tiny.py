"""Tiny runs, the command line inside this process, and plugin packages made up on the spot."""

import contextlib
import io
import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import load_file

from debiasctl.api import DataLocation, LoadedDataset
from debiasctl.cli.app import main
from debiasctl.compute.device import make_accelerator
from debiasctl.models.checkpoint_files import write_checkpoint
from debiasctl.paths import runs_dir
from debiasctl.runs.store import Run, read_metrics
from debiasctl.specs.files import merge
from debiasctl.specs.resolve import resolve_spec
from debiasctl.specs.sections import RunSpec
from debiasctl.training import session
from debiasctl.training.conduct import Conduct
from debiasctl.training.loop import Progress
from debiasctl.training.meters import MACHINE_FIELDS
from debiasctl.training.setup import set_up
from debiasctl.training.state import capture
from debiasctl.training.training import Training

BACKBONE = "dit:hidden_size=16,depth=1,num_heads=2"
LOCATION = DataLocation(data_dir=None, cache_dir=Path("no-cache"))
OPTIONS = ("--backbone", BACKBONE, "--batch-size", "8", "--set", "training.heldout_images=4")
_SETTINGS = {
    "data": {"dataset": "digits", "horizontal_flip": False},
    "model": {"backbone": BACKBONE, "prediction": "eps"},
    "diffusion": {"schedule": "linear"},
    "optimizer": {"lr": 1e-3, "warmup_steps": 2, "decay": "cosine", "clip_grad_norm": 1.0},
    "ema": {"decay": 0.9},
    "training": {"steps": 6, "batch_size": 8, "heldout_images": 4, "checkpoint_every": 3, "log_every": 1},
}


def make_spec(**settings: Any) -> RunSpec:
    """The spec of a tiny run on digits; `section__field=value` changes a setting."""
    raw: dict[str, Any] = {}
    for key, value in settings.items():
        for part in reversed(key.split("__")):
            value = {part: value}
        raw = merge(raw, value)
    settings = _SETTINGS if "kind" not in raw.get("ema", {}) else _SETTINGS | {"ema": {}}
    return resolve_spec([settings, raw], LOCATION)[0]


@lru_cache(maxsize=1)
def digits() -> LoadedDataset:
    return session.load_data(make_spec(), LOCATION)


def save_checkpoint(run: Run, training: Training, *, step: int, progress: Mapping[str, float]) -> None:
    """Write the state after `step` steps in the foreground."""
    state = capture(training, step=step, progress=progress)
    assert state is not None, "this is the first process"
    write_checkpoint(run, state)


def set_up_tiny(spec: RunSpec) -> Training:
    return set_up(spec, digits(), accelerator=make_accelerator("cpu"))


def randomize(network: torch.nn.Module) -> None:
    """Weights at which every layer matters: DiT starts with its blocks switched off and its output at 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def train(name: str | None, spec: RunSpec, on_progress: Callable[[Progress], None] = lambda progress: None) -> Run:
    return session.start(spec, LOCATION, name=name, conduct=Conduct(device="cpu", on_progress=on_progress))


def resume(run: Run, steps: int | None = None, location: DataLocation = LOCATION) -> list[int]:
    """Go on with a run; returns the steps that were made."""
    made: list[int] = []
    conduct = Conduct(device="cpu", on_progress=lambda progress: made.append(progress.step))
    session.resume(run, location, steps=steps, conduct=conduct)
    return made


def wait_for_step(process: subprocess.Popen, name: str, target: int) -> None:
    """Wait until a run has logged a step, or its process has ended; what is printed is for people, and paced."""
    metrics = runs_dir() / name / "metrics.jsonl"
    while process.poll() is None:
        lines = metrics.read_bytes().splitlines() if metrics.exists() else []
        if any(b'"kind": "train"' in line and json.loads(line)["step"] >= target for line in lines[-4:-1]):
            return
        time.sleep(0.002)


def stored_state(run: Run, step: int) -> dict[str, Any]:
    """Everything in a checkpoint, flat: name -> tensor or value."""
    folder = run.checkpoint_path(step)
    state = {f"raw/{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    state |= {f"ema/{name}": tensor for name, tensor in load_file(folder / "ema.safetensors").items()}
    return state | dict(_flatten(torch.load(folder / "state.pt", weights_only=True)))


def same_state(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether all tensors are equal bit for bit, and all else is equal."""
    return first.keys() == second.keys() and all(
        torch.equal(one, second[name]) if isinstance(one, torch.Tensor) else one == second[name]
        for name, one in first.items()
    )


def metrics(run: Run) -> list[dict[str, Any]]:
    """A run's records, without what the machine did."""
    return [{k: v for k, v in record.to_json().items() if k not in MACHINE_FIELDS} for record in read_metrics(run)]


def assert_same_end(run: Run, other: Run) -> None:
    """Weights, averages, optimizer state and metrics of two finished runs are equal, bit for bit."""
    last = run.spec().training.steps
    assert run.checkpoint_steps()[-1] == other.checkpoint_steps()[-1] == last
    assert same_state(stored_state(run, last), stored_state(other, last))
    assert metrics(run) == metrics(other)
    assert run.status().state == other.status().state == "finished"


def _flatten(value: Any, prefix: str = "state") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flatten(inner, f"{prefix}/{key}")
    elif isinstance(value, list | tuple):
        yield from _flatten(dict(enumerate(value)), prefix)
    else:
        yield prefix, value


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


def debiasctl(*arguments: str | Path) -> Outcome:
    """What the command line does with these arguments, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    argv = ["debiasctl", *map(str, arguments)]
    with patch.object(sys, "argv", argv), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except Exception:  # noqa: BLE001 - main promises to let nothing through
            traceback.print_exc()
            code = -1
    return Outcome(code, out.getvalue(), err.getvalue())


def succeed(*arguments: str | Path) -> Outcome:
    outcome = debiasctl(*arguments)
    assert outcome.code == 0, outcome.err
    return outcome


def error_of(*arguments: str | Path, code: int) -> str:
    """The one message with which a command fails."""
    outcome = debiasctl(*arguments)
    assert outcome.code == code, outcome
    assert "Traceback" not in outcome.err
    assert "looks like a bug" not in outcome.err
    if "╭─ Error" in outcome.err:  # what the parser of options says itself
        assert outcome.err.count("╭─ Error") == 1
        return " ".join(outcome.err.partition("╭─ Error")[2].replace("│", " ").split())
    before, mark, message = outcome.err.rpartition("error: ")
    assert mark, outcome.err
    assert "error:" not in before
    return message


def write_distribution(
    site: Path,
    *,
    name: str,
    version: str,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    requires: Sequence[str] = (),
) -> None:
    """An installed package, as pip would leave it in the folder `site`."""
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    required = "".join(f"Requires-Dist: {one}\n" for one in requires)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
    lines = []
    for group, points in entry_points.items():
        lines += [f"[{group}]", *(f"{point} = {target}" for point, target in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
    for module, code in modules.items():
        (site / f"{module}.py").write_text(code)
