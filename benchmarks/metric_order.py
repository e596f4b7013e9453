"""Which way every metric moves when real images are spoilt: noise, blur, lost classes, copies, a colour cast.

python benchmarks/metric_order.py [--num 300] [--folder IMAGES --size 32]

Real held-out images are measured as they are and spoilt at three strengths, always the same number of them. A second
table holds the default distances against more corruptions; with --folder it is made of the images in a folder alone.
"""

import argparse
import dataclasses
import hashlib
import tempfile
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import ArraySplit, DataLocation, DatasetInfo, LoadedDataset
from debiasctl.builtin.datasets.photo_patches import halved_photos
from debiasctl.data.load import load_dataset
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


def brightness(real: ArraySplit, num: int, strength: float) -> Tensor:
    """`strength` levels more in every channel."""
    return rounded(spread(real.array, num).float() + strength)


def salt(real: ArraySplit, num: int, strength: float) -> Tensor:
    """This share of the pixels black or white."""
    images = spread(real.array, num).clone()
    drawn = torch.rand(num, 1, *images.shape[2:], generator=torch.Generator().manual_seed(0)).expand_as(images)
    images[drawn < strength / 2], images[drawn > 1 - strength / 2] = 0, 255
    return images


def outliers(real: ArraySplit, num: int, strength: float) -> Tensor:
    """This share of the images replaced by noise of all levels."""
    images = spread(real.array, num).clone()
    chosen = torch.randperm(num, generator=torch.Generator().manual_seed(0))[: round(strength * num)]
    drawn = torch.randint(0, 256, images[chosen].shape, generator=torch.Generator().manual_seed(1))
    images[chosen] = drawn.to(torch.uint8)
    return images


def levels(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Only so many grey levels left."""
    steps = strength - 1
    return rounded((spread(real.array, num) / 255 * steps).round() * 255 / steps)


def contrast(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Levels drawn towards grey, to this share of their distance."""
    return rounded((spread(real.array, num).float() - 128) * strength + 128)


def modes(real: ArraySplit, num: int, strength: float) -> Tensor:
    """Without this share of the images, those brightest."""
    order = real.array.double().mean(dim=(1, 2, 3)).argsort()
    kept = order[: round((1 - strength) * len(order))].sort().values
    return spread(real.array[kept], num)


# strengths at which an eye sees the corruption; weaker ones drown in the chance of which images are held out
OF_DISTANCES: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "noise": (noise, (20, 40, 80)),
    "blur": (blur, (0.6, 1, 2)),
    "brightness": (brightness, (20, 40, 80)),
    "salt": (salt, (0.05, 0.2, 0.5)),
    "outliers": (outliers, (0.1, 0.3, 0.6)),
    "levels": (levels, (6, 3, 2)),
    "contrast": (contrast, (0.8, 0.5, 0.2)),
    "dropped modes": (modes, (0.2, 0.5, 0.8)),
    "copies": (copies, (3, 10, 30)),
}
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

DEFAULTS = {"digits": "local", "digits, without classes": "local-ssl", "photographs": "pixels"}


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
    return _halves(images, labels)


def dealt_of(data: LoadedDataset) -> LoadedDataset:
    """All images of a data set, dealt in the same way."""
    images = torch.cat([split.images(torch.arange(len(split))) for split in (data.train, data.heldout)])
    return _halves(images, torch.zeros(len(images), dtype=torch.int64))


def _halves(images: Tensor, labels: Tensor) -> LoadedDataset:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    known, fresh = (ArraySplit(images[half], labels[half]) for half in order.chunk(2))
    classes = tuple(map(str, labels.unique().tolist()))
    info = DatasetInfo(images.shape[-1], images.shape[1], classes, len(known), len(fresh))
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


def without_classes(data: LoadedDataset) -> LoadedDataset:
    info = dataclasses.replace(data.info, classes=())
    train, heldout = (ArraySplit(split.images(torch.arange(len(split)))) for split in (data.train, data.heldout))
    return dataclasses.replace(data, info=info, train=train, heldout=heldout)


def distances(
    data: LoadedDataset, features: str, *, num: int, cache_dir: Path, only: Collection[str] = ()
) -> dict[str, dict[str, list[float]]]:
    """Distance -> corruption (`only` these, or all) -> the values of unspoilt and of spoilt held-out images."""
    plugin = registry.create("features", features)
    prepared = plugin.prepare(data, cache_dir=cache_dir, device=torch.device("cpu"))
    assert isinstance(data.heldout, ArraySplit)
    names = plugin.metric_names(features.partition(":")[0])
    metrics = [names.frechet, names.kernel, "spectrum_distance"]
    run = partial(measure, data=data, features=prepared, names=names, metrics=metrics, cache_dir=cache_dir)

    def values(corruption: Corruption, strength: float) -> Mapping[str, Any]:
        return run(ArraySplit(corruption(data.heldout, num, strength))).metrics

    plain = values(unspoilt, 0)
    spoilt = {
        title: [plain, *(values(corruption, strength) for strength in strengths)]
        for title, (corruption, strengths) in OF_DISTANCES.items()
        if not only or title in only
    }
    return {name: {title: [one[name].value for one in found] for title, found in spoilt.items()} for name in metrics}


def folder_of(path: Path, size: int) -> LoadedDataset:
    """The images of a folder, without labels, at this size, dealt at random into known and fresh halves."""
    options = f"folder:path={path},image_size={size}"
    return without_classes(dealt_of(load_dataset(options, DataLocation(data_dir=None, cache_dir=Path("no-cache")))))


def print_distances(title: str, found: Mapping[str, Mapping[str, list[float]]]) -> None:
    print(f"| {title}: corruption | {' | '.join(f'`{name}`' for name in found)} |\n|{' --- |' * (len(found) + 1)}")
    for corruption, (_, strengths) in OF_DISTANCES.items():
        cells = [", ".join(f"{value:.3g}" for value in of_metric[corruption]) for of_metric in found.values()]
        print(
            f"| {corruption} (0, {', '.join(map(str, strengths))}) | {' | '.join(cells)} |".replace("(0, ", "(none, ")
        )
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num", type=int, default=300)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--size", type=int, default=32)
    options = parser.parse_args()
    if options.folder is not None:
        data = folder_of(options.folder, options.size)
        for features in ("local-ssl", "pixels"):
            with tempfile.TemporaryDirectory() as folder:
                print_distances(options.folder.name, distances(data, features, num=options.num, cache_dir=Path(folder)))
        return
    for name, features in DEFAULTS.items():
        data = dealt(name.partition(",")[0])
        data = data if features == "local" else without_classes(data)
        with tempfile.TemporaryDirectory() as folder:
            print_distances(name, distances(data, features, num=options.num, cache_dir=Path(folder)))
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
