"""Denoisers and starts that interventions put in place of the run's own."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.denoisers import Composed, X0Function
from debiasctl.analysis.parts.colour.statistics import Array
from debiasctl.analysis.subject import Subject
from debiasctl.api import Denoiser, Estimate, Level
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.pixels import to_model_space
from debiasctl.diffusion.process import process_behind
from debiasctl.sampling.drawing import Drawer


class _Edited(Composed):
    """The network with another estimate of x0; a learned variance stays the network's."""

    def __init__(self, network: Denoiser) -> None:
        super().__init__(process_behind(network), null_label=network.null_label)
        self.network = network


class Replaced(_Edited):
    """A function's estimate of x0 above a timestep, and the network's below it."""

    def __init__(self, network: Denoiser, x0: X0Function, *, above: float, learned_variance: bool) -> None:
        super().__init__(network)
        self._x0, self._above, self._learned_variance = x0, above, learned_variance

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W]."""
        self.nfe += 1
        if t <= self._above:
            return self.network(x_t, t, labels)
        fraction = self.network(x_t, t, labels).variance_fraction if self._learned_variance else None
        return self.from_x0(self._x0(x_t, t, labels), x_t, t, fraction)


class Corrected(_Edited):
    """The network with an error of each channel's mean [L, C], known at the timesteps `ts` [L], subtracted from x0."""

    def __init__(self, network: Denoiser, *, ts: Array, error: Array) -> None:
        super().__init__(network)
        order = np.argsort(ts)
        self._ts, self._error = ts[order], error[order]

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Estimate x0, eps and v for x_t [N, C, H, W]."""
        self.nfe += 1
        estimate = self.network(x_t, t, labels)
        error = [float(np.interp(t, self._ts, column)) for column in self._error.T]
        shift = torch.tensor(error, dtype=x_t.dtype, device=x_t.device).reshape(1, -1, 1, 1)
        return self.from_x0(estimate.x0 - shift, x_t, t, estimate.variance_fraction)


class Recorder(_Edited):
    """The network as it is; `seen` has, by timestep, the sum of eps_hat² and the number of values."""

    def __init__(self, network: Denoiser) -> None:
        super().__init__(network)
        self.seen: dict[float, tuple[float, int]] = {}

    def __call__(self, x_t: Tensor, t: float, labels: Tensor | None = None) -> Estimate:
        """Return the network's estimate."""
        self.nfe += 1
        estimate = self.network(x_t, t, labels)
        total, count = self.seen.get(float(t), (0.0, 0))
        self.seen[float(t)] = (total + float(estimate.eps.double().square().sum()), count + estimate.eps.numel())
        return estimate

    def mean(self, t: float) -> float:
        """The mean of eps_hat² at a timestep that was seen."""
        total, count = self.seen[t]
        return total / count


class TrueImages:
    """A training image for each sample, of the sample's class where there are classes."""

    def __init__(self, subject: Subject, *, seed: int) -> None:
        self._subject, self._seed = subject, seed
        self._of_class: Mapping[int, Tensor] = {}
        split = subject.data.train
        labels = split.labels(torch.arange(len(split))) if subject.is_conditional else None
        if labels is not None:
            self._of_class = {int(one): (labels == one).nonzero().flatten() for one in sorted(set(labels.tolist()))}

    def indices(self, positions: Tensor) -> Tensor:
        """The index of each sample's training image, int64 [N] on the CPU."""
        positions = positions.cpu()
        u = counter_random.uniform(self._seed, Stream.HELDOUT, step=0, positions=positions)
        labels = self._subject.labels(positions)
        if labels is None:
            return (u * len(self._subject.data.train)).long()
        return torch.stack(
            [
                self._of_class[int(label)][int(one * len(self._of_class[int(label)]))]
                for one, label in zip(u, labels, strict=True)
            ]
        )

    def images(self, positions: Tensor) -> Tensor:
        """These images, float32 [N, C, H, W] in model space on the device."""
        return to_model_space(self._subject.data.train.images(self.indices(positions))).float().to(self._subject.device)

    def noise(self, positions: Tensor, *, number: int) -> Tensor:
        """Standard normal [N, C, H, W] for the noise level of that number."""
        return counter_random.normal(
            self._seed, Stream.HELDOUT, step=1 + number, positions=positions.to(self._subject.device),
            shape=self._subject.shape,
        )  # fmt: skip


class NoisedStart(Drawer):
    """A drawer whose samples begin as training images at the sampler's first noise level, not as pure noise."""

    def __init__(self, like: Drawer, *, first: Level, images: Callable[[Tensor], Tensor]) -> None:
        super().__init__(like.denoiser, like.request, like.labels, shape=like.shape, device=like.device)
        self._first, self._images = first, images

    def noise(self, positions: Tensor, *, step: int) -> Tensor:
        """Standard normal [N, C, H, W]; at step 0 it is what the images begin as."""
        noise = super().noise(positions, step=step)
        return noise if step else self._first.alpha * self._images(positions) + self._first.sigma * noise
