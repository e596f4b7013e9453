"""Which way every metric moves when real images are spoilt: noise, blur, lost classes, copies, a colour cast.

python benchmarks/metric_order.py [--num 300]

Real held-out images are measured as they are and spoilt at three strengths, always the same number of them.
"""

import argparse
import hashlib
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import ArraySplit, DataLocation, DatasetInfo, LoadedDataset
from debiasctl.builtin.datasets.photo_patches import halved_photos
from debiasctl.evaluation.measure import measure

Corruption = Callable[[ArraySplit, int, float], Tensor]  # held-out images, how many, strength -> uint8 [N, C, H, W]


def spread(images: Tensor, num: int) -> Tensor:
    return images[torch.arange(num) * len(images) // num]


def rounded(images: Tensor) -> Tensor:
    return images.round().clamp(0, 255).to(torch.uint8)


def unspoilt(real: ArraySplit, num: int, strength: float) -> Tensor:
    return spread(real.array, num)


def noise(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Gaussian noise whose standard deviation is `strength` grey levels."""
    images = spread(real.array, num)
    return rounded(images + strength * torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))


def blur(real: ArraySplit, num: int, strength: float) -> Tensor:
    """A Gaussian of `strength` pixels."""
    images = spread(real.array, num).float()
    offsets = torch.arange(-3, 4)
    kernel = torch.exp(-(offsets**2) / (2 * strength**2))
    kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(images.shape[1], 1, 7, 7)
    padded = torch.nn.functional.pad(images, (3, 3, 3, 3), mode="replicate")
    return rounded(torch.nn.functional.conv2d(padded, kernel, groups=images.shape[1]))


def dropped_classes(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Without the first `strength` classes."""
    assert real.targets is not None
    return spread(real.array[real.targets >= strength], num)


def copies(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Every image `strength` times."""
    kept = spread(real.array, num // int(strength))
    return kept.repeat(int(strength) + 1, 1, 1, 1)[:num]


def cast(real: ArraySplit, num: int, strength: float) -> Tensor:
    """`strength` levels more in the first channel."""
    images = spread(real.array, num).float()
    images[:, 0] += strength
    return rounded(images)


CORRUPTIONS: dict[str, dict[str, tuple[Corruption, tuple[float, ...]]]] = {
    "digits": {
        "noise": (noise, (20, 50, 100)),
        "blur": (blur, (0.5, 0.8, 1.5)),
        "dropped classes": (dropped_classes, (1, 3, 5)),
        "copies": (copies, (3, 10, 30)),
    },
    "photographs": {
        "noise": (noise, (5, 15, 40)),
        "blur": (blur, (0.5, 1, 2)),
        "copies": (copies, (3, 10, 30)),
        "colour cast": (cast, (10, 20, 40)),
    },
}
FEATURES = {"digits": "local:steps=200", "photographs": "pixels"}


def dealt(name: str) -> LoadedDataset:
    """All of `digits`, or all 8x8 squares of the photographs, dealt at random into known and fresh halves."""
    if name == "digits":
        data = registry.create("datasets", name).load(DataLocation(data_dir=None, cache_dir=Path("no-cache")))
        splits = (data.train, data.heldout)
        images = torch.cat([split.images(torch.arange(len(split))) for split in splits])
        labels = torch.cat([split.labels(torch.arange(len(split))) for split in splits])
    else:
        squares = halved_photos().unfold(2, 8, 8).unfold(3, 8, 8)  # [2, 3, rows, columns, 8, 8]
        images = squares.permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
        labels = torch.arange(len(images)) // (len(images) // 2)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    known, fresh = (ArraySplit(images[half], labels[half]) for half in order.chunk(2))
    classes = tuple(map(str, labels.unique().tolist()))
    info = DatasetInfo(8, images.shape[1], classes, len(known), len(fresh))
    return LoadedDataset(info, known, fresh, hashlib.sha256(images[order].numpy().tobytes()).hexdigest())


def measured(name: str, *, num: int, cache_dir: Path) -> dict[str, dict[str, list[float]]]:
    """metric -> corruption -> the value of unspoilt images and those at three strengths; and `floor`."""
    data = dealt(name)
    plugin = registry.create("features", FEATURES[name])
    features = plugin.prepare(data, cache_dir=cache_dir, device=torch.device("cpu"))
    assert isinstance(data.heldout, ArraySplit)
    names = plugin.metric_names(FEATURES[name].partition(":")[0])
    run = partial(measure, data=data, features=features, names=names, metrics=None, cache_dir=cache_dir)

    def values(corruption: Corruption, strength: float) -> Mapping[str, Any]:
        return run(ArraySplit(corruption(data.heldout, num, strength))).metrics

    real = values(unspoilt, 0)
    plain = {metric: entry.value for metric, entry in real.items()}
    table: dict[str, dict[str, list[float]]] = {metric: {"floor": [entry.floor]} for metric, entry in real.items()}
    for title, (corruption, strengths) in CORRUPTIONS[name].items():
        spoilt = [values(corruption, strength) for strength in strengths]
        for metric in plain:
            table[metric][title] = [plain[metric], *(found[metric].value for found in spoilt)]
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=300)
    options = parser.parse_args()
    for name, corruptions in CORRUPTIONS.items():
        with tempfile.TemporaryDirectory() as folder:
            table = measured(name, num=options.num, cache_dir=Path(folder))
        heads = [f"{title} ({', '.join(map(str, strengths))})" for title, (_, strengths) in corruptions.items()]
        print(f"| {name}: metric | real | {' | '.join(heads)} |\n|{' --- |' * (len(heads) + 2)}")
        for metric, found in table.items():
            cells = [", ".join(f"{value:.3g}" for value in found[title][1:]) for title in corruptions]
            print(f"| `{metric}` | {found['floor'][0]:.3g} | {' | '.join(cells)} |")
        print()


if __name__ == "__main__":
    main()
