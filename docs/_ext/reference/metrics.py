"""Every metric of `debiasctl evaluate`: names and meanings from the catalogue, intervals from a measurement."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset, MetricNames, PreparedFeatures
from debiasctl.evaluation.measure import measure
from debiasctl.evaluation.metrics.catalogue import Metric, available_metrics, metric_names, pixel_names

from .markdown import code, table, text

FEATURES = "FEATURES"  # stands for an extractor's name
_NUM, _SIZE = 128, 8


def catalogue() -> dict[str, tuple[Metric, str]]:
    """Every metric by its name in FEATURES, with its name in Inception's features."""
    found: dict[str, tuple[Metric, str]] = {}
    for channels in (1, 3):
        info = DatasetInfo(_SIZE, channels, (), _NUM, _NUM)
        general = available_metrics(info, MetricNames.of(FEATURES))
        inception = available_metrics(info, metric_names("inception"))
        for (name, described), other in zip(general.items(), inception, strict=True):
            found.setdefault(name, (described, other))
    return found


def with_intervals() -> set[str]:
    """The metrics that have an interval, where there are images enough, found by measuring noise."""
    found: set[str] = set()
    for channels in (1, 3):
        with TemporaryDirectory() as folder:
            record = measure(
                _noise(channels, seed=2),
                _data(channels),
                _Means(identity="0" * 64, dimension=2, details={}),
                names=MetricNames.of(FEATURES),
                metrics=None,
                cache_dir=Path(folder),
            )
        assert not record.unavailable, record.unavailable
        found |= {name for name, figure in record.metrics.items() if figure.interval}
    return found


def page() -> str:
    """The body of the page."""
    known, intervals = catalogue(), with_intervals()
    pixels = {*pixel_names(1), *pixel_names(3)}
    parts = []
    for heading, in_pixels in (("In features", False), ("Of the pixels", True)):
        rows = [
            [_names(name, other), metric.better, "95 %" if name in intervals else "none", _meaning(metric)]
            for name, (metric, other) in known.items()
            if (name in pixels) == in_pixels
        ]
        parts += [f"## {heading}", table(["metric", "better", "interval", "meaning"], rows)]
    return "\n\n".join(parts)


def _names(name: str, other: str) -> str:
    return code(name) if other == name else f"{code(name)}; {code(other)} in `inception`"


def _meaning(metric: Metric) -> str:
    quoted = f"'{FEATURES}'"
    return f"{text(metric.description.replace(quoted, FEATURES))}. Needs {metric.needs}"


class _Means(PreparedFeatures):
    """An extractor with all that one can have, made of the means of an image's halves."""

    def __call__(self, images: Tensor) -> Tensor:
        top, bottom = images.to(torch.float64).chunk(2, dim=2)
        return torch.stack([top.mean(dim=(1, 2, 3)), bottom.mean(dim=(1, 2, 3))], dim=1)

    def logits(self, images: Tensor) -> Tensor:
        return self(images)

    def spatial(self, images: Tensor) -> Tensor:
        return self(images)


def _noise(channels: int, *, seed: int) -> ArraySplit:
    generator = torch.Generator().manual_seed(seed)
    shape = (_NUM, channels, _SIZE, _SIZE)
    return ArraySplit(torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))


def _data(channels: int) -> LoadedDataset:
    info = DatasetInfo(_SIZE, channels, (), _NUM, _NUM)
    return LoadedDataset(info, _noise(channels, seed=0), _noise(channels, seed=1), "0" * 64)
