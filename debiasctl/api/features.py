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
    """What the metrics in an extractor's features are called; `features` is the extractor's own name.

    They are the Fréchet distance, the kernel distance, the score by class probabilities, and the Fréchet distance of
    spatial features.
    """

    features: str
    frechet: str
    kernel: str
    score: str
    spatial: str

    @classmethod
    def of(cls, features: str) -> Self:
        """The names that follow from the extractor's own, as those of most do."""
        return cls(features, f"fd_{features}", f"kd_{features}", f"is_{features}", f"sfd_{features}")


class PreparedFeatures(ABC):
    """A frozen feature extractor.

    `identity` is a SHA-256 of all that decides its output, `dimension` that of a feature, `details` are for people.
    """

    offers: ClassVar[frozenset[Part]] = frozenset({"features"})  # with "logits" and "spatial" for more metrics

    def __init__(self, *, identity: str, dimension: int, details: Mapping[str, Any]) -> None:
        self.identity, self.dimension, self.details = identity, dimension, details

    @abstractmethod
    def __call__(self, images: "Tensor") -> "Tensor":
        """float64 [N, dimension] for uint8 [N, C, H, W]."""

    def logits(self, images: "Tensor") -> "Tensor":
        """float64 [N, K] of a classifier, for the inception score; where it `offers` them."""
        raise NotImplementedError

    def spatial(self, images: "Tensor") -> "Tensor":
        """float64 [N, D'] of an earlier layer, for sFID; where it `offers` them."""
        raise NotImplementedError

    def parts(self, images: "Tensor", names: Collection[Part]) -> Mapping[Part, "Tensor"]:
        """Several of what it `offers`, by name; one that has them from one pass overrides this."""
        methods: dict[Part, Callable[[Tensor], Tensor]] = {
            "features": self,
            "logits": self.logits,
            "spatial": self.spatial,
        }
        return {name: methods[name](images) for name in names}

    @property
    def any_size(self) -> bool:
        """Whether it takes images of any size, and not only of the data set's."""
        return False

    @property
    def verified(self) -> bool:
        """Whether its weights are seen to be the published ones, without which metrics bear no names of the field's."""
        return False


class Features(Plugin):
    """A way to extract features for evaluation."""

    weights_files: ClassVar[Sequence[WeightsFile]] = ()  # that it loads; `debiasctl doctor` looks at them

    @classmethod
    def metric_names(cls, name: str) -> MetricNames:
        """What the metrics in its features are called, where it is registered under `name`.

        Names of a field's own, such as "fid", need an extractor whose weights are `verified`.
        """
        return MetricNames.of(name)

    @abstractmethod
    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> PreparedFeatures:
        """Ready the extractor, from the cache where it is there. The images of `data` are uint8.

        Raises:
            EvaluationError: if it cannot be had.
        """

    @property
    def published_statistics(self) -> frozenset[str]:
        """Whose published statistics are of these very features: "clean-fid:clean" or "clean-fid:legacy_tensorflow"."""
        return frozenset()

    @property
    def labelled(self) -> bool:
        """Whether it needs a data set with classes."""
        return False

    @property
    def pretrained(self) -> bool:
        """Whether it needs no data set."""
        return False

    @property
    def any_size(self) -> bool:
        """Whether its extractor takes images of any size."""
        return False
