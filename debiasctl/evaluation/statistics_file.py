"""Reference statistics as files: written for others, and read in guided-diffusion's (ADM's) and EDM's form."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.errors import EvaluationError, UsageError
from debiasctl.files import atomic_file, sha256_file

_KEYS = ("mu", "sigma")  # in both forms; ADM's may hold mu_s and sigma_s (sFID's) and images too
_METADATA = "debiasctl"


@dataclass(frozen=True)
class StatisticsFile:
    """Mean [D] and covariance [D, D], float64; `metadata` is what `write_statistics` was given, else empty."""

    path: Path
    mean: Tensor
    covariance: Tensor
    metadata: Mapping[str, Any]
    sha256: str


def holds_statistics(path: Path) -> bool:
    """Whether a file is an npz with `mu` and `sigma`.

    Raises:
        UsageError: there is no such file; EvaluationError: it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Give an .npz of statistics (mu, sigma) or of images, or a data set")
    with _opened(path) as archive:
        return all(key in archive.files for key in _KEYS)


def read_statistics(path: Path) -> StatisticsFile:
    """The statistics in an npz: `mu` [D] and `sigma` [D, D]. What else it holds is not read.

    Raises:
        EvaluationError: it cannot be read, or these are not a mean and a covariance.
    """
    with _opened(path) as archive:
        try:
            mean, covariance = (np.asarray(archive[key], dtype=np.float64) for key in _KEYS)
            text = str(archive[_METADATA]) if _METADATA in archive.files else "{}"
            metadata = json.loads(text)
        except (KeyError, ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise EvaluationError(
                f"the statistics in {path} are damaged ({error}). Fetch or make them again"
            ) from error
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise EvaluationError(
            f"{path}: mu {list(mean.shape)} and sigma {list(covariance.shape)} are no mean [D] and covariance [D, D]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise EvaluationError(f"{path}: mu or sigma holds NaN or infinity")
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * np.abs(covariance).max(initial=0)):
        raise EvaluationError(f"{path}: sigma is not symmetric, so it is no covariance")
    return StatisticsFile(
        path, torch.from_numpy(mean), torch.from_numpy((covariance + covariance.T) / 2), metadata, sha256_file(path)
    )


def write_statistics(path: Path, mean: Tensor, covariance: Tensor, *, metadata: Mapping[str, Any]) -> None:
    """Write `mu` and `sigma` (float64, as ADM's and EDM's evaluators read them) and the metadata, as JSON text."""
    with atomic_file(path) as stream:
        np.savez(
            stream,
            mu=mean.numpy(),
            sigma=covariance.numpy(),
            **{_METADATA: np.array(json.dumps(dict(metadata), sort_keys=True))},  # type: ignore[arg-type]
        )


def _opened(path: Path) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{path} cannot be read as an npz ({error}). Fetch or make it again") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise EvaluationError(f"{path} is no npz file. Statistics are an npz with mu and sigma")
    return archive
