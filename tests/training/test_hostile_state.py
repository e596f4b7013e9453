"""A checkpoint with right checksums and hostile contents is refused in one line, before anything is restored."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import make_spec, set_up_tiny

from debiasctl.errors import CheckpointError
from debiasctl.models.checkpoint_files import load_weights, write_checkpoint
from debiasctl.models.tensor_files import misfit, read_state, read_tensors
from debiasctl.runs.records import parse_record
from debiasctl.runs.store import Run
from debiasctl.training.checkpoints import load_last
from debiasctl.training.state import capture
from debiasctl.training.training import Training


@pytest.fixture(scope="module")
def training() -> Training:
    training = set_up_tiny(make_spec())
    for parameter in training.network.parameters():
        parameter.grad = torch.ones_like(parameter)
    training.optimizers.optimizer.step()  # makes the optimizer's state
    return training


@pytest.fixture
def run(tmp_path: Path, training: Training) -> Run:
    run = Run(tmp_path / "run")
    run.path.mkdir()
    state = capture(training, step=1, progress={"loss": 1.0})
    assert state is not None
    write_checkpoint(run, state)
    return run


def sign(run: Run, name: str) -> None:
    """Put the right checksum of a file into the manifest."""
    folder = run.checkpoint_path(1)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def parameters(training: Training) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in training.network.parameters()]


def refuses(run: Run, training: Training) -> None:
    before = parameters(training)
    with pytest.raises(CheckpointError, match=r"^checkpoint 1 of run 'run' [^\n]{1,500}$"):
        load_last(run, training)
    assert all(map(torch.equal, before, parameters(training)))


@pytest.mark.parametrize("content", [[], None, "text", 3, torch.zeros(2), {}, {1: 2}, {"step": 1}, [[[]]]])
def test_a_state_of_another_kind(run: Run, training: Training, content: Any) -> None:
    torch.save(content, run.checkpoint_path(1) / "state.pt")
    sign(run, "state.pt")
    refuses(run, training)


def _in_optimizer(change: Callable[[Any], None]) -> Callable[[dict[str, Any]], None]:
    return lambda state: change(state["optimizer"])


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another step": lambda state: state.update(step=7),
    "no step": lambda state: state.pop("step"),
    "progress of text": lambda state: state.update(progress={"loss": "x"}),
    "progress of NaN": lambda state: state.update(progress={"loss": float("nan")}),
    "progress a list": lambda state: state.update(progress=[1]),
    "no optimizer": lambda state: state.update(optimizer=None),
    "no groups": _in_optimizer(lambda one: one.update(param_groups=[])),
    "groups of text": _in_optimizer(lambda one: one.update(param_groups=["x"])),
    "other parameters": _in_optimizer(lambda one: one["param_groups"][0].update(params=[0])),
    "other betas": _in_optimizer(lambda one: one["param_groups"][0].update(betas=(0.1, 0.2))),
    "an unknown parameter": _in_optimizer(lambda one: one["state"].update({10**6: {}})),
    "a state of text": _in_optimizer(lambda one: one["state"].update({0: "x"})),
    "moments of another shape": _in_optimizer(lambda one: one["state"][0].update(exp_avg=torch.zeros(7))),
    "moments that are one number": _in_optimizer(lambda one: one["state"][0].update(exp_avg=torch.zeros(()))),
    "moments of NaN": _in_optimizer(lambda one: one["state"][0]["exp_avg"].fill_(float("nan"))),
    "moments of text": _in_optimizer(lambda one: one["state"][0].update(exp_avg="x")),
    "one extension too many": lambda state: state.update(extensions=[{}]),
    "extensions of text": lambda state: state.update(extensions="x"),
    "no weighting": lambda state: state.pop("weighting"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_state_with_a_wrong_part(run: Run, training: Training, what: str) -> None:
    path = run.checkpoint_path(1) / "state.pt"
    state = torch.load(path, weights_only=True)
    CHANGES[what](state)
    torch.save(state, path)
    sign(run, "state.pt")
    refuses(run, training)


def header(value: Any) -> bytes:
    text = json.dumps(value).encode()
    return len(text).to_bytes(8, "little") + text


HOSTILE_WEIGHTS: dict[str, bytes | Callable[[bytes], bytes]] = {
    "cut short": lambda data: data[:-100],
    "empty": b"",
    "a header of 2^60 bytes": (2**60).to_bytes(8, "little"),
    "no header": b"\xff" * 100,
    "offsets beyond the end": header({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
    "an unknown type": header({"x": {"dtype": "Z9", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
    "a list": header([]),
    "other tensors": header({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
}


@pytest.mark.parametrize("what", HOSTILE_WEIGHTS)
@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors"])
def test_hostile_weights(run: Run, training: Training, what: str, name: str) -> None:
    path = run.checkpoint_path(1) / name
    content = HOSTILE_WEIGHTS[what]
    path.write_bytes(content(path.read_bytes()) if callable(content) else content)
    sign(run, name)
    refuses(run, training)
    with pytest.raises(CheckpointError, match=r"^[^\n]{1,500}$"):
        load_weights(run, training.network, step=1, weights="ema" if name.startswith("ema") else "raw")


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda x: x[:1], "there and"),
        (lambda x: torch.full_like(x, float("nan")), "holds NaN or infinity there"),
        (lambda x: torch.full_like(x, float("inf")), "holds NaN or infinity there"),
        (lambda x: x.to(torch.int32), "is torch.int32 there"),
    ],
)
def test_weights_that_do_not_fit(run: Run, training: Training, change: Any, message: str) -> None:
    path = run.checkpoint_path(1) / "ema.safetensors"
    tensors = read_tensors(path)
    name = next(name for name in tensors if tensors[name].ndim == 2)
    save_file(tensors | {name: change(tensors[name]).contiguous()}, path)
    sign(run, "ema.safetensors")
    refuses(run, training)
    with pytest.raises(CheckpointError, match=message):
        load_weights(run, training.network, step=1, weights="ema")


def test_a_whole_checkpoint_is_restored(run: Run, training: Training) -> None:
    assert load_last(run, training) == (1, {"loss": 1.0})
    assert misfit(training.network.state_dict(), training.network.state_dict()) is None


def test_a_state_whose_parts_are_packed_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1000)}, tmp_path / "plain.pt")
    assert read_state(tmp_path / "plain.pt")["x"].shape == (1000,)
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    with pytest.raises(ValueError, match="its parts are packed"):
        read_state(tmp_path / "packed.pt")


def test_a_state_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    class Command:
        def __reduce__(self) -> Any:
            return os.system, ("true",)

    torch.save({"x": Command()}, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"^[^\n]{1,400}$"):
        read_state(tmp_path / "x.pt")


TRAIN = {"kind": "train", "step": 1, "images": 4, "loss": 1.0, "grad_norm": 1.0, "lr": 0.1, "images_per_second": 2.0}


@pytest.mark.parametrize(
    "changes",
    [
        {"step": -1},
        {"step": True},
        {"step": "1"},
        {"step": 10**30},
        {"images": -4},
        {"grad_norm": -1.0},
        {"lr": "x"},
        {"kind": "x"},
        {"kind": None},
        {"loss_shares": [{}]},
        {"extra": 1},
    ],
)
def test_a_line_of_metrics_with_a_wrong_value(changes: dict[str, Any]) -> None:
    assert parse_record(TRAIN).step == 1
    with pytest.raises(ValueError):  # noqa: PT011 - pydantic's
        parse_record(TRAIN | changes)
