"""Whether reading images keeps up with training on them: python benchmarks/data.py [FOLDER OF 32x32 IMAGES].

Decoding alone, by 1 and 2 threads; forward and backward pass of the default `unet` alone; and both together: the share
of a step that is spent waiting for its images, read ahead and not. Without a folder, images are generated.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch
from PIL import Image
from torch import Tensor, nn

from debiasctl.api import DataLocation, ImageShape
from debiasctl.builtin.datasets._support import decoded_images, image_reading
from debiasctl.builtin.datasets._support.image_reading import DecodingSplit
from debiasctl.registry.entry_points import create
from debiasctl.registry.refs import PluginRef
from debiasctl.training.batches import AHEAD, BatchSource

GENERATED = {32: 2000, 256: 300}  # images by size
BATCH = {32: 32, 256: 1}
STEPS = {32: 12, 256: 1}
DECODED = {32: 4000, 256: 600}  # images for a rate


def generate(folder: Path, size: int, *, num: int | None = None) -> Path:
    """JPEGs of about the detail of photographs: smooth noise of several scales."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(num or GENERATED[size]):
        pixels = torch.zeros(3, size, size)
        for scale in (4, 8, 16, 32):
            noise = torch.randn(1, 3, scale, scale, generator=generator)
            pixels += nn.functional.interpolate(noise, (size, size), mode="bicubic")[0] * 60 / scale**0.5
        levels = (pixels + 128).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(levels).save(folder / f"{number:05}.jpg", quality=90)
    return folder


def open_split(path: Path, cache: Path, size: int) -> DecodingSplit:
    options = {"path": str(path), "image_size": size, "mode": "rgb"}
    with patch.object(decoded_images, "MAX_DECODED_BYTES", 0):
        split = create("datasets", PluginRef("folder", options)).load(DataLocation(None, cache)).train
    assert isinstance(split, DecodingSplit)
    return split


def decoding_rate(split: DecodingSplit, num_threads: int, num: int) -> float:
    """Images per second, in batches of 128."""
    with patch.object(image_reading, "num_cores", lambda at_most: num_threads):
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0)).repeat(-(-num // len(split)))
        begun = time.perf_counter()
        for indices in order[:num].split(128):
            split.images(indices)
        return num / (time.perf_counter() - begun)


def pass_over(network: nn.Module, x0: Tensor) -> None:
    """Forward and backward pass."""
    noise_level = torch.full((len(x0),), 500.0)
    network.zero_grad()
    network(x0, noise_level).square().mean().backward()


def network_rate(network: nn.Module, x0: Tensor, steps: int) -> float:
    """Images per second when nothing has to be read."""
    times = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        pass_over(network, x0)
        times.append(time.perf_counter() - begun)
    return len(x0) / median(times[1:])


def waiting(
    network: nn.Module, split: DecodingSplit, *, batch_size: int, ahead: int, steps: int
) -> tuple[float, float]:
    """Share of the time that is spent waiting for images, after the first step; and images per second."""
    device = torch.device("cpu")
    settings = {"seed": 0, "horizontal_flip": True, "conditional": False, "device": device, "ahead": ahead}
    waited = 0.0
    with BatchSource(split, batch_size=batch_size, **settings) as batches:
        pass_over(network, batches(0).x0)
        begun = time.perf_counter()
        for step in range(1, steps + 1):
            asked = time.perf_counter()
            x0 = batches(step).x0
            waited += time.perf_counter() - asked
            pass_over(network, x0)
        whole = time.perf_counter() - begun
    return waited / whole, steps * batch_size / whole


def measure(name: str, split: DecodingSplit, size: int) -> None:
    rates = [decoding_rate(split, num_threads, DECODED[size]) for num_threads in (1, 2)]
    backbone = create("backbones", PluginRef("unet", {}))
    network = backbone.build(ImageShape(size, 3, 3), 0)
    parameters = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    x0 = torch.randn(BATCH[size], 3, size, size)
    alone = network_rate(network, x0, STEPS[size])
    print(
        f"{name}: decoding {rates[0]:.0f} images/s by 1 thread, {rates[1]:.0f} by 2; unet of {parameters:.0f}M "
        f"{alone:.2f} images/s forward and backward by {torch.get_num_threads()} threads: "
        f"{rates[0] / alone:.0f} and {rates[1] / alone:.0f} times that",
        flush=True,
    )
    for ahead in (0, AHEAD):
        share, rate = waiting(network, split, batch_size=BATCH[size], ahead=ahead, steps=STEPS[size])
        print(f"  {ahead} batches read ahead: {share:.2%} of the time waiting, {rate:.2f} images/s", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        small = Path(sys.argv[1]) if len(sys.argv) > 1 else generate(root / "32", 32)
        measure("32x32", open_split(small, root / "cache", 32), 32)
        measure("256x256", open_split(generate(root / "256", 256), root / "cache", 256), 256)


if __name__ == "__main__":
    main()
