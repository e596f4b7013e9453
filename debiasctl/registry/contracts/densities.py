"""What a data set may state of the law of its images."""

from typing import TYPE_CHECKING, Any

from debiasctl.api import DatasetInfo, GaussianMixture
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import a_tensor, expect

if TYPE_CHECKING:
    from torch import Tensor

_CLOSE = 1e-8


def check_density(value: Any, info: DatasetInfo) -> None:
    """Check that a density is a Gaussian mixture over the images that `info` describes.

    Raises:
        ContractError: if it is not.
    """
    density: GaussianMixture = expect(value, GaussianMixture, "a GaussianMixture as the density")
    weights = a_tensor(density.weights, "the weights of a density, float64 [K]")
    num, shape = weights.numel(), (info.channels, info.image_size, info.image_size)
    if not num:
        raise ContractError("returned a density without components")
    basis: Any = expect(density.basis, tuple, "the basis of a density, a tuple of three matrices")
    if len(basis) != 3:
        raise ContractError(f"returned a density with a basis of {len(basis)} matrices; it is a product of three")
    tables: list[tuple[str, Any, tuple[int, ...]]] = [
        ("weights", weights, (num,)),
        ("means", density.means, (num, *shape)),
        ("variances", density.variances, (num, *shape)),
        *((f"basis[{number}]", basis[number], (size, size)) for number, size in enumerate(shape)),
    ]
    for name, table, sizes in tables:
        a_tensor(table, f"the {name} of a density, float64 {list(sizes)}", shape=sizes)
        if not bool(table.isfinite().all()):
            raise ContractError(f"returned a density whose {name} are not finite")
    _check_values(density)
    classes = density.classes
    if classes is not None:
        a_tensor(classes, f"the classes of a density, int64 [{num}]", shape=(num,), dtype="int64")
        if not bool(((classes >= 0) & (classes < len(info.classes))).all()):
            raise ContractError(f"returned a density with classes beyond the {len(info.classes)} of its info")


def _check_values(density: GaussianMixture) -> None:
    if bool((density.weights <= 0).any()) or abs(float(density.weights.sum()) - 1) > _CLOSE:
        raise ContractError("returned a density whose weights are not positive with a sum of 1")
    if bool((density.variances < 0).any()):
        raise ContractError("returned a density with a negative variance")
    for number, matrix in enumerate(density.basis):
        if float((matrix @ matrix.T - _identity(matrix)).abs().max()) > _CLOSE:
            raise ContractError(f"returned a density whose basis[{number}] is not orthonormal")


def _identity(matrix: "Tensor") -> "Tensor":
    import torch

    return torch.eye(len(matrix), dtype=matrix.dtype)
