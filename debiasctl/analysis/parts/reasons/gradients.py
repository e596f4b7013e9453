"""Gradients of the training objective, noise level by noise level, for the run's weighting and for others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from debiasctl.analysis.book import Arrays
from debiasctl.analysis.parts.reasons.levels import LevelBin
from debiasctl.boundary import origin_of, plugin_call
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream, derived_seed
from debiasctl.diffusion.modules import run_learned
from debiasctl.diffusion.objective import Objective
from debiasctl.diffusion.process import per_image
from debiasctl.diffusion.variance import bound_terms
from debiasctl.diffusion.weighting import bounded_snr

_T, _NOISE, _FLIP, _LABEL, _KINDS = 0, 1, 2, 3, 8  # the purposes of random numbers in a bin


@dataclass(frozen=True)
class Images:
    """Training images [N, C, H, W] in [-1, 1] with their classes, and their positions among all that are drawn.

    `mirrored` are the latents of the mirrored images, for latents.
    """

    x0: Tensor
    labels: Tensor | None
    positions: Tensor
    mirrored: Tensor | None = None


@dataclass(frozen=True)
class Measured:
    """What is differentiated: a network, and objectives that differ in their weighting alone, the run's own first.

    `flips` and `label_dropout` are those of training, with the class `null_label` in place of a dropped one.
    """

    network: nn.Module
    objectives: Sequence[Objective]
    bins: Sequence[LevelBin]
    progress: float
    seed: int
    batch: int
    flips: bool = False
    label_dropout: float = 0.0
    null_label: int | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weights that are trained."""
        return [one for one in self.network.parameters() if one.requires_grad]


class Fold:
    """Vectors of `size` values folded into at most `width`: the sums of columns after random changes of sign.

    Products of folded vectors are those of the vectors in expectation, up to a random part of about |g| |h|/√width;
    it is far below that of the draw of images, as gradients of single images vary in far fewer directions. Up to
    `width` values nothing is folded.
    """

    def __init__(self, size: int, width: int) -> None:
        self.size, self.width = size, min(size, width)
        self._signs: Tensor | None = None
        if size > width:
            generator = torch.Generator().manual_seed(derived_seed("signs"))
            self._signs = torch.randint(0, 2, (size,), generator=generator, dtype=torch.int8).mul_(2).sub_(1)

    def __call__(self, vector: Tensor) -> Tensor:
        """Fold [size] to [width]."""
        if self._signs is None:
            return vector
        signed = vector * self._signs.to(vector.device)
        padded = nn.functional.pad(signed, (0, -self.size % self.width))
        return padded.view(-1, self.width).sum(dim=0)


def group_gradients(measured: Measured, images: Images, fold: Fold) -> Arrays:
    """The gradients of each objective's part in each bin, [W, B, width], losses [W, B] and unfolded size [1].

    The sum over bins is the gradient of the objective over these images, each of which is used once in every bin.
    """
    gradients, losses = [], []
    for number, one in enumerate(measured.bins):
        found = _in_bin(measured, images, one, number)
        gradients.append(torch.stack([fold(gradient) for gradient in found.gradients]))
        losses.append(found.losses)
    stacked = torch.stack(gradients, dim=1).cpu().numpy()
    return {"gradients": stacked, "losses": np.stack(losses, axis=1), "size": np.array([float(fold.size)])}


@dataclass(frozen=True)
class _Found:
    gradients: list[Tensor]  # [P] of each objective
    losses: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"  # [W]


def _in_bin(measured: Measured, images: Images, one: LevelBin, number: int) -> _Found:
    parameters, num = measured.parameters, len(images.x0)
    size = sum(parameter.numel() for parameter in parameters)
    total = [images.x0.new_zeros(size) for _ in measured.objectives]
    losses = np.zeros(len(measured.objectives))
    origin = origin_of(measured.network)
    for start in range(0, num, measured.batch):
        part = slice(start, start + measured.batch)
        with torch.enable_grad(), torch.random.fork_rng():
            # dropout as in training, the same however often this is computed
            torch.manual_seed(derived_seed(measured.seed, "dropout", number, int(images.positions[part][0])))
            of_each = _losses(measured, _part(images, part), one, number)
        for place, per_image_loss in enumerate(of_each):
            loss = one.share * per_image_loss.sum() / num
            again = place + 1 < len(of_each)
            with plugin_call(origin, "backward pass"):
                found = torch.autograd.grad(loss, parameters, retain_graph=again, allow_unused=True)
            offset = 0
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    total[place][offset : offset + parameter.numel()] += gradient.detach().reshape(-1)
                offset += parameter.numel()
            losses[place] += float(loss.detach())
    return _Found(total, losses)


def _part(images: Images, part: slice) -> Images:
    labels = None if images.labels is None else images.labels[part]
    mirrored = None if images.mirrored is None else images.mirrored[part]
    return Images(images.x0[part], labels, images.positions[part], mirrored)


def _losses(measured: Measured, images: Images, one: LevelBin, number: int) -> list[Tensor]:
    """Each objective's loss of each image, [N], that of `train_step` without a learned weighting's own term +u."""
    seed, step, own = measured.seed, _KINDS * number, measured.objectives[0]
    positions = images.positions
    u = counter_random.uniform(seed, Stream.GRADIENT, step=step + _T, positions=positions)
    levels, t = one.draw(own, u, progress=measured.progress)
    x0, labels = images.x0, images.labels
    if measured.flips:
        mirrored = counter_random.uniform(seed, Stream.GRADIENT, step=step + _FLIP, positions=positions) < 0.5
        flipped = x0.flip(-1) if images.mirrored is None else images.mirrored
        x0 = torch.where(mirrored.to(x0.device)[:, None, None, None], flipped, x0)
    if labels is not None and measured.null_label is not None:
        u = counter_random.uniform(seed, Stream.GRADIENT, step=step + _LABEL, positions=positions)
        labels = torch.where((u < measured.label_dropout).to(labels.device), measured.null_label, labels)
    eps = counter_random.normal(
        seed, Stream.GRADIENT, step=step + _NOISE, positions=positions.to(x0.device), shape=x0.shape[1:]
    ).to(x0.dtype)
    x_t = own.process.add_noise(x0, eps, levels)
    output = own.parameterization.run(measured.network, x_t, levels, labels)
    errors = own.errors(levels)(output.prediction, own.parameterization.target(x0, eps, levels))
    variance = x0.new_zeros(len(x0))
    if own.parameterization.learned_variance:
        assert output.variance_fraction is not None, "the network's variance is learned"
        x0_hat = own.parameterization.estimate(output, x_t, levels).x0
        terms = bound_terms(own.process, x0_hat, output.variance_fraction, x0=x0, t=t)
        variance = own.variance_weight * own.process.num_timesteps * terms
    found = []
    for objective in measured.objectives:
        (weight,) = per_image(one.weight(objective, levels, t, progress=measured.progress), like=errors)
        if objective.learned is not None:
            log_snr = bounded_snr(levels.snr).log().to(errors.dtype).to(errors.device)
            module = objective.learned.module.to(errors.device, errors.dtype)
            weight = weight * (-run_learned(module, log_snr).detach()).exp()
        found.append(weight * errors + variance)
    return found
