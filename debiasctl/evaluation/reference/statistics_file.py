"""Files of reference statistics, in the formats of guided-diffusion (ADM) and EDM."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from debiasctl.errors import EvaluationError, UsageError
from debiasctl.files import atomic_file, sha256_file
from debiasctl.reading.arrays import UNREADABLE, Npz, open_npz
from debiasctl.reading.documents import parse_json
from debiasctl.wording import one_line

_KEYS = ("mu", "sigma")  # in both formats; ADM's files may hold images too
_SPATIAL_KEYS = ("mu_s", "sigma_s")  # in ADM's format: for the spatial features of sFID
_METADATA = "debiasctl"
_LIMIT = 2**30  # bytes of an array: a covariance of 11,000 features
_LARGEST = 1e15  # of a feature: squares of larger ones leave no digits for their differences
_SLACK = 1e-3  # rounding of float32 covariances, relative to the largest variance


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
    if not path.exists():
        raise UsageError(f"{path} does not exist. Give an .npz of statistics (mu, sigma) or of images, or a data set")
    with _opened(path) as archive:
        return all(key in archive for key in _KEYS)


def read_statistics(path: Path) -> StatisticsFile:
    """Read only the statistics in an npz: `mu` [D] and `sigma` [D, D] and, if there, `mu_s` and `sigma_s`.

    Raises:
        EvaluationError: if it cannot be read, or these are not means and covariances.
    """
    with _opened(path) as archive:
        try:
            arrays = {key: _numbers(archive, key) for key in (*_KEYS, *_SPATIAL_KEYS) if key in _KEYS or key in archive}
            metadata = _metadata(archive)
        except UNREADABLE as error:
            raise EvaluationError(
                f"the statistics in {path} are damaged ({one_line(error)}). Fetch or make them again"
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
    largest = max(np.abs(mean).max(), np.sqrt(np.abs(covariance).max()))
    if largest > _LARGEST:
        raise EvaluationError(
            f"{path}: {first} or {second} holds values of size {largest:.3g}, as no features have. Fetch or make "
            "it again"
        )
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * np.abs(covariance).max(initial=0)):
        raise EvaluationError(f"{path}: {second} is not symmetric, so it is not a covariance")
    symmetric = (covariance + covariance.T) / 2
    if covariance.any() and not _is_positive(symmetric):
        smallest = np.linalg.eigvalsh(symmetric)[0]
        raise EvaluationError(
            f"{path}: {second} has the eigenvalue {smallest:.3g}, and a covariance has none below 0. Fetch or make it "
            "again"
        )
    return torch.from_numpy(mean), torch.from_numpy(symmetric)


def _is_positive(symmetric: Any) -> bool:
    """Whether no eigenvalue lies below 0, but for rounding; this takes a tenth of the time of computing them."""
    shift = _SLACK * symmetric.diagonal().max()
    try:
        np.linalg.cholesky(symmetric + shift * np.eye(len(symmetric)))
    except np.linalg.LinAlgError:
        return False
    return True


def _numbers(archive: Npz, key: str) -> Any:
    array = archive.read(key, limit=_LIMIT)
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{key} holds {array.dtype}, not real numbers")
    return array.astype(np.float64)


def _metadata(archive: Npz) -> dict[str, Any]:
    if _METADATA not in archive:
        return {}
    text = archive.read(_METADATA, limit=2**20)
    if text.shape != () or text.dtype.kind != "U":
        raise ValueError(f"{_METADATA} is {text.dtype} {list(text.shape)}, not text")
    found = parse_json(str(text))
    if not isinstance(found, dict):
        raise ValueError(f"{_METADATA} is not a JSON object")
    return found


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


@contextmanager
def _opened(path: Path) -> Iterator[Npz]:
    try:
        with open_npz(path) as archive:
            yield archive
    except UNREADABLE as error:
        reason = one_line(getattr(error, "strerror", None) or error)
        raise EvaluationError(f"{path} cannot be read as an npz: {reason}. Fetch or make it again") from error
