"""The small classifier of the features 'local': its training, and its penultimate layer as an extractor."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from debiasctl.api import LoadedDataset, Pace, PreparedFeatures, Split, spread_indices
from debiasctl.builtin.features._support.preprocessing import model_space

_LOG = logging.getLogger(__name__)
VERSION = 1  # of the network and its training: part of the cache's key and of the identity
BATCH = 64
_CHUNK = 500


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
        """Compute features, float64 [N, dimension] on the CPU, for images, uint8 [N, C, H, W]."""
        with torch.no_grad():
            chunks = [self._features(chunk.to(self._device)) for chunk in torch.split(images, _CHUNK)]
        return torch.cat(chunks).cpu()

    def notes(self) -> list[str]:
        """How well the classifier recognises the held-out images."""
        accuracy = self.details["heldout_accuracy"]
        if accuracy is None:
            return ["no images are held out, so their classifier's accuracy is unknown"]
        return [f"their classifier is right on {accuracy:.1%} of the held-out images"]

    def _features(self, images: Tensor) -> Tensor:
        x = model_space(images, resolution=self._resolution, dtype=torch.float64)
        return self._network.features(x) * self._scale


class Classifier(nn.Module):
    """Four 3x3 convolutions, three of them strided, to a 2x2 grid, then `dimension` features and the classes."""

    def __init__(self, channels: int, dimension: int, *, num_classes: int) -> None:
        super().__init__()
        widths = (channels, 16, 32, 64, 64)
        with torch.device("meta"):  # draws nothing from torch's global generator; train_classifier fills in the weights
            self.convolutions = nn.ModuleList(
                nn.Conv2d(inner, outer, 3, stride=1 if position == 0 else 2, padding=1)
                for position, (inner, outer) in enumerate(pairwise(widths))
            )
            self.norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[1:])
            self.hidden = nn.Linear(4 * widths[-1], dimension)
            self.classes = nn.Linear(dimension, num_classes)
        self.to_empty(device="cpu")

    def features(self, x: Tensor) -> Tensor:
        """Compute features [N, dimension] for x [N, C, H, W] in [-1, 1]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.silu(norm(convolution(x)))
        return F.silu(self.hidden(F.adaptive_avg_pool2d(x, 2).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes]."""
        logits: Tensor = self.classes(self.features(x))
        return logits


OnStep = Callable[[Classifier, int], None]  # the network, and the number of steps made


def made_classifier(
    data: LoadedDataset,
    task: LoadedDataset,
    *,
    dimension: int,
    steps: int,
    resolution: int,
    seed: int,
    on_step: OnStep = lambda network, step: None,
) -> tuple[dict[str, Tensor], float | None]:
    """Train on `task`; return the tensors for `PreparedLocal`, scaled on `data`, and the held-out accuracy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            network = train_classifier(
                task, dimension=dimension, steps=steps, resolution=resolution, seed=seed, on_step=on_step
            )
        accuracy = heldout_accuracy(network, task.heldout, resolution=resolution)
        scale = _scale(network, data.train, resolution=resolution)
    finally:
        torch.set_num_threads(threads)
    return {name: tensor.detach() for name, tensor in network.state_dict().items()} | {"scale": scale}, accuracy


def train_classifier(
    data: LoadedDataset,
    *,
    dimension: int,
    steps: int,
    resolution: int,
    seed: int,
    on_step: OnStep = lambda network, step: None,
) -> Classifier:
    """Train on `data.train` with AdamW and a one-cycle learning rate; all draws come from separate generators."""
    generator = torch.Generator().manual_seed(seed)
    network = Classifier(data.info.channels, dimension, num_classes=len(data.info.classes))
    for name, parameter in network.named_parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter, generator=generator)
        else:
            nn.init.constant_(parameter, 1.0 if name.startswith("norms") and name.endswith("weight") else 0.0)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=0.01)
    order = torch.zeros(0, dtype=torch.int64)
    pace = Pace()
    for step in range(steps):
        if pace.due():
            _LOG.info("training the classifier: step %d of %d", step, steps)
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(data.train), generator=generator)])
        indices, order = order[:BATCH], order[BATCH:]
        done = step / steps
        optimizer.param_groups[0]["lr"] = 4e-3 * min(done / 0.2, (1 - done) / 0.8) + 1e-5
        x = model_space(data.train.images(indices), resolution=resolution, dtype=torch.float32)
        loss = F.cross_entropy(network(x), _labels(data.train, indices))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        on_step(network, step + 1)
    return network.eval()


@torch.no_grad()
def heldout_accuracy(network: Classifier, split: Split, *, resolution: int) -> float | None:
    """The fraction of a split's images that the network classifies correctly; None for an empty split."""
    if not len(split):
        return None
    right = 0
    for indices in torch.split(torch.arange(len(split)), _CHUNK):
        x = model_space(split.images(indices), resolution=resolution, dtype=torch.float32)
        right += int((network(x).argmax(dim=1) == _labels(split, indices)).sum())
    return right / len(split)


def chance(split: Split, num_classes: int) -> float:
    """The accuracy of always predicting the most common class of a split."""
    counts = torch.bincount(_labels(split, torch.arange(len(split))), minlength=num_classes)
    return counts.max().item() / len(split)


@torch.no_grad()
def _scale(network: Classifier, split: Split, *, resolution: int) -> Tensor:
    """The factor that scales the features' mean variance, over up to 2,000 evenly spread images, to 1."""
    images = split.images(spread_indices(len(split), 2000))
    features = network.features(model_space(images, resolution=resolution, dtype=torch.float32)).to(torch.float64)
    variance = features.var(dim=0, correction=0).mean()
    return variance.clamp(min=torch.finfo(torch.float64).tiny).rsqrt()


def _labels(split: Split, indices: Tensor) -> Tensor:
    labels = split.labels(indices)
    assert labels is not None, "a data set with classes has labels"
    return labels
