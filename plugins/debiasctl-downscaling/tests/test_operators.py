"""Downsampling operators are what their matrices say."""

from pathlib import Path

import numpy as np
import pytest
import torch
from debiasctl_downscaling.operators import Matrix, Operator, operator, stated_operator

from debiasctl.api import DataError, UsageError

SHAPE = (2, 4, 8)


def matrix_of(one: Operator) -> torch.Tensor:
    """C, by its effect on a basis."""
    basis = torch.eye(64, dtype=torch.float64).reshape(64, *SHAPE)
    return one(basis).flatten(1).T


@pytest.mark.parametrize("name", ["mean:2", "mean:4x2", "subsample:2", "subsample:1x4", "matrix", "rank"])
def test_its_parts_are_those_of_the_singular_value_decomposition(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(5, 64, generator=generator, dtype=torch.float64)
    if name == "rank":
        matrix[4] = matrix[0] - matrix[1]
    one = Matrix(matrix) if name in ("matrix", "rank") else operator(name)
    c = matrix_of(one)
    x = torch.randn(3, *SHAPE, generator=generator, dtype=torch.float64)
    assert one(x)[0].numel() == np.prod(one.low_shape(SHAPE)) == len(c)
    inverse = torch.linalg.pinv(c)
    y = torch.randn(3, len(c), generator=generator, dtype=torch.float64)
    low = y.reshape(3, *one.low_shape(SHAPE))
    assert torch.allclose(one.pseudo_inverse(low, x.shape).flatten(1), y @ inverse.T)
    projected = one.lift(one.coordinates(x), x.shape)
    assert torch.allclose(projected.flatten(1), x.flatten(1) @ (inverse @ c).T)  # V Vᵀ x
    assert torch.allclose(one.coordinates(projected), one.coordinates(x))
    norms = one.lift(torch.eye(one.coordinates(x).shape[1]).double(), x.shape).flatten(1)
    assert torch.allclose(norms @ norms.T, torch.eye(len(norms)).double())  # Vᵀ V


@pytest.mark.parametrize("name", ["mean", "mean:0", "mean:1", "median:2", "mean:2x", "mean:-2", ""])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="operator"):
        operator(name)


def test_sizes_must_fit(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="blocks of 3x3 pixels do not divide images of 4x8"):
        operator("mean:3")(torch.zeros(1, *SHAPE))
    np.save(tmp_path / "c.npy", np.ones((2, 9)))
    one = operator(str(tmp_path / "c.npy"))
    with pytest.raises(UsageError, match="9 columns, and images of 2x4x8 have 64 values"):
        one(torch.zeros(1, *SHAPE))


def test_files_without_a_matrix_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npy"
    with pytest.raises(UsageError, match="no file"):
        operator(str(path))
    for array, text in (
        (np.zeros((2, 3)), "is 0"),
        (np.ones(3), "must be a matrix"),
        (np.full((2, 2), np.nan), "finite"),
    ):
        np.save(path, array)
        with pytest.raises(UsageError, match=text):
            operator(str(path))
    path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="no matrix"):
        operator(str(path))


def test_samples_state_their_operator(tmp_path: Path) -> None:
    """A matrix is known by its numbers, wherever it lies."""
    matrix = np.random.default_rng(0).normal(size=(3, 16))
    for name, values in (("a.npy", matrix), ("b.npy", matrix), ("c.npy", matrix + 1e-9)):
        np.save(tmp_path / name, values)
    stated = operator(str(tmp_path / "a.npy")).identity
    assert stated_operator(str(tmp_path / "b.npy"), stated).identity == stated
    for text in (str(tmp_path / "c.npy"), "mean:4"):
        with pytest.raises(UsageError, match=r"Give the \.npy"):
            stated_operator(text, stated)
    with pytest.raises(UsageError, match=r"Give the \.npy"):
        stated_operator(None, stated)
    assert stated_operator(None, "mean:8x2").identity == "mean:8x2"
    assert stated_operator(None, None) is None
