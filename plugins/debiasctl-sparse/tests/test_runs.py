"""Runs on the command line: killed and resumed, in two processes, and averages from snapshots."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

OPTIONS = (
    "gaussian-mixture:image_size=8,channels=1,components=3,num=48",
    "--backbone", "dit:patch_size=2,hidden_size=16,depth=1,num_heads=2", "--batch-size", "8", "--device", "cpu",
    "--set", "training.heldout_images=4",
)  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of this test alone."""
    monkeypatch.setenv("DEBIASCTL_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "debiasctl", *words]


def succeed(*words: str) -> str:
    done = subprocess.run(command(*words), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def checkpoint(home: Path, name: str, step: int) -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint, the masks by `mask/NAME`."""
    folder = home / "runs" / name / "checkpoints" / f"{step:08d}"
    tensors = {
        f"{path.stem}/{key}": one for path in folder.glob("*.safetensors") for key, one in load_file(path).items()
    }
    (state,) = torch.load(folder / "state.pt", weights_only=True)["extensions"]
    return tensors | {f"mask/{key}": one for key, one in state["masks"].items()}


def test_a_run_that_is_killed_ends_as_one_that_is_not(home: Path) -> None:
    train = ("train", *OPTIONS, "--steps", "200", "--checkpoint-every", "20", "--set", "ema.kind=power")
    train = (*train, "--extension", "sparse:sparsity=0.5,update_every=7")
    with subprocess.Popen(command(*train, "--name", "killed"), stderr=subprocess.DEVNULL) as process:
        checkpoints = home / "runs" / "killed" / "checkpoints"
        while process.poll() is None and not (checkpoints / "00000040").exists():
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    succeed("train", "--resume", "killed")
    succeed(*train, "--name", "whole")
    one, other = checkpoint(home, "killed", 200), checkpoint(home, "whole", 200)
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    masks = {name.removeprefix("mask/"): mask for name, mask in one.items() if name.startswith("mask/")}
    for weights in ("model", "ema"):
        assert all(not one[f"{weights}/{name}"][~mask].any() for name, mask in masks.items())
    succeed("ema", "whole", "--length", "0.08")  # a combination of averages that had other masks
    (average,) = (home / "runs" / "whole" / "ema").glob("length-*.safetensors")
    stored = load_file(average)
    assert all(not stored[name][~mask].any() for name, mask in masks.items())
    assert "sparsity 0.5, network sparsity" in succeed("runs", "show", "whole")


def test_two_processes_have_the_masks_of_one(home: Path) -> None:
    train = ("train", *OPTIONS, "--steps", "12", "--precision", "fp64", "--extension", "sparse:update_every=2")
    succeed(*train, "--name", "one")
    succeed(*train, "--name", "two", "--processes", "2", "--accumulation", "2")
    one, two = checkpoint(home, "one", 12), checkpoint(home, "two", 12)
    for name, tensor in one.items():
        if name.startswith("mask/"):
            assert torch.equal(tensor, two[name])
        else:
            assert torch.allclose(tensor, two[name], rtol=1e-9, atol=1e-12)
