"""The ideal denoiser of a Gaussian mixture: exact posterior mean and variance, score and likelihood."""

import math

import torch
from torch import Tensor

from debiasctl.analysis.ideal.posterior import Posterior, with_doubles
from debiasctl.api import GaussianMixture, Level

ROUNDING = (2 / 255) ** 2 / 12  # the variance that rounding to uint8 adds, in [-1, 1]
_VALUES = 4_000_000  # of images times components, held at once


class ClosedForm:
    """E[x0 | x_t] of a Gaussian mixture in float64; `mirrored` is the law of its images, each mirrored or not.

    With `rounded`, the variance of rounding to uint8 is added. That is the linear denoiser's view of rounding: a
    denoiser that knew of the 256 levels would gain where the noise is finer than they are, sigma/alpha below about
    half of 2/255.
    """

    name = "closed form"
    exact = True

    def __init__(
        self,
        density: GaussianMixture,
        *,
        mirrored: bool = False,
        rounded: bool = False,
        device: torch.device | None = None,
    ) -> None:
        self.device, self.mirrored = with_doubles(device or torch.device("cpu")), mirrored
        channels, rows, columns = (one.to(self.device) for one in density.basis)
        self.density = GaussianMixture(
            density.weights.to(self.device),
            density.means.to(self.device),
            (density.variances + (ROUNDING if rounded else 0.0)).to(self.device),
            (channels, rows, columns),
            None if density.classes is None else density.classes.to(self.device),
        )
        self._log_weights = self.density.weights.log()
        self._means = self.density.coefficients(self.density.means).flatten(1)  # [K, D]
        self._variances = self.density.variances.flatten(1)

    def __call__(
        self, x_t: Tensor, level: Level, labels: Tensor | None = None, *, own: Tensor | None = None
    ) -> Posterior:
        """The posterior for x_t [N, C, H, W] at a level; `own` makes no difference."""
        parts = [self._posterior(part, level, chosen) for part, chosen in self._parts(x_t, labels)]
        mean, variance = torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts])
        return Posterior(
            mean.to(x_t.device), variance.to(x_t.device), torch.full_like(variance, math.inf).to(x_t.device)
        )

    def log_likelihood(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """The log of the density of x_t [N, C, H, W] at a level, in nats, float64 [N]."""
        return torch.cat(
            [self._evidence(part, level, chosen).logsumexp(1) for part, chosen in self._parts(x_t, labels)]
        ).to(x_t.device)

    def score(self, x_t: Tensor, level: Level, labels: Tensor | None = None) -> Tensor:
        """The gradient of that log-density, float64 [N, C, H, W]: (alpha E[x0 | x_t] - x_t)/sigma², also at sigma 0."""
        found = []
        for part, chosen in self._parts(x_t, labels):
            weights = torch.softmax(self._evidence(part, level, chosen), dim=1)
            scores = [
                self.density.images(torch.einsum("bk,bkv->bv", own, self._scores(one, level)).view(one.shape))
                for one, own in zip(self._views(part), weights.chunk(len(self._views(part)), dim=1), strict=True)
            ]
            found.append(scores[0] + scores[1].flip(-1) if self.mirrored else scores[0])
        return torch.cat(found).to(x_t.device)

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Images of the law, float64 [num, C, H, W], not mirrored, from a generator on the CPU."""
        which = torch.multinomial(self.density.weights.cpu(), num, replacement=True, generator=generator)
        shape = (num, *self.density.means.shape[1:])
        normal = torch.randn(shape, generator=generator, dtype=torch.float64).to(self.device)
        which = which.to(self.device)
        return self.density.means[which] + self.density.images(self.density.variances[which].sqrt() * normal)

    def _parts(self, x_t: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor | None]]:
        rows = max(1, _VALUES // (self._means.numel() * 2))
        images, chosen = x_t.to(self.device, torch.float64), None if labels is None else labels.to(self.device)
        slices = [slice(start, start + rows) for start in range(0, len(images), rows)]
        return [(images[part], None if chosen is None else chosen[part]) for part in slices]

    def _views(self, x_t: Tensor) -> list[Tensor]:
        """x_t, and its mirror image: that of an image under the mirrored law is that of the mirror image under it."""
        return [x_t, x_t.flip(-1)] if self.mirrored else [x_t]

    def _evidence(self, x_t: Tensor, level: Level, labels: Tensor | None) -> Tensor:
        """log p(x_t, component), [N, K], with the views side by side if mirrored, so that its logsumexp is log p."""
        spread = level.alpha**2 * self._variances + level.sigma**2  # [K, D]
        constants = self._prior(labels, len(x_t)) - (2 * math.pi * spread).log().sum(dim=1) / 2
        views = self._views(x_t)
        found = []
        for view in views:
            away = self._away(view, level)
            found.append(constants - (away.square() / spread).sum(dim=2) / 2 - math.log(len(views)))
        return torch.cat(found, dim=1)

    def _prior(self, labels: Tensor | None, num: int) -> Tensor:
        """The log of each component's weight for each image, [N, K], given its class."""
        prior = self._log_weights.expand(num, -1)
        classes = self.density.classes
        if labels is None or classes is None:
            return prior
        has_class = torch.isin(labels, classes)
        others = (classes != labels[:, None]) & has_class[:, None]
        return torch.log_softmax(prior.masked_fill(others, -torch.inf), dim=1)

    def _away(self, x_t: Tensor, level: Level) -> Tensor:
        """x_t less the mean of each component at the level, along the basis, [N, K, D]."""
        return self.density.coefficients(x_t).flatten(1)[:, None] - level.alpha * self._means

    def _scores(self, x_t: Tensor, level: Level) -> Tensor:
        return -self._away(x_t, level) / (level.alpha**2 * self._variances + level.sigma**2)

    def _posterior(self, x_t: Tensor, level: Level, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        views = self._views(x_t)
        weights = torch.softmax(self._evidence(x_t, level, labels), dim=1)
        spread = level.alpha**2 * self._variances + level.sigma**2
        within = (self._variances * level.sigma**2 / spread).nan_to_num(0.0).mean(dim=1)  # of each component
        gain = (level.alpha * self._variances / spread).nan_to_num(0.0)
        means, seconds = [], []
        for view, own in zip(views, weights.chunk(len(views), dim=1), strict=True):
            each = self._means + gain * self._away(view, level)  # [N, K, D]
            mass = own.sum(dim=1, keepdim=True)
            share = (own / mass).nan_to_num(0.0)
            mean = torch.einsum("bk,bkv->bv", share, each)
            between = (each - mean[:, None]).square().mean(dim=2)
            means.append(self.density.images(mean.view(x_t.shape)))
            seconds.append((share * (within + between)).sum(dim=1))
        if not self.mirrored:
            return means[0], seconds[0]
        first = weights[:, : weights.shape[1] // 2].sum(dim=1)
        second, other = 1 - first, means[1].flip(-1)
        mean = first[:, None, None, None] * means[0] + second[:, None, None, None] * other
        between = first * second * (means[0] - other).square().flatten(1).mean(dim=1)
        return mean, first * seconds[0] + second * seconds[1] + between
