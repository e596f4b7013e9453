"""Mode sampling of time."""

import math

import torch
from pydantic import Field
from torch import Tensor

from debiasctl.builtin.timesteps._share import Edges, OverShare, ShareOptions

LARGEST = 2 / (math.pi - 2)  # the scale beyond which the map from uniform numbers to times would turn back
_HALVINGS = 80


class Mode(OverShare):
    """time = 1 - u - scale (cos²(πu/2) - 1 + u) for uniform u (Stable Diffusion 3: 2403.03206, Sec. 3.1, "mode").

    A positive scale favours the middle, a negative one the ends, and 0 is uniform. It is symmetric, so that it does not
    matter from which end time is counted: diffusers' scripts look the number up among timesteps in order from noise to
    image, and draw the same times.
    """

    class Options(ShareOptions):
        """The options of mode sampling."""

        scale: float = Field(
            1.29, ge=-1, le=LARGEST, description="how strongly the middle (or, negative, each end) is favoured"
        )

    options: Options

    def tails(self, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the probabilities below and above each edge: the inverse of the map, at the edge and its mirror image.

        With w = 1 - u the map is time = w + scale (w - sin²(πw/2)), which rises with w.
        """
        return self._inverse(edges.x), self._inverse(edges.rest)

    def _inverse(self, time: Tensor) -> Tensor:
        """The w at which the map reaches `time`, by halving [0, 1]; near 0 with the relative precision of `time`."""
        low, high = torch.zeros_like(time), torch.ones_like(time)
        for _ in range(_HALVINGS):
            w = (low + high) / 2
            reached = w + self.options.scale * (w - torch.sin(w * (math.pi / 2)) ** 2) < time
            low, high = torch.where(reached, w, low), torch.where(reached, high, w)
        return high.where(time > 0, 0.0)
