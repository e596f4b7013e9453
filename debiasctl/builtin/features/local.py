"""Features of a small classifier, trained on the data set's own training labels and then frozen."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, PositiveInt

from debiasctl.api import Features, LoadedDataset, PluginOptions, UnsuitableDataError, UsageError, content_key

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from debiasctl.builtin.features._support.classifier import PreparedLocal
    from debiasctl.builtin.features._support.prospects import Stopped

_LOG = logging.getLogger(__name__)


class Local(Features):
    """Penultimate activations of a small classifier trained on the data set's own labels: fd_local, kd_local.

    It is trained once, always on the CPU in one thread, so that its weights depend on as little as possible, and is
    cached with its checksum. Its features are computed in float64 and scaled by one factor so that their mean variance
    over the training images is 1. Figures are comparable only between equal identities, and are not FIDs. A classifier
    with a low accuracy on held-out images is refused, because distances in its features would say little; its training
    stops as soon as that is clear.
    """

    labelled = True
    name: ClassVar[str] = "local"
    otherwise: ClassVar[str] = "`features=local-ssl` or pixels"
    passes: ClassVar[int] = 20  # over the images that it learns, if there are neither few nor many of them
    training_version: ClassVar[int] = 1  # of the task and the number of steps

    class Options(PluginOptions):
        """The options of the local classifier."""

        dimension: int = Field(32, ge=2, le=2048, description="number of features; use several times more images")
        steps: PositiveInt | None = Field(
            None,
            description="training steps of 64 images; by default 20 epochs (local-ssl: 2, of each image in four "
            "rotations), but from 300 to 1500 steps",
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
            UnsuitableDataError: if the classifier's held-out accuracy is below `min_accuracy`, or cannot be expected to
                reach it.
        """
        from debiasctl.builtin.features._support.cache import cached_tensors
        from debiasctl.builtin.features._support.classifier import BATCH, VERSION, PreparedLocal, chance
        from debiasctl.builtin.features._support.prospects import read_stopped

        options = self.options.model_dump(exclude={"min_accuracy"})  # which does not change the features
        version = VERSION if self.training_version == 1 else [VERSION, self.training_version]
        folder = cache_dir / "features" / self.name
        folder /= content_key({"dataset": data.lasting_hash, "options": options, "version": version})
        task = self.task(data)
        steps = self.options.steps or min(1500, max(300, self.passes * len(task.train) // BATCH))
        always = chance(task.train, len(task.info.classes))
        needed = (1 + always) / 2 if self.options.min_accuracy is None else self.options.min_accuracy

        def make() -> "tuple[dict[str, Tensor], dict[str, Any]]":
            stopped = read_stopped(folder)
            if stopped is not None and stopped.reachable < needed:
                raise self._stopped(stopped, chance=always, needed=needed)
            state, accuracy = self._trained(data, task, folder, steps=steps, chance=always, needed=needed)
            return state, {
                "version": VERSION,
                "options": options,
                "dataset_hash": data.lasting_hash,
                "channels": data.info.channels,
                "classes": list(task.info.classes),
                "num_train": len(data.train),
                "num_heldout": len(data.heldout),
                "heldout_accuracy": accuracy,
            }

        tensors, manifest = cached_tensors(folder, make)
        self._check_accuracy(manifest["heldout_accuracy"], chance=always, needed=needed)
        return PreparedLocal(tensors, manifest=manifest, device=device)

    def _trained(
        self, data: LoadedDataset, task: LoadedDataset, folder: Path, *, steps: int, chance: float, needed: float
    ) -> "tuple[dict[str, Tensor], float | None]":
        """Train the classifier, and stop when it is clear that it will be refused; `folder` then keeps that.

        Raises:
            UnsuitableDataError: if it was stopped.
        """
        from debiasctl.builtin.features._support.classifier import made_classifier
        from debiasctl.builtin.features._support.prospects import StoppedTraining, Watch, write_stopped

        _LOG.info(
            "training the classifier whose features are '%s', once: %d steps on %d images",
            self.name, steps, len(data.train),
        )  # fmt: skip
        options = self.options
        watch = Watch(task.heldout, needed=needed, steps=steps, resolution=options.resolution)
        try:
            return made_classifier(
                data,
                task,
                dimension=options.dimension,
                steps=steps,
                resolution=options.resolution,
                seed=options.seed,
                on_step=watch,
            )
        except StoppedTraining as stop:
            write_stopped(folder, stop.outcome)
            raise self._stopped(stop.outcome, chance=chance, needed=needed) from None

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

    def _check_accuracy(self, accuracy: float | None, *, chance: float, needed: float) -> None:
        """Check the classifier's accuracy on held-out images.

        Raises:
            UnsuitableDataError: if it is too low.
        """
        if accuracy is not None and accuracy < needed:
            raise UnsuitableDataError(
                f"features '{self.name}': the classifier trained for them is right on {accuracy:.1%} of the held-out "
                f"images (always the most common class: {chance:.1%}; needed: {needed:.1%}), so distances in its "
                f"features would say little.\n{self._ways_on()}; or accept a lower accuracy, "
                f"{self.name}:min_accuracy={_below(accuracy)}"
            )

    def _stopped(self, stopped: "Stopped", *, chance: float, needed: float) -> UnsuitableDataError:
        return UnsuitableDataError(
            f"features '{self.name}': after {stopped.step} of {stopped.steps} training steps their classifier is right "
            f"on {stopped.accuracy:.1%} of the held-out images (always the most common class: {chance:.1%}; needed: "
            f"{needed:.1%}), which it is not expected to reach, so distances in its features would say little.\n"
            f"{self._ways_on()}; or accept whatever it reaches, {self.name}:min_accuracy=0"
        )

    def _ways_on(self) -> str:
        return f"Use {self.otherwise}; or train it longer, {self.name}:steps=..."


def _below(accuracy: float) -> str:
    """An accuracy in whole percent that this one is not below."""
    return f"{int(accuracy * 100) / 100:.2f}"
