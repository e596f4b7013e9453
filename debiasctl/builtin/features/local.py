"""Features of a small classifier that is trained on the data set's own training labels and then frozen."""

import hashlib
import json
import logging
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from debiasctl.api import (
    EvaluationError,
    Features,
    LoadedDataset,
    PluginOptions,
    PreparedFeatures,
    Split,
    UsageError,
    content_key,
    spread_indices,
)
from debiasctl.builtin.features._support.cache import cached_tensors
from debiasctl.builtin.features._support.preprocessing import model_space

VERSION = 1  # of the network and its training: part of the cache's key and of the identity
_LOG = logging.getLogger(__name__)
_BATCH = 64
_CHUNK = 500


class Local(Features):
    """Penultimate activations of a small classifier trained on the data set's own labels: fd_local, kd_local.

    It is trained once, on the CPU and in one thread whatever the device, so that its weights depend on as little as
    can be, and cached with its checksum. Its features are computed in float64 and scaled by one number so that their
    mean variance over the training images is 1. Figures compare only between equal identities, and are no FID. A
    classifier that does not know held-out images is refused: what it does not see, its distances do not measure.
    """

    labelled = True
    name: ClassVar[str] = "local"
    otherwise: ClassVar[str] = "`features=local-ssl` or pixels"

    class Options(PluginOptions):
        """Options of the local classifier."""

        dimension: int = Field(32, ge=2, le=2048, description="number of features; images should be several times more")
        steps: PositiveInt | None = Field(
            None,
            description=f"training steps of {_BATCH} images; by default 20 epochs, no less than 300, no more than 1500",
        )
        resolution: int = Field(32, ge=4, le=256, description="larger images are averaged down to this many pixels")
        seed: int = Field(0, ge=0, lt=2**63, description="seed of initialisation and batches")
        min_accuracy: float | None = Field(
            None,
            ge=0,
            le=1,
            description="held-out accuracy below which it is refused; by default half-way from always saying the most "
            "common class to 1",
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: torch.device) -> "PreparedLocal":
        """The trained extractor, from `cache_dir/features` where it is there.

        Raises:
            UsageError: the data set has no classes, or only one.
            EvaluationError: the classifier's held-out accuracy is below the one stated.
        """
        options = self.options.model_dump(exclude={"min_accuracy"})  # which decides nothing of the features
        key = content_key({"dataset": data.content_hash, "options": options, "version": VERSION})
        task = self.task(data)
        tensors, manifest = cached_tensors(
            cache_dir / "features" / self.name / key, lambda: self._make(data, task, options)
        )
        self._check_accuracy(manifest["heldout_accuracy"], chance=_chance(task.train, len(task.info.classes)))
        return PreparedLocal(tensors, manifest=manifest, device=device)

    def task(self, data: LoadedDataset) -> LoadedDataset:
        """What the classifier learns: the data set with its own classes.

        Raises:
            UsageError: the data set has no classes, or only one.
        """
        if len(data.info.classes) < 2:
            raise UsageError(
                f"features '{self.name}' need a data set with at least 2 classes, and this one has "
                f"{len(data.info.classes) or 'none'}. Use {self.otherwise}"
            )
        return data

    def _make(
        self, data: LoadedDataset, task: LoadedDataset, options: dict[str, Any]
    ) -> tuple[dict[str, Tensor], dict[str, Any]]:
        _LOG.info("training the classifier whose features are '%s', on %d images", self.name, len(data.train))
        resolution = self.options.resolution
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with torch.inference_mode(False), torch.enable_grad():
                network = train_classifier(task, self.options)
            accuracy = _accuracy(network, task.heldout, resolution=resolution)
            scale = _scale(network, data.train, resolution=resolution)
        finally:
            torch.set_num_threads(threads)
        state = {name: tensor.detach() for name, tensor in network.state_dict().items()} | {"scale": scale}
        return state, {
            "version": VERSION,
            "options": options,
            "dataset_hash": data.content_hash,
            "channels": data.info.channels,
            "classes": list(task.info.classes),
            "num_train": len(data.train),
            "num_heldout": len(data.heldout),
            "heldout_accuracy": accuracy,
        }

    def _check_accuracy(self, accuracy: float | None, *, chance: float) -> None:
        """Refuse a classifier that does not know images which it was not trained on."""
        needed = (1 + chance) / 2 if self.options.min_accuracy is None else self.options.min_accuracy
        if accuracy is not None and accuracy < needed:
            raise EvaluationError(
                f"features '{self.name}': the classifier that was trained for them is right on {accuracy:.1%} of the "
                f"held-out images (always the most common class: {chance:.1%}; needed: {needed:.1%}), so distances in "
                f"its features would say little.\nUse {self.otherwise}; or train it longer, {self.name}:steps=...; or "
                f"say that less will do, {self.name}:min_accuracy={accuracy:.2f}"
            )


