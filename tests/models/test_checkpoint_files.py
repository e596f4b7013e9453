from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import error_of, make_spec, train

from debiasctl.errors import CheckpointError
from debiasctl.models.build import build_network
from debiasctl.models.checkpoint_files import load_weights
from debiasctl.runs.store import Run


def cut(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def test_weights_of_a_damaged_checkpoint_are_refused_with_the_way_on() -> None:
    run = train("run", make_spec())
    cut(run.checkpoint_path(6) / "ema.safetensors")
    message = error_of("sample", "run", "--num", "1", "--steps", "1", code=1)
    assert f"({'ema.safetensors'} differs from its checksum): {run.checkpoint_path(6)}" in message
    assert "Use an earlier one: --checkpoint 3" in message
    cut(run.checkpoint_path(3) / "ema.safetensors")
    assert "There is no earlier checkpoint" in error_of(
        "sample", "run", "--num", "1", "--steps", "1", "--checkpoint", "3", code=1
    )


def test_only_the_file_that_is_read_need_be_whole(tmp_path: Path) -> None:
    run = train("run", make_spec())
    cut(run.checkpoint_path(6) / "model.safetensors")
    network = build_network(run.spec(), image_size=8, channels=1, num_classes=10)
    load_weights(run, network, step=6, weights="ema")
    assert torch.equal(next(network.parameters()), next(iter(stored_ema(run).values())))
    with pytest.raises(CheckpointError, match=r"model\.safetensors differs"):
        load_weights(run, network, step=6, weights="raw")


def stored_ema(run: Run) -> dict:
    loaded = load_file(run.checkpoint_path(6) / "ema.safetensors")
    network = build_network(run.spec(), image_size=8, channels=1, num_classes=10)
    return {name: loaded[name] for name, _ in network.named_parameters()}


def test_weights_of_another_network_are_refused() -> None:
    run = train("run", make_spec())
    other = build_network(make_spec(model__backbone="dit:hidden_size=32,depth=1,num_heads=2"),
                          image_size=8, channels=1, num_classes=10)  # fmt: skip
    with pytest.raises(CheckpointError, match="checkpoint 6 of run 'run' does not fit its spec"):
        load_weights(run, other, step=6, weights="ema")
