"""Files of reference statistics, in the formats of guided-diffusion (ADM) and EDM."""

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

_KEYS = ("mu", "sigma")  # in both formats; ADM's files may hold images too
_SPATIAL_KEYS = ("mu_s", "sigma_s")  # in ADM's format: for the spatial features of sFID
_METADATA = "debiasctl"


@dataclass(frozen=True)
class StatisticsFile:
    """Mean [D] and covariance [D, D], float64; `metadata` is what `write_statistics` stored, else empty.

    `spatial` holds the mean and covariance of an extractor's spatial features [E], if the file has them.
    """

    path: Path
    mean: Tensor
    covariance: Tensor
    metadata: Mapping[str, Any]
    sha256: str
    spatial: tuple[Tensor, Tensor] | None = None


def holds_statistics(path: Path) -> bool:
    """Whether a file is an npz with `mu` and `sigma`.

    Raises:
        UsageError: if there is no such file; EvaluationError: if it cannot be read.
    """
    if not path.is_file():
        raise UsageError(f"{path} does not exist. Give an .npz of statistics (mu, sigma) or of images, or a data set")
    with _opened(path) as archive:
        return all(key in archive.files for key in _KEYS)


def read_statistics(path: Path) -> StatisticsFile:
    """Read only the statistics in an npz: `mu` [D] and `sigma` [D, D] and, if there, `mu_s` and `sigma_s`.

    Raises:
        EvaluationError: if it cannot be read, or these are not means and covariances.
    """
    with _opened(path) as archive:
        try:
            arrays = {
                key: np.asarray(archive[key], dtype=np.float64)
                for key in (*_KEYS, *_SPATIAL_KEYS)
                if key in _KEYS or key in archive.files
            }
            text = str(archive[_METADATA]) if _METADATA in archive.files else "{}"
            metadata = json.loads(text)
        except (KeyError, ValueError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise EvaluationError(
                f"the statistics in {path} are damaged ({error}). Fetch or make them again"
            ) from error
    mean, covariance = _checked(arrays, _KEYS, path)
    spatial = None
    if any(key in arrays for key in _SPATIAL_KEYS):
        if missing := [key for key in _SPATIAL_KEYS if key not in arrays]:
            raise EvaluationError(f"{path} holds one of mu_s and sigma_s, but not {missing[0]}. Fetch or make it again")
        spatial = _checked(arrays, _SPATIAL_KEYS, path)
    return StatisticsFile(path, mean, covariance, metadata, sha256_file(path), spatial)


def _checked(arrays: Mapping[str, Any], keys: tuple[str, str], path: Path) -> tuple[Tensor, Tensor]:
    """Check a mean [D] and a covariance [D, D], and make the covariance exactly symmetric."""
    (first, second), (mean, covariance) = keys, (arrays[key] for key in keys)
    if mean.ndim != 1 or not len(mean) or covariance.shape != (len(mean), len(mean)):
        raise EvaluationError(
            f"{path}: {first} {list(mean.shape)} and {second} {list(covariance.shape)} are not a mean [D] and a "
            "covariance [D, D]"
        )
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise EvaluationError(f"{path}: {first} or {second} holds NaN or infinity")
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * np.abs(covariance).max(initial=0)):
        raise EvaluationError(f"{path}: {second} is not symmetric, so it is not a covariance")
    return torch.from_numpy(mean), torch.from_numpy((covariance + covariance.T) / 2)


def write_statistics(
    path: Path,
    mean: Tensor,
    covariance: Tensor,
    *,
    metadata: Mapping[str, Any],
    spatial: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write `mu` and `sigma` (float64, as ADM's and EDM's evaluators read them) and the metadata as JSON text.

    `spatial` holds the mean and covariance of spatial features, written as ADM's `mu_s` and `sigma_s`.
    """
    arrays = dict(zip(_KEYS + _SPATIAL_KEYS, (mean, covariance, *(spatial or ())), strict=False))
    text: dict[str, Any] = {_METADATA: np.array(json.dumps(dict(metadata), sort_keys=True))}
    with atomic_file(path) as stream:
        np.savez(stream, **{key: tensor.numpy() for key, tensor in arrays.items()}, **text)


def _opened(path: Path) -> Any:
    try:
        archive = np.load(path, allow_pickle=False)
    except ValueError as error:  # numpy takes any unknown format for a pickle
        raise EvaluationError(f"{path} cannot be read as an npz: it is not one. Fetch or make it again") from error
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise EvaluationError(f"{path} cannot be read as an npz ({error}). Fetch or make it again") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise EvaluationError(f"{path} is not an npz file. Statistics are an npz with mu and sigma")
    return archive
