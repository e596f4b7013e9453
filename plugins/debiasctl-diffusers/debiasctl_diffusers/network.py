"""What diffusers' networks have in common here: their inputs, and their construction with clear errors."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from debiasctl.api import ImageShape, UsageError
from debiasctl.api.files import one_line


def check_inputs(x: Tensor, noise_level: Tensor, labels: Tensor | None, *, shape: ImageShape, num_classes: int) -> None:
    """Check the inputs of a network that was built for `shape` and `num_classes`.

    Raises:
        ValueError: if a shape is wrong, labels are missing, or labels are given to a network without classes.
    """
    image = (shape.in_channels, shape.image_size, shape.image_size)
    if x.ndim != 4 or tuple(x.shape[1:]) != image:
        raise ValueError(f"x has shape {tuple(x.shape)}; this network takes [N, {image[0]}, {image[1]}, {image[2]}]")
    if noise_level.shape != x.shape[:1]:
        raise ValueError(f"noise_level has shape {tuple(noise_level.shape)}; it takes one value per image, [{len(x)}]")
    if (labels is None) != (num_classes == 0):
        needs = (
            f"needs labels of its {num_classes} classes" if num_classes else "knows no classes, and was given labels"
        )
        raise ValueError(f"this network {needs}")
    if labels is not None and labels.shape != x.shape[:1]:
        raise ValueError(f"labels have shape {tuple(labels.shape)}; they take one class per image, [{len(x)}]")


def built(backbone: str, make: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """The network that diffusers makes of a configuration.

    Raises:
        UsageError: if it refuses it.
    """
    try:
        return make(**config)
    except (ValueError, TypeError, KeyError, ZeroDivisionError, IndexError, NotImplementedError) as error:
        raise UsageError(
            f"{backbone}: diffusers cannot build a network of these options: {one_line(error)[:300]}"
        ) from error
