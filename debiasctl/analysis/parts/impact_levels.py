"""The noise levels of sampling at which estimates are looked at, and the statistics of estimates there."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from debiasctl.analysis.parts.impact_means import Array
from debiasctl.analysis.subject import Subject
from debiasctl.api import Level, LoadedDataset, Sampler, Split
from debiasctl.compute import counter_random
from debiasctl.data.pixels import to_model_space, to_uint8
from debiasctl.diffusion.process import DiffusionProcess
from debiasctl.errors import UsageError
from debiasctl.evaluation.metrics.catalogue import CHANNELS
from debiasctl.evaluation.metrics.spectrum import radial_power_of
from debiasctl.evaluation.reference.real import MAX_IMAGES

MOST_LEVELS = 50  # of a trajectory that are looked at
NOISIEST = -25.0  # a level without any signal stands at this log-SNR
_BLOCK = 256  # images read at once
_SEED = 0  # of the choice of images


def log_snr_of(level: Level) -> float:
    """The log-SNR of a level; that of a level without signal is NOISIEST, for a series needs a finite number."""
    return min(max(2 * level.half_log_snr, NOISIEST), -NOISIEST)


def levels_of(sampler: Sampler, process: DiffusionProcess, num_steps: int, *, name: str) -> list[Level]:
    """The `num_steps` levels at which the sampler's steps begin, the noisiest first.

    Raises:
        UsageError: if it has no such levels, or cannot make this many steps.
    """
    grid = sampler.grid(process, num_steps)
    if grid is None or len(grid) != num_steps + 1:
        raise UsageError(
            f"sampler '{name}' has no fixed noise levels, so its estimates cannot be compared level by level. Choose "
            "another `sampler`, such as ddim"
        )
    return list(grid[:-1])


def observed_steps(num_steps: int) -> list[int]:
    """The steps that are looked at, counted from 0: all, or 50 of them evenly spread."""
    count = min(num_steps, MOST_LEVELS)
    return [0] if count == 1 else sorted({round(i * (num_steps - 1) / (count - 1)) for i in range(count)})


def bands_of(image_size: int) -> list[tuple[int, int]]:
    """Octaves of spatial frequency, first and last number of cycles per image: 1, 2, 3 to 4, 5 to 8, …"""
    last, found, start = image_size // 2, [], 1
    while start <= last:
        end = min(max(2 * (start - 1), start), last)
        found.append((start, end))
        start = end + 1
    return found


def band_name(band: tuple[int, int]) -> str:
    """A band as it stands in a figure's name."""
    return f"{band[0]}" if band[0] == band[1] else f"{band[0]}-{band[1]}"


def band_powers(x: Tensor) -> Array:
    """The mean power of each image of `x` [N, C, H, W] in model space in each band, [N, bands]."""
    power = radial_power_of(x.cpu()).numpy()
    found = [power[:, start - 1 : end].mean(axis=1) for start, end in bands_of(min(x.shape[2:]))]
    return np.stack(found, axis=1) if found else np.zeros((len(x), 0))


def colours(x: Tensor) -> Array:
    """The mean colour of each image, [N, C]."""
    found: Array = x.to(torch.float64).mean(dim=(2, 3)).cpu().numpy()
    return found


def channel_names(channels: int) -> list[str]:
    """The channels as they stand in a figure's name."""
    return list(CHANNELS.get(channels, {str(number): "" for number in range(channels)}))


@dataclass(frozen=True)
class RealMeans:
    """Means over a data set's images: of colours [C] and bands [B] as trained on, and of both as samples are stored."""

    colours: Array
    bands: Array
    stored_colours: Array
    stored_power: Array  # [size // 2]


def real_means(subject: Subject) -> dict[str, Array]:
    """The members of `RealMeans` for up to 50,000 training images, those of the class that is sampled if one is.

    Where the network was trained on latents, they are those of what these decode to.
    """
    data: LoadedDataset = subject.data
    indices = chosen_indices(data.train, subject.request.label, MAX_IMAGES)
    sums: dict[str, Array] = {}
    for part in torch.split(indices, _BLOCK):
        x = subject.images_of(to_model_space(data.train.images(part))).cpu()
        stored = to_uint8(x).to(torch.float64) / 127.5 - 1
        found = {
            "colours": colours(x), "bands": band_powers(x), "stored_colours": colours(stored),
            "stored_power": radial_power_of(stored).numpy(),
        }  # fmt: skip
        sums = {name: sums.get(name, 0.0) + rows.sum(axis=0) for name, rows in found.items()}
    return {name: total / len(indices) for name, total in sums.items()}


def chosen_indices(split: Split, label: int | None, count: int) -> Tensor:
    """Up to `count` indices of a split, in rising order, drawn at random, for classes may alternate in it.

    They are only those of class `label` if one is given, and the same for every run.
    """
    own = torch.arange(len(split))
    if label is not None:
        labels = split.labels(own)
        assert labels is not None, "a class is sampled of data with classes alone"
        own = (labels == label).nonzero().flatten()
    return own[counter_random.order(_SEED, epoch=0, size=len(own))[:count]].sort().values
