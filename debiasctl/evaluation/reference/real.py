"""The features and statistics of real images, which are read once and cached in the user's folder."""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, PreparedFeatures, Split, spread_indices
from debiasctl.compute import processes
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.extraction import BATCH_SIZE, FEATURES, HASHES, LOGITS, PIXELS, SPATIAL, Rows, extract
from debiasctl.evaluation.metrics.distances import covariance_root, gaussian_moments, kernel_self_mean
from debiasctl.evaluation.metrics.neighbours import nearest_distances
from debiasctl.evaluation.reference.reference import FixedReference, Reference
from debiasctl.files import atomic_file, content_key
from debiasctl.reading.arrays import UNREADABLE, open_npz

_LOG = logging.getLogger(__name__)
VERSION = 3
MAX_IMAGES = 50_000
_MOST_FRESH = 10_000
Arrays = Mapping[str, Tensor]


@dataclass(frozen=True)
class RealRows:
    """The extracted parts of training and held-out images; empty if there are no such images."""

    train: Rows
    heldout: Rows


class RealImages:
    """Up to `max_images` training and as many held-out images of `data`, evenly spread, with their extracted parts.

    The parts are cached in `cache_dir/references`; a damaged file there is made again, with a warning.
    """

    def __init__(
        self,
        data: LoadedDataset,
        features: PreparedFeatures,
        *,
        cache_dir: Path,
        max_images: int = MAX_IMAGES,
        batch_size: int = BATCH_SIZE,
        on_progress: Callable[[float, int], None] | None = None,
    ) -> None:
        self.data, self.features = data, features
        self._folder, self._max_images, self._batch_size = cache_dir / "references", max_images, batch_size
        self._on_progress = on_progress

    def rows(self, parts: Collection[str], *, shared: bool = False) -> RealRows:
        """Return `parts` of the images, extracting those not cached; class probabilities of held-out images only.

        If the work is `shared`, every process of a group calls this, and the first one gets the rows.

        Raises:
            EvaluationError: if there are fewer than 2 training images, or `extract` raises it.
        """
        if isinstance(self.data, FixedReference):
            return RealRows({}, {})
        if len(self.data.train) < 2:
            raise EvaluationError(
                f"a reference needs at least 2 training images; this data set has {len(self.data.train)}"
            )
        of_train = [part for part in parts if part != LOGITS]
        return RealRows(
            self._of_split("train", self.data.train, of_train, shared=shared),
            self._of_split("heldout", self.data.heldout, parts, shared=shared),
        )

    def reference(self, rows: RealRows) -> Reference:
        """The training images' features, with their mean, covariance and its root."""
        if isinstance(self.data, FixedReference):
            return self.data.of(self.features)
        return self._statistics(rows, FEATURES)

    def spatial(self, rows: RealRows) -> Reference | None:
        """The training images' spatial features with the same statistics, if they were extracted."""
        if isinstance(self.data, FixedReference):
            return self.data.spatial
        return self._statistics(rows, SPATIAL) if SPATIAL in rows.train else None

    def _statistics(self, rows: RealRows, part: str) -> Reference:
        features = rows.train[part]

        def make() -> Arrays:
            mean, covariance = gaussian_moments(features)
            return {"mean": mean, "covariance": covariance, "root": covariance_root(covariance)}

        found = self._kept({"statistics of": part}, ["mean", "covariance", "root"], make)
        return Reference(found["mean"], found["covariance"], found["root"], features)

    def kernel_self(self, rows: RealRows) -> float:
        """Compute the mean kernel between different training images, by class if they have classes."""
        classes = self.labels("train")

        def make() -> Arrays:
            return {"mean": torch.tensor(kernel_self_mean(rows.train[FEATURES], classes), dtype=torch.float64)}

        what = {"kernel": "self"} if classes is None else {"kernel": "self, by class"}
        return float(self._kept(what, ["mean"], make)["mean"])

    def labels(self, name: str) -> Tensor | None:
        """The labels of the images whose parts `rows` gives of the split "train" or "heldout"; None without classes."""
        split = {"train": self.data.train, "heldout": self.data.heldout}[name]
        return split.labels(spread_indices(len(split), self._max_images)) if len(split) else None

    def fresh_distances(self, rows: RealRows) -> Tensor:
        """Compute the distances [M] of up to 10,000 held-out images to their nearest training images."""
        heldout = rows.heldout[FEATURES]

        def make() -> Arrays:
            some = heldout[spread_indices(len(heldout), _MOST_FRESH)]
            return {"distances": nearest_distances(some, rows.train[FEATURES])}

        return self._kept({"distances of": "heldout", "images": len(heldout)}, ["distances"], make)["distances"]

    def _of_split(self, name: str, split: Split, parts: Collection[str], *, shared: bool) -> Rows:
        paths = {part: self._path({"split": name, "rows": part}, part=part) for part in parts}
        is_first = not shared or processes.rank() == 0
        read = {part: _read(path, ["rows"]) for part, path in paths.items()} if is_first else {}
        known = {part: arrays["rows"] for part, arrays in read.items() if arrays is not None}
        missing = [part for part in parts if part not in known]
        missing = processes.agreed(missing) if shared else missing
        if not missing or not len(split):
            return known
        indices = spread_indices(len(split), self._max_images)
        if is_first:
            _LOG.info("measuring the real images (%s), once: %d of %d", name, len(indices), len(split))
        found = extract(
            split,
            self.features,
            missing,
            indices=indices,
            batch_size=self._batch_size,
            shared=shared,
            on_progress=self._on_progress,
        )
        if found is None:
            return {}
        _, rows = found
        for part, tensor in rows.items():
            _write(paths[part], {"rows": tensor})
        return known | rows

    def _kept(self, what: Mapping[str, Any], names: Collection[str], make: Callable[[], Arrays]) -> Arrays:
        path = self._path(what)
        arrays = _read(path, names)
        if arrays is None:
            arrays = make()
            _write(path, arrays)
        return arrays

    def _path(self, what: Mapping[str, Any], *, part: str | None = None) -> Path:
        key = {
            "dataset": self.data.lasting_hash,
            "splits": {"train": len(self.data.train), "heldout": len(self.data.heldout)},
            "max_images": self._max_images,
            "features": None if part in (PIXELS, HASHES) else self.features.identity,
            "version": VERSION,
        }
        return self._folder / f"{content_key(key | dict(what))}.npz"


def _write(path: Path, arrays: Arrays) -> None:
    with atomic_file(path) as stream:
        numpy: dict[str, Any] = {name: tensor.numpy() for name, tensor in arrays.items()}
        np.savez(stream, **numpy)


def _read(path: Path, names: Collection[str]) -> Arrays | None:
    if not path.exists():
        return None
    try:
        with open_npz(path) as archive:  # each member's CRC-32 is checked as it is read
            return {name: torch.from_numpy(archive.read(name)) for name in names}
    except UNREADABLE as error:
        _LOG.warning("%s, a cached file of real images' statistics, is damaged (%s); making it again", path, error)
        return None
