"""Feature extractors for evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from debiasctl.api.datasets import LoadedDataset

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class PreparedFeatures(Protocol):
    """A frozen feature extractor. `identity` is a SHA-256 of all that decides its output; `details` are for people.

    One may also have `any_size: bool`, true where it takes images of any size; `logits(images)`, float64 [N, K] of a
    classifier, for the inception score; and `spatial(images)`, float64 [N, D'] of an earlier layer, for sFID. With
    `parts(images, names)` it gives several of "features", "logits" and "spatial" by name, from one pass.
    """

    identity: str
    dimension: int
    details: Mapping[str, Any]

    def __call__(self, images: "Tensor") -> "Tensor":
        """float64 [N, dimension] for uint8 [N, C, H, W]."""
        ...


@runtime_checkable
class Features(Protocol):
    """Feature extractors for evaluation. `labelled`: needs a data set with classes.

    A class may also have `pretrained: bool`, true where it needs no data set; `any_size: bool`, as the extractor's; and
    `weights_files`, the files that it loads, which `debiasctl doctor` looks at.
    """

    labelled: bool

    def prepare(self, data: LoadedDataset, *, cache_dir: Path, device: "torch.device") -> PreparedFeatures:
        """Ready the extractor, from the cache where it is there; raises EvaluationError where it cannot be had."""
        ...
