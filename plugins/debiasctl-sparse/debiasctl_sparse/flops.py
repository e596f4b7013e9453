"""What a sparse network costs beside the dense one, as RigL counts it (arXiv 1911.11134, §3 and appendix)."""

from collections.abc import Mapping
from dataclasses import dataclass

from debiasctl_sparse.layers import Layers


@dataclass(frozen=True)
class Flops:
    """Floating-point operations of a forward pass for one image: of the dense network, and of the sparse one."""

    dense: int
    sparse: int

    def training(self, *, steps: int, batch_size: int, dense_gradients: int) -> int:
        """The operations of a training in which so many steps need the gradient of all weights.

        A backward pass costs two forward passes: one for the layers' inputs, and one for their weights.
        """
        sparse_steps = steps - dense_gradients
        return batch_size * (3 * self.sparse * sparse_steps + (2 * self.sparse + self.dense) * dense_gradients)

    def dense_training(self, *, steps: int, batch_size: int) -> int:
        """The operations of the dense network's training."""
        return batch_size * steps * 3 * self.dense


def count_flops(layers: Layers, active: Mapping[str, int]) -> Flops:
    """Count two operations for each multiplication by a weight that is not masked; `active` are the counts by name."""
    whole = sum(layer.multiplications for layer in layers.dense)
    dense = whole + sum(layer.multiplications for layer in layers.sparse)
    sparse = whole + sum(layer.multiplications * active[layer.name] / layer.weight.numel() for layer in layers.sparse)
    return Flops(2 * dense, round(2 * sparse))
