"""Populations of spoilt CIFAR-10 images with their features, for benchmarks/coverage_real.py; made once and cached."""

import hashlib
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import ArraySplit, DatasetInfo, Features, LoadedDataset, PreparedFeatures
from debiasctl.evaluation.extraction import FEATURES, PIXELS, extract

VERSION = 2
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIZE = 4000  # images of a population
OUTLIERS = 0.07
COPIES = 0.05
_TRAIN = 1000  # reference images of each class
_OPTIONS = {"local": {"min_accuracy": 0.0}, "local-ssl": {"min_accuracy": 0.0}}


@dataclass(frozen=True)
class Images:
    """Reference images with labels, held-out ones, and each population's images with labels, all uint8 [N, C, H, W].

    The i-th images of all populations but `uneven` are made from the same real image.
    """

    train: Tensor
    train_labels: Tensor
    heldout: Tensor
    populations: dict[str, tuple[Tensor, Tensor]]


def load(source: Path) -> Images:
    """Read CIFAR-10 as JPEG files (train/CLASS/*.jpg, test/CLASS/*.jpg) from a folder or a tar archive of it."""
    if source.is_file():
        with tempfile.TemporaryDirectory() as folder, tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
            return load(Path(folder))
    train, train_labels = _read(source / "train", slice(0, _TRAIN))
    base, labels = _read(source / "test", slice(0, SIZE // 10))
    more, more_labels = _read(source / "test", slice(SIZE // 10, 1000))  # held out, and those that are drawn unevenly
    order = torch.randperm(len(more), generator=torch.Generator().manual_seed(3))
    heldout, rest = order[:SIZE], order[SIZE:]
    uneven = _unevenly(more_labels[rest], torch.Generator().manual_seed(4))
    return Images(
        train,
        train_labels,
        more[heldout],
        {
            "fresh": (base, labels),
            "slight cast": (_cast(base, 2), labels),
            "blur and cast": (_cast(_blurred(base, 0.6), 8), labels),
            "outliers": (_with_outliers(base), labels),
            "uneven classes": (more[rest][uneven], more_labels[rest][uneven]),
            "copies": (_with_copies(base, train), labels),
        },
    )


def _read(folder: Path, which: slice) -> tuple[Tensor, Tensor]:
    from PIL import Image

    images, labels = [], []
    for label, name in enumerate(CLASSES):
        for path in sorted((folder / name).glob("*.jpg"))[which]:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)


def _cast(images: Tensor, levels: float) -> Tensor:
    """With more red."""
    shift = torch.tensor([levels, 0.0, 0.0])[:, None, None]
    return (images.float() + shift).round().clamp(0, 255).to(torch.uint8)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    at = torch.arange(-3.0, 4.0)
    kernel = (-(at**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, 7)
    padded = torch.nn.functional.pad(images.float(), (3, 3, 3, 3), mode="reflect")
    across = torch.nn.functional.conv2d(padded, kernel, groups=3)
    return torch.nn.functional.conv2d(across, kernel.mT, groups=3).round().clamp(0, 255).to(torch.uint8)


def _with_outliers(images: Tensor) -> Tensor:
    """With some replaced by noise, flat white, or inverted and saturated images."""
    generator, found = torch.Generator().manual_seed(1), images.clone()
    chosen = torch.randperm(len(images), generator=generator)[: round(OUTLIERS * len(images))]
    noise, white, inverted = chosen[0::3], chosen[1::3], chosen[2::3]
    found[noise] = torch.randint(0, 256, found[noise].shape, generator=generator, dtype=torch.uint8)
    found[white] = 250
    found[inverted] = torch.where(images[inverted] < 128, 255, 0).to(torch.uint8)
    return found


def _unevenly(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of SIZE images, of which the first classes are up to four times as many as the last; some come twice."""
    weights = torch.linspace(4, 1, 10)[labels].double()
    return torch.multinomial(weights, SIZE, replacement=True, generator=generator)


def _with_copies(images: Tensor, train: Tensor) -> Tensor:
    """With some replaced by reference images."""
    generator, found = torch.Generator().manual_seed(2), images.clone()
    chosen = torch.randperm(len(images), generator=generator)[: round(COPIES * len(images))]
    found[chosen] = train[torch.randperm(len(train), generator=generator)[: len(chosen)]]
    return found


def prepared(source: Path, features: str, cache: Path) -> dict[str, dict[str, Tensor]]:
    """The rows of `train`, `heldout` and each population in these features: features, pixel statistics and labels."""
    path = cache / f"populations-{features}-{VERSION}.pt"
    if path.is_file():
        found: dict[str, dict[str, Tensor]] = torch.load(path)
        return found
    images = load(source)
    splits = {
        "train": (images.train, images.train_labels),
        "heldout": (images.heldout, torch.zeros(len(images.heldout), dtype=torch.int64)),
        **images.populations,
    }
    extractor = _extractor(images, features, cache)
    rows = {}
    for name, (array, labels) in splits.items():
        extracted = extract(ArraySplit(array), extractor, [FEATURES, PIXELS])
        assert extracted is not None, "a single process"
        rows[name] = {part: tensor.double() for part, tensor in extracted[1].items()} | {"labels": labels}
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(rows, path)
    return rows


def _extractor(images: Images, features: str, cache: Path) -> PreparedFeatures:
    info = DatasetInfo(32, 3, CLASSES, len(images.train), len(images.heldout))
    digest = hashlib.sha256(images.train.numpy().tobytes()).hexdigest()
    train = ArraySplit(images.train, images.train_labels)
    data = LoadedDataset(info, train, ArraySplit(images.heldout, torch.zeros(len(images.heldout)).long()), digest)
    plugin = registry.create("features", registry.as_ref(features)).__class__
    assert issubclass(plugin, Features), "the registry checks a plugin's base"
    extractor = plugin(plugin.Options(**_OPTIONS.get(features, {})))
    return extractor.prepare(data, cache_dir=cache, device=torch.device("cpu"))
