"""Nearest neighbours in feature space: precision and recall, density and coverage, copies of training images.

All distances are computed in blocks, in float64, so that memory grows with the number of images, not with its square.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

PRECISION_K = 3  # Kynkäänniemi et al.'s
DENSITY_K = 5  # Naeem et al.'s
_ROWS = 1024  # rows of a block of distances: 80 MiB for 10,000 columns


@dataclass(frozen=True)
class Manifolds:
    """The neighbourhoods of M generated and N real images, float64.

    `inside` [M] is 1 in some real image's ball (k = 3), else 0; `found` [N] is 1 in some generated image's ball (k =
    3). `density` [M] is the number of real balls (k = 5) around the image, over 5; `covered` [N] is 1 where a generated
    image lies in the real image's ball (k = 5).
    """

    inside: Tensor
    found: Tensor
    density: Tensor
    covered: Tensor


def manifolds(generated: Tensor, real: Tensor) -> Manifolds:
    """Find which neighbourhoods contain which images of `generated` [M, D] and `real` [N, D], each more than 5 images.

    The means are precision and recall (Kynkäänniemi et al., 2019, arXiv 1904.06991) and density and coverage (Naeem et
    al., 2020, arXiv 2002.09797). A ball reaches to the k-th neighbour, not counting the image itself, and is closed.
    """
    real_radii = _radii(real, (PRECISION_K, DENSITY_K))
    (generated_radii,) = _radii(generated, (PRECISION_K,))
    inside, density = [], []
    found = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for rows, radii in zip(torch.split(generated, _ROWS), torch.split(generated_radii, _ROWS), strict=True):
        squares = _squared_distances(rows, real)
        inside.append((squares <= real_radii[0]).any(dim=1))
        held = squares <= real_radii[1]
        density.append(held.sum(dim=1).double() / DENSITY_K)
        covered |= held.any(dim=0)
        found |= (squares <= radii[:, None]).any(dim=0)
    return Manifolds(torch.cat(inside).double(), found.double(), torch.cat(density), covered.double())


def nearest_distances(x: Tensor, y: Tensor) -> Tensor:
    """The distance of each row of `x` [N, D] to the nearest row of `y` [M, D], float64 [N]."""
    return torch.cat(
        [
            torch.stack([_squared_distances(rows, part).amin(dim=1) for part in torch.split(y, 8 * _ROWS)]).amin(dim=0)
            for rows in torch.split(x, _ROWS)
        ]
    ).sqrt()


def _radii(x: Tensor, ks: tuple[int, ...]) -> list[Tensor]:
    """The squared distance [N] of each row to its k-th nearest other row, for each k."""
    found = []
    for start, rows in zip(range(0, len(x), _ROWS), torch.split(x, _ROWS), strict=True):
        squares = _squared_distances(rows, x)
        squares[torch.arange(len(rows)), start + torch.arange(len(rows))] = torch.inf
        found.append(squares.topk(max(ks), dim=1, largest=False).values)
    nearest = torch.cat(found)
    return [nearest[:, k - 1] for k in ks]


def _squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """The squared distances [N, M]; those below the rounding of the product are 0, so that copies are recognised."""
    centre = y[:1].to(torch.float64)
    x, y = x.to(torch.float64) - centre, y.to(torch.float64) - centre
    scale = x.square().sum(dim=1, keepdim=True) + y.square().sum(dim=1)
    squares = torch.addmm(scale, x, y.T, alpha=-2)
    return squares.where(squares > 1e-13 * scale, 0)
