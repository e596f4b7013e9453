"""Whether reading and resizing images keeps up with the Inception network: python benchmarks/extraction.py.

[--size 256] [--num 128] [--rounds 5] [--device cpu]

In turns: the network alone, on images that lie in memory at 299x299; the features of image files as `evaluate` finds
them, reading ahead and not; and clean-fid's own way, which resizes by Pillow in worker processes. The network has the
layers of the published one and random weights. Ratios are medians of paired rounds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
import torchvision
from cleanfid.fid import get_files_features
from data import GENERATED, generate
from torch import Tensor, nn

from debiasctl.api import DataLocation, Split
from debiasctl.builtin.features._support.inception_network import PreparedInception
from debiasctl.evaluation import extraction
from debiasctl.evaluation.extraction import FEATURES
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef


class Grid(nn.Module):
    """A block whose first branch is found under the name `conv`, as in the published file."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.conv = block.branch1x1

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x)


class Network(nn.Module):
    """torchvision's Inception-v3 in the shape of the published file, without what resizes inside it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        whole = torchvision.models.inception_v3(init_weights=False, aux_logits=False, transform_input=False)
        self.layers = nn.Sequential()
        for name, block in whole.named_children():
            if name == "Mixed_6d":
                self.layers.add_module("mixed_6", Grid(block))
            elif name not in ("dropout", "fc", "AuxLogits"):
                self.layers.add_module(name, block)
        self.layers.add_module("flat", nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x - 128) / 128)


class NotAhead:
    """Stands for reading ahead: reads when asked."""

    def __init__(self, read: Callable[[int], Tensor], *, ahead: int, device: torch.device) -> None:
        self._read = read

    def __call__(self, number: int) -> Tensor:
        return self._read(number)

    def close(self) -> None: ...


def cleanfids(folder: Path, features: PreparedInception, device: torch.device) -> Callable[[], object]:
    files = sorted(str(path) for path in folder.iterdir())

    def network(batch: Tensor) -> Tensor:
        with torch.no_grad():
            return features._network.layers((batch.to(device) - 128) / 128)

    return lambda: get_files_features(
        files, network, num_workers=torch.get_num_threads(), batch_size=32, device=device, mode="clean", verbose=False
    )


def contenders(folder: Path, split: Split, features: PreparedInception, device: torch.device) -> dict[str, Callable]:
    large = torch.randint(0, 256, (len(split), 3, 299, 299), dtype=torch.uint8).split(32)

    def alone() -> None:
        with patch.object(features, "_input", lambda chunk: chunk.to(device).float()):
            for batch in large:
                features.parts(batch, [FEATURES])

    def ahead() -> None:
        extraction.extract(split, features, [FEATURES], batch_size=32)

    def not_ahead() -> None:
        with patch.object(extraction, "ReadAhead", NotAhead):
            ahead()

    return {
        "the network alone": alone,
        "debiasctl, reading ahead": ahead,
        "debiasctl, not reading ahead": not_ahead,
        "clean-fid": cleanfids(folder, features, device),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, choices=sorted(GENERATED), default=256)
    parser.add_argument("--num", type=int, default=128, help="images a round, in whole batches of 32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as temporary:
        folder = generate(Path(temporary) / "images", options.size, num=options.num)
        data = create("datasets", PluginRef("image-files", {"path": str(folder)})).load(DataLocation(None, Path()))
        path = Path(temporary) / "network.pt"
        torch.jit.script(Network().eval()).save(str(path))
        features = PreparedInception(path, sha256="of none", resize="clean", device=device)
        ways = contenders(folder, data.train, features, device)
        for way in ways.values():
            way()
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                begun = time.perf_counter()
                way()
                seconds[name].append(time.perf_counter() - begun)
    print(f"{options.num} JPEGs of {options.size}x{options.size} on {device}, {torch.get_num_threads()} threads\n")
    print("| | images/s | ratio to the network alone [least, most] |\n| --- | --- | --- |")
    for name, taken in seconds.items():
        ratios = sorted(base / own for base, own in zip(seconds["the network alone"], taken, strict=True))
        rate = options.num / median(taken)
        print(f"| {name} | {rate:.1f} | {median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}] |")


if __name__ == "__main__":
    main()
