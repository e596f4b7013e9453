"""The ideal denoiser of a finite set of images: a softmax over all of them, in float64, block by block."""

import torch
from torch import Tensor

from debiasctl.analysis.ideal.image_set import ImageSet, summed
from debiasctl.analysis.ideal.posterior import Posterior
from debiasctl.api import Level

QUERIES = 256  # x_t at a time


class TrainingImages:
    """E[x0 | x_t] over all training images, or over those of a class where labels are given.

    Its best is that of a finite set: at little noise it remembers the images, and then says nothing of new ones.
    """

    name = "all training images"
    exact = False

    def __init__(self, known: ImageSet) -> None:
        self.known = known

    def __call__(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The posterior for x_t [N, C, H, W] at a level; `own` makes no difference, as every image is there."""
        queries = x_t.to(self.known.images.device, torch.float64).flatten(1)
        mean, variance = torch.empty_like(queries), torch.empty_like(queries[:, 0])
        neighbours = torch.empty_like(variance)
        for chosen, rows, _ in self.known.by_class(labels, len(queries)):
            for start in range(0, len(chosen), QUERIES):
                part = chosen[start : start + QUERIES]
                sums = summed(self.known, rows, queries[part], level)
                mean[part] = sums.image / sums.weight[:, None]
                second = sums.norm / sums.weight - mean[part].square().sum(dim=1)
                variance[part] = second.clamp(min=0) / queries.shape[1]
                neighbours[part] = sums.neighbours
        device = x_t.device
        return Posterior(mean.view(x_t.shape).to(device), variance.to(device), neighbours.to(device))

    estimate = __call__  # it refuses nothing