class PreparedLocal(PreparedFeatures):
    """The frozen classifier up to its penultimate layer, in float64."""

    def __init__(self, tensors: Mapping[str, Tensor], *, manifest: Mapping[str, Any], device: torch.device) -> None:
        options = manifest["options"]
        self._resolution: int = options["resolution"]
        preprocessing = {"space": "x/127.5-1", "area": self._resolution, "dtype": "float64", "version": VERSION}
        text = json.dumps({"weights": manifest["sha256"], "preprocessing": preprocessing}, sort_keys=True)
        names = ("heldout_accuracy", "classes", "num_train", "num_heldout", "options")
        super().__init__(
            identity=hashlib.sha256(text.encode()).hexdigest(),
            dimension=options["dimension"],
            details={name: manifest[name] for name in names},
        )
        weights = dict(tensors)
        self._scale = weights.pop("scale").to(device)
        self._device = device
        self._network = Classifier(manifest["channels"], self.dimension, num_classes=len(manifest["classes"]))
        self._network.load_state_dict(weights)
        self._network.to(device=device, dtype=torch.float64).eval().requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """float64 [N, dimension] on the CPU, for uint8 [N, C, H, W]."""
        with torch.no_grad():
            chunks = [self._features(chunk.to(self._device)) for chunk in torch.split(images, _CHUNK)]
        return torch.cat(chunks).cpu()

    def _features(self, images: Tensor) -> Tensor:
        x = model_space(images, resolution=self._resolution, dtype=torch.float64)
        return self._network.features(x) * self._scale


class Classifier(nn.Module):
    """Four 3x3 convolutions, three of them strided, to a 2x2 grid, then `dimension` features and the classes."""

    def __init__(self, channels: int, dimension: int, *, num_classes: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, 64, 64)
        with torch.device("meta"):  # no draw from torch's own generator; train_classifier fills in the weights
            self.convolutions = nn.ModuleList(
                nn.Conv2d(inner, outer, 3, stride=1 if position == 0 else 2, padding=1)
                for position, (inner, outer) in enumerate(pairwise(widths))
            )
            self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[1:])
            self.hidden = nn.Linear(4 * widths[-1], dimension)
            self.classes = nn.Linear(dimension, num_classes)
        self.to_empty(device="cpu")

    def features(self, x: Tensor) -> Tensor:
        """[N, dimension] for x [N, C, H, W] in [-1, 1]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        return F.silu(self.hidden(F.adaptive_avg_pool2d(x, 2).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes]."""
        logits: Tensor = self.classes(self.features(x))
        return logits


def train_classifier(data: LoadedDataset, options: Local.Options) -> Classifier:
    """Train on `data.train` with AdamW and a one-cycle learning rate; every draw comes from a generator of its own."""
    generator = torch.Generator().manual_seed(options.seed)
    network = Classifier(data.info.channels, options.dimension, num_classes=len(data.info.classes))
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
        else:
            nn.init.constant_(parameter, 1.0 if name.startswith("norms") and name.endswith("weight") else 0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.01)
    order = torch.zeros(0, dtype=torch.int64)
    num_steps = options.steps or min(1500, max(300, 20 * len(data.train) // _BATCH))
    for step in range(num_steps):
        while len(order) < _BATCH:
            order = torch.cat([order, torch.randperm(len(data.train), generator=generator)])
        indices, order = order[:_BATCH], order[_BATCH:]
        done = step / num_steps
        optimizer.param_groups[0]["lr"] = 4e-3 * min(done / 0.2, (1 - done) / 0.8) + 1e-5
        x = model_space(data.train.images(indices), resolution=options.resolution, dtype=torch.float32)
        loss = F.cross_entropy(network(x), _labels(data.train, indices))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network.eval()


@torch.no_grad()
def _accuracy(network: Classifier, split: Split, *, resolution: int) -> float | None:
    """The fraction of a split's images that the network classifies rightly; None for an empty split."""
    if not len(split):
        return None
    right = 0
    for indices in torch.split(torch.arange(len(split)), _CHUNK):
        x = model_space(split.images(indices), resolution=resolution, dtype=torch.float32)
        right += int((network(x).argmax(dim=1) == _labels(split, indices)).sum())
    return right / len(split)


def _chance(split: Split, num_classes: int) -> float:
    """The accuracy of always saying the class that most of a split's images are of."""
    counts = torch.bincount(_labels(split, torch.arange(len(split))), minlength=num_classes)
    return counts.max().item() / len(split)


@torch.no_grad()
def _scale(network: Classifier, split: Split, *, resolution: int) -> Tensor:
    """The factor that brings the features' mean variance, over up to 2,000 images spread evenly, to 1."""
    images = split.images(spread_indices(len(split), 2000))
    features = network.features(model_space(images, resolution=resolution, dtype=torch.float32)).to(torch.float64)
    variance = features.var(dim=0, correction=0).mean()
    return variance.clamp(min=torch.finfo(torch.float64).tiny).rsqrt()


def _labels(split: Split, indices: Tensor) -> Tensor:
    labels = split.labels(indices)
    assert labels is not None, "a data set with classes has labels"
    return labels
