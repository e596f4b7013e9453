"""The ideal denoiser of a set that is too large, estimated from a random part of it, with standard errors."""

import math

import torch
from torch import Tensor

from debiasctl.analysis.ideal.image_set import ALL, ImageSet, Sums, in_doubles, logits_of, summed
from debiasctl.analysis.ideal.posterior import Posterior
from debiasctl.analysis.ideal.training_images import QUERIES
from debiasctl.api import Level, Split
from debiasctl.errors import UsageError

NORMAL = 1.959964  # the 97.5 % point of the standard normal distribution
BOUND = 2.0  # times √n: the least effective number of neighbours among n images


class TooFewNeighboursError(UsageError):
    """A part of the training images has too few neighbours of x_t to say what the mean over all of them is.

    `estimate` is what it says all the same, with intervals that are too narrow.
    """

    def __init__(self, message: str, estimate: Posterior) -> None:
        super().__init__(message)
        self.estimate = estimate


class SomeImages:
    """E[x0 | x_t] over all training images, estimated from n of them at random (after arXiv 2506.13763).

    The image that x_t was made from, with its mirror image if there are such, is known and counts 1; every other image
    of the part stands for as many as there are of them, (N - 1)/(n - 1) if the part has the own one. The bias of the
    ratio that is left is of the order of one in `neighbours`, the effective number of the part's other images.

    `mean` ± 1.96 `se` holds the mean over all images in 92 to 98 % (`benchmarks/ideal.py --coverage`) where the
    effective number is 2√n or more; below it `__call__` refuses. Why √n: weights that are log-normal with deviation s
    have an effective number of n exp(-s²), and the images that make up most of Σw² are in the part if 2s < √(2 ln n),
    that is, if that number is above √n.
    """

    name = "a random part of the training images"
    exact = False

    def __init__(self, known: ImageSet, split: Split) -> None:
        self.known, self._split = known, split

    def __call__(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The posterior for x_t [N, C, H, W] at a level, with standard errors.

        Raises:
            TooFewNeighboursError: if one of x_t has fewer neighbours than intervals need.
        """
        found = self.estimate(x_t, level, labels, own=own)
        least = torch.empty_like(found.neighbours)
        for chosen, rows, _ in self.known.by_class(labels, len(x_t)):
            least[chosen.to(least.device)] = BOUND * math.sqrt(len(rows))
        short = found.neighbours < least
        if bool(short.any()):
            worst = int((found.neighbours / least).argmin())
            raise TooFewNeighboursError(
                f"at log SNR {2 * level.half_log_snr:.3g} the best denoiser cannot be estimated from "
                f"{len(self.known.images)} of {self.known.counts[ALL]} training images: {int(short.sum())} of "
                f"{len(x_t)} noisy images have too few neighbours among them (an effective number down to "
                f"{float(found.neighbours[worst]):.3g}; at least {float(least[worst]):.3g} are needed). Measure at a "
                "lower log SNR",
                found,
            )
        return found

    def estimate(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The same whatever the number of neighbours, for averages over many x_t, which bear more.

        Raises:
            UsageError: if the part has no image of a class.
        """
        device = self.known.images.device
        queries = x_t.to(device, torch.float64).flatten(1)
        mean, se = torch.empty_like(queries), torch.empty_like(queries)
        variance, neighbours = torch.empty_like(queries[:, 0]), torch.empty_like(queries[:, 0])
        hidden = torch.full((len(queries),), -1, device=device) if own is None else own.to(device)
        hidden = self._of_own_class(hidden, labels)
        for chosen, rows, total in self.known.by_class(labels, len(queries)):
            if not len(rows):
                raise UsageError(
                    f"the {len(self.known.images)} of {self.known.counts[ALL]} training images that are held have none "
                    f"of a class, which has {total} in all: its best denoiser cannot be estimated. Choose a larger "
                    "class"
                )
            for start in range(0, len(chosen), QUERIES):
                part = chosen[start : start + QUERIES]
                sums = summed(self.known, rows, queries[part], level, hidden=hidden[part], errors=True)
                neighbours[part] = sums.neighbours
                mean[part], variance[part], se[part] = self._combined(
                    sums, queries[part], level, hidden[part], rows=rows, total=total
                )
        shape, device = x_t.shape, x_t.device
        return Posterior(
            mean.view(shape).to(device), variance.to(device), neighbours.to(device), se.view(shape).to(device)
        )

    def _of_own_class(self, own: Tensor, labels: Tensor | None) -> Tensor:
        """`own`, but -1 where that image is of another class than the label, and so not in the set."""
        if labels is None or self.known.labels is None or not bool((own >= 0).any()):
            return own
        found = self._split.labels(own.clamp(min=0).cpu())
        assert found is not None, "a conditional run's images have classes"
        labels = labels.to(own.device)
        is_class = torch.isin(labels, torch.tensor([one for one in self.known.counts if one >= 0]).to(own.device))
        return own.masked_fill(is_class & (found.to(own.device) != labels), -1)

    def _combined(
        self, sums: Sums, queries: Tensor, level: Level, own: Tensor, *, rows: Tensor, total: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mean, variance and standard error of the ratio of sums over all images, [Q, D], [Q] and [Q, D]."""
        images = self._own_images(own)  # [Q, copies, D]
        norms = images.square().sum(dim=2)
        logits = logits_of(queries, images, norms, level).masked_fill((own < 0)[:, None], -torch.inf)
        top = torch.maximum(sums.top, logits.amax(dim=1))
        sums.scale((sums.top - top).exp().nan_to_num(0.0))
        weights = (logits - top[:, None]).exp()
        others = len(rows) - (self.known.sources[rows] == own[:, None]).sum(dim=1).double()
        everyone = total - self.known.copies * (own >= 0).double()
        factor = everyone / others
        weight = (weights.sum(dim=1) + factor * sums.weight)[:, None]
        mean = ((weights[..., None] * images).sum(dim=1) + factor[:, None] * sums.image) / weight
        second = ((weights * norms).sum(dim=1) + factor * sums.norm) / weight[:, 0]
        # residuals e = w (x - mean) of the part, drawn without replacement: the variance of factor Σe is
        # factor² n/(n - 1) (1 - n/N) (Σe² - (Σe)²/n)
        squares = sums.square2 - 2 * mean * sums.image2 + mean.square() * sums.weight2[:, None]
        spread = squares - (sums.image - mean * sums.weight[:, None]).square() / others[:, None]
        scale = factor.square() * others / (others - 1).clamp(min=1) * (1 - others / everyone)
        error2 = (spread.clamp(min=0) * scale[:, None]) / weight.square()
        variance = (second - mean.square().sum(dim=1) + error2.sum(dim=1)).clamp(min=0) / queries.shape[1]
        freedom = (sums.weight2.square() / sums.weight4).nan_to_num(1.0)
        return mean, variance, error2.sqrt() * _widening(freedom)[:, None]

    def _own_images(self, own: Tensor) -> Tensor:
        images = self._split.images(own.clamp(min=0).cpu()).to(self.known.images.device)
        return in_doubles(torch.stack([images, images.flip(-1)], dim=1)[:, : self.known.copies]).flatten(2)


def _widening(freedom: Tensor) -> Tensor:
    """The 97.5 % point of Student's t over the normal one's: the variance is an estimate from so many squares.

    The series is Abramowitz and Stegun's 26.7.5.
    """
    d, z = freedom.clamp(min=2), NORMAL
    terms = (z**3 + z) / 4 / d + (5 * z**5 + 16 * z**3 + 3 * z) / 96 / d**2
    terms = terms + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384 / d**3
    return 1 + terms / z
