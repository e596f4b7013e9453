"""A reference in one feature space: the statistics of real images, or those in a file."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from debiasctl.api import ArraySplit, DatasetInfo, LoadedDataset, PreparedFeatures
from debiasctl.errors import EvaluationError
from debiasctl.evaluation.metrics.distances import covariance_root
from debiasctl.evaluation.reference.statistics_file import StatisticsFile


@dataclass(frozen=True)
class Reference:
    """N real images in a feature space, all float64 on the CPU.

    `root` is the covariance's symmetric root, which every comparison with the reference needs. Statistics from a file
    have no `features`.
    """

    mean: Tensor  # [D]
    covariance: Tensor  # [D, D]
    root: Tensor  # [D, D]
    features: Tensor | None  # [N, D]


@dataclass(frozen=True)
class FixedReference(LoadedDataset):
    """A data set of which only statistics are known, possibly with spatial ones; its splits are empty."""

    statistics: Reference
    spatial_moments: tuple[Tensor, Tensor] | None = None

    @cached_property
    def spatial(self) -> Reference | None:
        """The spatial statistics, whose root takes long to compute.

        Raises:
            EvaluationError: if the matrix is not a covariance.
        """
        return None if self.spatial_moments is None else _of_moments(*self.spatial_moments)

    def of(self, features: PreparedFeatures) -> Reference:
        """The statistics for an extractor.

        Raises:
            EvaluationError: if the extractor has another dimension than the statistics.
        """
        dimension = len(self.statistics.mean)
        if dimension != features.dimension:
            raise EvaluationError(
                f"the reference statistics have {dimension} dimensions, but these features have {features.dimension}: "
                "they come from different extractors. Choose the one that the statistics were made with (`features`)"
            )
        return self.statistics


def fixed_reference(statistics: StatisticsFile, info: DatasetInfo) -> FixedReference:
    """Make a reference from statistics alone, for images as described by `info`.

    Raises:
        EvaluationError: if the matrix is not a covariance.
    """
    empty = ArraySplit(torch.empty(0, info.channels, info.image_size, info.image_size, dtype=torch.uint8))
    try:
        known = _of_moments(statistics.mean, statistics.covariance)
    except EvaluationError as error:
        raise EvaluationError(f"{statistics.path}: sigma is not a covariance: {error}") from error
    return FixedReference(info, empty, empty, statistics.sha256, known, statistics.spatial)


def _of_moments(mean: Tensor, covariance: Tensor) -> Reference:
    return Reference(mean, covariance, covariance_root(covariance), None)
