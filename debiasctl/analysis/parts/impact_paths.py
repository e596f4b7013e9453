"""Trajectories from noise to image with their estimates of x0, and estimates from true x_t at the same levels."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.parts.impact_levels import band_powers, chosen_indices, colours, levels_of, observed_steps
from debiasctl.analysis.parts.impact_means import Array
from debiasctl.analysis.subject import Subject
from debiasctl.api import Level, Split
from debiasctl.compute import counter_random
from debiasctl.compute.counter_random import Stream
from debiasctl.data.pixels import to_model_space, to_uint8
from debiasctl.errors import RunError
from debiasctl.evaluation.metrics.spectrum import radial_power_of
from debiasctl.sampling.drawing import Drawer, automatic_batch_size

_ALONG = {"used_colours", "used_bands", "own_colours", "own_bands", "from_true", "bands"}
_ONCE = {"forwards", "adds_noise"}


class NoiseCounter(Drawer):
    """A drawer that knows whether the sampler asked for noise after the first."""

    adds_noise = False  # so far

    def noise(self, positions: Tensor, *, step: int) -> Tensor:
        """See `Drawer.noise`."""
        self.adds_noise = self.adds_noise or step > 0
        return super().noise(positions, step=step)


def draw_trajectories(subject: Subject, num_steps: int, positions: range, *, kept: int, own: bool) -> dict[str, Array]:
    """The trajectories of the noises at `positions` in `num_steps` steps.

    `used_colours` [S, N, C] and `used_bands` [S, N, B] are those of the estimate that a step was made of (clipped and
    guided as the sampler does); S are the steps that are looked at. With `own`, `own_colours` and `own_bands` are those
    of the network's own estimate from the same x_t, for which it is run again. `colours` [N, C] and `power` [N, K] are
    those of the finished images as they are stored, and `images` are the first `kept` of all. `forwards` is their
    number for an image, and `adds_noise` says whether the sampler did.

    Raises:
        RunError: if the sampler does not report its steps, or gives values that are not finite.
    """
    request = replace(subject.request, num_steps=num_steps)
    name = request.sampler.name
    levels = levels_of(request.sampler.create("samplers"), subject.process, num_steps, name=name)
    steps = observed_steps(num_steps)
    parts: list[dict[str, Array]] = []
    for chunk in _batches(subject, positions):
        drawer = NoiseCounter(subject.denoiser, request, subject.labels, shape=subject.shape, device=subject.device)
        looked = _Looked(subject, chunk, levels, steps, own=own)
        looked.at(0, drawer.noise(chunk.to(subject.device), step=0))
        x = drawer.batch(chunk, on_step=looked.on_step)
        if not bool(torch.isfinite(x).all()):
            raise RunError(
                f"sampling in {num_steps} steps gave values that are not finite. Use another checkpoint, another "
                "`sampler`, or x0 clipping"
            )
        if not set(steps) <= looked.used.keys():
            raise RunError(
                f"sampler '{name}' does not report its steps, so there are no trajectories to look at. Choose another "
                "`sampler`"
            )
        stored = to_uint8(subject.images_of(x)).cpu().to(torch.float64) / 127.5 - 1
        found = looked.arrays() | {
            "colours": colours(stored), "power": radial_power_of(stored).numpy(),
            "images": stored[: max(0, kept - int(chunk[0]))].numpy(),
            "forwards": np.array([float(subject.denoiser.nfe + own)]),
            "adds_noise": np.array([float(drawer.adds_noise)]),
        }  # fmt: skip
        parts.append(found)
    return joined(parts)


class _Looked:
    """The statistics of the estimates along trajectories, step by step."""

    def __init__(self, subject: Subject, chunk: Tensor, levels: list[Level], steps: list[int], *, own: bool) -> None:
        self.used: dict[int, tuple[Array, Array]] = {}
        self.own: dict[int, tuple[Array, Array]] = {}
        self._subject, self._levels, self._steps, self._with_own = subject, levels, steps, own
        labels = subject.labels(chunk)
        self._labels = None if labels is None else labels.to(subject.device)

    @torch.no_grad()
    def at(self, step: int, x: Tensor) -> None:
        """Look at the network's own estimate from x, with which a step begins."""
        if self._with_own and step in self._steps:
            self.own[step] = self._seen(self._subject.denoiser(x, self._levels[step].t, self._labels).x0)

    def on_step(self, done: int, x: Tensor, x0: Tensor) -> None:
        """See `Sampler`."""
        if done - 1 in self._steps:
            self.used[done - 1] = self._seen(x0)
        self.at(done, x)

    def _seen(self, x0: Tensor) -> tuple[Array, Array]:
        images = self._subject.images_of(x0)
        return colours(images), band_powers(images)

    def arrays(self) -> dict[str, Array]:
        """The statistics [S, N, ...]."""
        kinds = {"used": self.used, **({"own": self.own} if self._with_own else {})}
        return {
            f"{kind}_{what}": np.stack([found[step][number] for step in self._steps])
            for kind, found in kinds.items()
            for number, what in enumerate(("colours", "bands"))
        }


def _batches(subject: Subject, positions: range) -> list[Tensor]:
    """The positions, int64, as many at a time as should fit into memory."""
    size = automatic_batch_size(subject.shape, subject.device)
    return list(torch.split(torch.arange(positions.start, positions.stop), size))


def joined(parts: Sequence[dict[str, Array]]) -> dict[str, Array]:
    """The statistics of several batches, end to end; those of a step have the images along their second axis."""
    return {
        name: parts[0][name]
        if name in _ONCE
        else np.concatenate([part[name] for part in parts], axis=1 if name in _ALONG else 0)
        for name in parts[0]
    }


def force(subject: Subject, split: Split, numbers: range, *, num: int, num_steps: int, seed: int) -> dict[str, Array]:
    """The network's own estimates from true x_t, images of `split` with noise, at the levels of `num_steps` steps.

    `numbers` are those of the images among `num` of the split. `from_true` [S, N, C] is the mean colour of the
    estimate and `bands` [S, N, B] its power, and `image_colours` [N, C] are the images' own.
    """
    indices = chosen_indices(split, subject.request.label, num)
    sampler = subject.request.sampler
    levels = levels_of(sampler.create("samplers"), subject.process, num_steps, name=sampler.name)
    chosen = [(step, levels[step]) for step in observed_steps(num_steps)]
    return joined([_forced(subject, split, indices, part, chosen, seed) for part in _batches(subject, numbers)])


@torch.no_grad()
def _forced(
    subject: Subject, split: Split, indices: Tensor, part: Tensor, levels: list[tuple[int, Level]], seed: int
) -> dict[str, Array]:
    x0 = to_model_space(split.images(indices[part])).to(subject.device)
    labels = split.labels(indices[part]) if subject.is_conditional else None
    labels = None if labels is None else labels.to(subject.device)
    positions = part.to(subject.device)
    found, bands = [], []
    for step, level in levels:
        eps = counter_random.normal(seed, Stream.TEACHER_FORCING, step=step, positions=positions, shape=x0.shape[1:])
        estimate = subject.denoiser(level.alpha * x0 + level.sigma * eps, level.t, labels)
        images = subject.images_of(estimate.x0)
        found.append(colours(images))
        bands.append(band_powers(images))
    return {"from_true": np.stack(found), "bands": np.stack(bands), "image_colours": colours(subject.images_of(x0))}
