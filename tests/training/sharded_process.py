"""One of two processes that share out a network's weights, capture and restore them."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from debiasctl.training.state import capture, restore


def made() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.SiLU(), nn.Linear(5, 2)).double()
    return network, torch.optim.AdamW(network.parameters(), lr=0.1)


def stepped(network: nn.Module, optimizer: torch.optim.Optimizer, number: int) -> None:
    for _ in range(number):
        optimizer.zero_grad()
        network(torch.linspace(-1, 1, 12, dtype=torch.float64).reshape(4, 3)).square().mean().backward()
        optimizer.step()


def main(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    mesh = torch.distributed.init_device_mesh("cpu", (2,))

    def training() -> Any:
        network, _ = made()
        fully_shard(network, mesh=mesh)
        assert all(isinstance(parameter, DTensor) for parameter in network.parameters())
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
        ema = SimpleNamespace(network=made()[0], state_dict=dict, load_state_dict=lambda state: None)
        return SimpleNamespace(
            network=network, ema=ema, optimizer=optimizer, extensions=[], learned=None,
            objective=SimpleNamespace(observes=False),
            accelerator=SimpleNamespace(scaler=None, is_main_process=rank == 0),
        )  # fmt: skip

    first = training()
    untouched = capture(first, step=0, progress={})
    assert untouched is None or untouched.rest["optimizer"]["state"] == {}  # and no step was made to have some
    stepped(first.network, first.optimizer, 3)
    state = capture(first, step=3, progress={})
    assert (state is None) == (rank == 1)
    if state is not None:
        torch.save({"weights": state.weights, "rest": state.rest}, folder / "captured.pt")
    torch.distributed.barrier()
    second = training()
    restore(second, SimpleNamespace(**torch.load(folder / "captured.pt", weights_only=True)))
    stepped(second.network, second.optimizer, 2)
    resumed = {name: value.full_tensor() for name, value in second.network.state_dict().items()}
    if rank == 0:
        torch.save(resumed, folder / "resumed.pt")
    torch.distributed.barrier()  # so that neither ends while the other still gathers
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
    os._exit(0)  # at the interpreter's own end, threads of torch's are now and then still alive, and abort it
