"""Features of a small classifier, trained on the data set's own training labels and then frozen."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from debiasctl.api import EvaluationError, Features, LoadedDataset, PluginOptions, UsageError, content_key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from debiasctl.builtin.features._support.classifier import PreparedLocal

_LOG = logging.getLogger(__name__)


class Local(Features):
    """Penultimate activations of a small classifier trained on the data set's own labels: fd_local, kd_local.

    It is trained once, always on the CPU in one thread, so that its weights depend on as little as possible, and is
    cached with its checksum. Its features are computed in float64 and scaled by one factor so that their mean variance
    over the training images is 1. Figures are comparable only between equal identities, and are not FIDs. A classifier
    with a low accuracy on held-out images is refused, because distances in its features would say little.
    """

    labelled = True
    name: ClassVar[str] = "local"
    otherwise: ClassVar[str] = "`features=local-ssl` or pixels"

    class Options(PluginOptions):
        """The options of the local classifier."""

        dimension: int = Field(32, ge=2, le=2048, description="number of features; use several times more images")
        steps: PositiveInt | None = Field(
            None,
            description="training steps of 64 images; by default 20 epochs, but from 300 to 1500 steps",
        )
        resolution: int = Field(32, ge=4, le=256, description="larger images are averaged down to this many pixels")
        seed: int = Field(0, ge=0, lt=2**63, description="seed of initialisation and batches")
        min_accuracy: float | None = Field(
            None,
            ge=0,
            le=1,
            description="held-out accuracy below which it is refused; by default halfway between always predicting the "
            "most common class and 1",
        )

    options: Options

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> "PreparedLocal":
        """Prepare the trained extractor, from `cache_dir/features` if it is cached.

        Raises:
            UsageError: if the data set has no classes, or only one.
            EvaluationError: if the classifier's held-out accuracy is below `min_accuracy`.
        """
        from debiasctl.builtin.features._support.cache import cached_tensors
        from debiasctl.builtin.features._support.classifier import VERSION, PreparedLocal, chance, made_classifier

        options = self.options.model_dump(exclude={"min_accuracy"})  # which does not change the features
        key = content_key({"dataset": data.content_hash, "options": options, "version": VERSION})
        task = self.task(data)

        def make() -> "tuple[dict[str, Tensor], dict[str, Any]]":
            _LOG.info("training the classifier whose features are '%s', on %d images", self.name, len(data.train))
            state, accuracy = made_classifier(data, task, **options)
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

        tensors, manifest = cached_tensors(cache_dir / "features" / self.name / key, make)
        self._check_accuracy(manifest["heldout_accuracy"], chance=chance(task.train, len(task.info.classes)))
        return PreparedLocal(tensors, manifest=manifest, device=device)

    def task(self, data: LoadedDataset) -> LoadedDataset:
        """The data set that the classifier learns, with its own classes.

        Raises:
            UsageError: if the data set has no classes, or only one.
        """
        if len(data.info.classes) < 2:
            raise UsageError(
                f"features '{self.name}' need a data set with at least 2 classes, and this one has "
                f"{len(data.info.classes) or 'none'}. Use {self.otherwise}"
            )
        return data

    def _check_accuracy(self, accuracy: float | None, *, chance: float) -> None:
        """Check the classifier's accuracy on held-out images.

        Raises:
            EvaluationError: if it is too low.
        """
        needed = (1 + chance) / 2 if self.options.min_accuracy is None else self.options.min_accuracy
        if accuracy is not None and accuracy < needed:
            raise EvaluationError(
                f"features '{self.name}': the classifier trained for them is right on {accuracy:.1%} of the held-out "
                f"images (always the most common class: {chance:.1%}; needed: {needed:.1%}), so distances in its "
                f"features would say little.\nUse {self.otherwise}; or train it longer, {self.name}:steps=...; or "
                f"accept a lower accuracy, {self.name}:min_accuracy={accuracy:.2f}"
            )
