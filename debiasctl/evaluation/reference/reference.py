"""What images are measured against in one feature space: statistics of real images, or of a file."""

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

    `root` is the covariance's symmetric root: whoever compares with one reference again and again needs it each time.
    Of statistics from a file there are no features.
    """

    mean: Tensor  # [D]
    covariance: Tensor  # [D, D]
    root: Tensor  # [D, D]
    features: Tensor | None  # [N, D]


@dataclass(frozen=True)
class FixedReference(LoadedDataset):
    """Stands for a data set of which only `statistics` are known, and maybe spatial ones; its splits are empty."""

    statistics: Reference
    spatial_moments: tuple[Tensor, Tensor] | None = None

    @cached_property
    def spatial(self) -> Reference | None:
        """The spatial statistics; their root takes long to find. Raises EvaluationError for what is no covariance."""
        return None if self.spatial_moments is None else _of_moments(*self.spatial_moments)

    def of(self, features: PreparedFeatures) -> Reference:
        """The statistics, for an extractor of their dimension; raises EvaluationError for another."""
        dimension = len(self.statistics.mean)
        if dimension != features.dimension:
            raise EvaluationError(
                f"the reference statistics have {dimension} dimensions and these features {features.dimension}: they "
                "are not of one extractor. Choose the one that the statistics were made with, by `features`"
            )
        return self.statistics


def fixed_reference(statistics: StatisticsFile, info: DatasetInfo) -> FixedReference:
    """What images of this kind are measured against where only means and covariances are known.

    Raises:
        EvaluationError: the matrix is no covariance.
    """
    empty = ArraySplit(torch.empty(0, info.channels, info.image_size, info.image_size, dtype=torch.uint8))
    try:
        known = _of_moments(statistics.mean, statistics.covariance)
    except EvaluationError as error:
        raise EvaluationError(f"{statistics.path}: sigma is no covariance: {error}") from error
    return FixedReference(info, empty, empty, statistics.sha256, known, statistics.spatial)


def _of_moments(mean: Tensor, covariance: Tensor) -> Reference:
    return Reference(mean, covariance, covariance_root(covariance), None)
