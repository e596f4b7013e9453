"""Feature extractors for evaluation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from debiasctl.api.datasets import LoadedDataset
from debiasctl.api.plugin import Plugin
from debiasctl.api.weights_file import WeightsFile

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Part = Literal["features", "logits", "spatial"]


@dataclass(frozen=True)
class MetricNames:
    """The names of the metrics in an extractor's features; `features` is the extractor's own name.

    The metrics are the Fréchet distance, the kernel distance, the score from class probabilities, and the Fréchet
    distance of spatial features.
    """

    features: str
    frechet: str
    kernel: str
    score: str
    spatial: str

    @classmethod
    def of(cls, features: str) -> Self:
        """The default names, which are derived from the extractor's own."""
        return cls(features, f"fd_{features}", f"kd_{features}", f"is_{features}", f"sfd_{features}")


@dataclass(frozen=True)
class PublishedStatistics:
    """Published reference statistics, by publisher and mode, and the options of the features that they were made with.

    Options left out of `options` do not matter.
    """

    publisher: str
    mode: str
    options: Mapping[str, Any]


class PreparedFeatures(ABC):
    """A frozen feature extractor.

    `identity` is a SHA-256 of everything that determines its output, `dimension` is the length of a feature vector,
    and `details` are for people to read. An extractor that overrides `logits` or `spatial` has more metrics.
    """

    def __init__(self, *, identity: str, dimension: int, details: Mapping[str, Any]) -> None:
        self.identity, self.dimension, self.details = identity, dimension, details

    @abstractmethod
    def __call__(self, images: "Tensor") -> "Tensor":
        """Compute features, float64 [N, dimension], for images, uint8 [N, C, H, W]."""

    def logits(self, images: "Tensor") -> "Tensor":
        """Compute a classifier's logits, float64 [N, K], for the inception score."""
        raise NotImplementedError("this extractor does not offer logits")

    def spatial(self, images: "Tensor") -> "Tensor":
        """Compute features of an earlier layer, float64 [N, D'], for sFID."""
        raise NotImplementedError("this extractor does not offer spatial features")

    def parts(self, images: "Tensor", names: Collection[Part]) -> Mapping[Part, "Tensor"]:
        """Compute several of the parts that it `offers`, by name; override this if one pass gives them all."""
        methods: dict[Part, Callable[[Tensor], Tensor]] = {
            "features": self,
            "logits": self.logits,
            "spatial": self.spatial,
        }
        return {name: methods[name](images) for name in names}

    @property
    def offers(self) -> frozenset[Part]:
        """The parts that it can compute, the features and those of `logits` and `spatial` that it overrides."""
        parts: set[Part] = {"features"}
        if type(self).logits is not PreparedFeatures.logits:
            parts.add("logits")
        if type(self).spatial is not PreparedFeatures.spatial:
            parts.add("spatial")
        return frozenset(parts)

    def notes(self) -> Sequence[str]:
        """Return what an evaluation should note about these features, such as how well they were trained."""
        return ()

    @property
    def verified(self) -> bool:
        """Whether its weights are verified to be the published ones, so that its metrics may have their usual names."""
        return False


class Features(Plugin):
    """A way to extract features for evaluation."""

    weights_files: ClassVar[Sequence[WeightsFile]] = ()  # the files that it loads; `debiasctl doctor` checks them
    weights_option: ClassVar[str | None] = None  # the option that names such a file, if the user may give one
    published_statistics: ClassVar[Sequence[PublishedStatistics]] = ()  # those made with exactly these features
    labelled: ClassVar[bool] = False  # whether it needs a data set with classes
    pretrained: ClassVar[bool] = False  # whether it needs no data set
    any_size: ClassVar[bool] = False  # whether its extractor accepts images of any size, not only of the data set's

    @classmethod
    def metric_names(cls, name: str) -> MetricNames:
        """The names of the metrics in its features; `name` is the one under which it is registered.

        Standard names, such as "fid", need an extractor whose weights are `verified`.
        """
        return MetricNames.of(name)

    @abstractmethod
    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> PreparedFeatures:
        """Prepare the extractor, from the cache if possible. The images of `data` are uint8.

        Raises:
            UnsuitableDataError: if it cannot be made well enough from this data; other features may suit them.
            EvaluationError: if the extractor is not available, for example because its weights are missing.
        """
