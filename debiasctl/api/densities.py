"""Laws that images may be drawn from, known in closed form."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class GaussianMixture:
    """A mixture of K Gaussians over images [C, H, W] in [-1, 1] before they are rounded to uint8, all float64.

    A component's covariance is diagonal in an orthonormal basis that all components share and that is a product of
    three, for channels, rows and columns, so that large images need no large matrix. `debiasctl analyze` adds the
    variance of rounding where a data set stores uint8.
    """

    weights: "Tensor"  # [K], of sum 1
    means: "Tensor"  # [K, C, H, W], in pixels
    variances: "Tensor"  # [K, C, H, W], along the basis
    basis: "tuple[Tensor, Tensor, Tensor]"  # [C, C], [H, H] and [W, W]; a basis vector a row
    classes: "Tensor | None" = None  # int64 [K], the class of each component

    def coefficients(self, images: "Tensor") -> "Tensor":
        """Images [N, C, H, W] along the basis."""
        channels, rows, columns = self.basis
        return _mixed(channels, rows @ images @ columns.T)

    def images(self, coefficients: "Tensor") -> "Tensor":
        """The images [N, C, H, W] that have these coefficients."""
        channels, rows, columns = self.basis
        return _mixed(channels.T, rows.T @ coefficients @ columns)

    def pixel_variances(self) -> "Tensor":
        """The variance of each value within a component, [K, C, H, W]."""
        channels, rows, columns = (one.square() for one in self.basis)
        return _mixed(channels.T, rows.T @ self.variances @ columns)


def _mixed(matrix: "Tensor", images: "Tensor") -> "Tensor":
    """A matrix [C, C] applied to the channels of [N, C, H, W]."""
    return (matrix @ images.flatten(2)).view(images.shape)
