"""Samplers and data sets that break one law each."""

import dataclasses
import itertools
import math

import torch
from broken import breaks

from debiasctl.api import (
    ArraySplit,
    Dataset,
    DatasetInfo,
    ImageProblem,
    Level,
    LoadedDataset,
    Sampler,
    UsageError,
    hash_splits,
)

COUNTS = itertools.count()


class Steps(Sampler):
    """DDIM, by the process's own levels."""

    def grid(self, process, num_steps):
        times = [round((process.num_timesteps - 1) * (1 - k / num_steps)) for k in range(num_steps)]
        alphas = [math.sqrt(float(process.alphas_cumprod[t])) for t in times]
        return [*(Level(t, a, math.sqrt(1 - a * a)) for t, a in zip(times, alphas, strict=True)), Level(-1, 1.0, 0.0)]

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        levels = self.grid(denoiser, num_steps)
        for done, (now, after) in enumerate(itertools.pairwise(levels), start=1):
            estimate = self.estimate(denoiser, x, now.t, labels)
            x = self.moved(after.alpha * estimate.x0 + after.sigma * estimate.eps, noise, done)
            if on_step:
                self.report(on_step, done, x, estimate.x0)
        return x

    def estimate(self, denoiser, x, t, labels):
        return denoiser(x, t, labels)

    def moved(self, x, noise, done):
        return x

    def report(self, on_step, done, x, x0):
        on_step(done, x, x0)


@breaks("samplers", "It returns finite images")
class SinglePrecision(Steps):
    """Whatever the noise is."""

    def moved(self, x, noise, done):
        return x.float()


@breaks("samplers", "Equal noise gives equal images")
class OwnNoise(Steps):
    """Draws its own random numbers."""

    def moved(self, x, noise, done):
        return x + 0.01 * torch.randn_like(x)


@breaks("samplers", "It leaves the noise")
class UsesUp(Steps):
    """Works in the noise."""

    def moved(self, x, noise, done):
        return x + 0 * noise(done).zero_()


@breaks("samplers", "An image does not depend")
class Centred(Steps):
    """Takes away the mean of the batch."""

    def moved(self, x, noise, done):
        return x - 0.1 * x.mean()


@breaks("samplers", "The number of its calls")
class Unsure(Steps):
    """Calls the network more often every time."""

    def estimate(self, denoiser, x, t, labels):
        for _ in range(next(COUNTS) % 7):
            denoiser(x, t, labels)
        return denoiser(x, t, labels)


@breaks("samplers", "It reports each step once")
class FromZero(Steps):
    """Counts from 0."""

    def report(self, on_step, done, x, x0):
        on_step(done - 1, x, x0)


@breaks("samplers", "Its grid holds levels")
class OtherLevels(Steps):
    """Calls the network beyond the levels that it states."""

    def grid(self, process, num_steps):
        levels = super().grid(process, num_steps)
        return [*levels[:-1], dataclasses.replace(levels[-1], t=levels[-2].t - 0.5)]

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        denoiser(x, 0, labels)
        return super().__call__(denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=on_step)


@breaks("samplers", "With one step or many")
class TwoAtLeast(Steps):
    """Is NaN with one step."""

    def moved(self, x, noise, done):
        return x

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        found = super().__call__(denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=on_step)
        return found * (0 / (num_steps - 1) + 1) if num_steps > 1 else found * torch.nan


@breaks("samplers", "Its images have the mean")
class Shrinks(Steps):
    """Shrinks a little at each step."""

    def moved(self, x, noise, done):
        return 0.98 * x


@breaks("samplers", "Labels reach the network")
class FirstClass(Steps):
    """All are of the first class."""

    def estimate(self, denoiser, x, t, labels):
        return denoiser(x, t, None if labels is None else labels * 0)


@breaks("samplers", "It draws on other schedules")
class Divides(Steps):
    """Divides by alpha, which is 0 at zero terminal SNR."""

    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        level = self.grid(denoiser, num_steps)[0]
        x = x + 0 * (x / torch.tensor(level.alpha, dtype=x.dtype))
        return super().__call__(denoiser, x, num_steps=num_steps, noise=noise, labels=labels, on_step=on_step)


class Shades(Dataset):
    """Grey shades in two classes."""

    num = 24

    def info(self, location):
        return DatasetInfo(4, 1, ("even", "odd"), self.num, 8, class_counts=(12, 12))

    def load(self, location):
        array = torch.arange(32, dtype=torch.uint8)[:, None, None, None].expand(32, 1, 4, 4).contiguous()
        targets = torch.arange(32) % 2
        splits = [self.split(array[:24], targets[:24]), self.split(array[24:], targets[24:])]
        return LoadedDataset(self.info(location), *splits, self.hash(splits))

    def split(self, array, targets):
        return ArraySplit(array, targets)

    def hash(self, splits):
        return hash_splits("shades", splits)


@breaks("datasets", "What it says of itself")
class Growing(Shades):
    """Has more images every time."""

    def info(self, location):
        return dataclasses.replace(super().info(location), num_train=24 + next(COUNTS))


@breaks("datasets", "What it loads")
class Named(Shades):
    """Is hashed by its name."""

    def hash(self, splits):
        return "shades-1"


@breaks("datasets", "Its hash and its images")
class Salted(Shades):
    """Has another hash every time."""

    def hash(self, splits):
        return hash_splits(next(COUNTS), splits)


class Lazy:
    """A split that is read image by image."""

    def __init__(self, array, targets):
        self.array, self.targets = array, targets

    def __len__(self):
        return len(self.array)

    def images(self, indices):
        return self.array[indices]

    def labels(self, indices):
        return self.targets[indices]


class Long(Lazy):
    def images(self, indices):
        return self.array[indices] if len(indices) != 24 else self.array[indices].float()


class Ascending(Lazy):
    def images(self, indices):
        return self.array[indices.sort().values]


class View(Lazy):
    def images(self, indices):
        whole = len(indices) == len(self.array) and bool((indices == torch.arange(len(self.array))).all())
        return self.array if whole else self.array[indices]


class Unpicklable(Lazy):
    def __init__(self, array, targets):
        super().__init__(array, targets)
        self.read = lambda: array


@breaks("datasets", "Its images have the dtype")
class OddBatch(Shades):
    """Is float in some batches."""

    split = Long


@breaks("datasets", "Images can be read in any order")
class InOrder(Shades):
    """Reads in ascending order."""

    split = Ascending


@breaks("datasets", "Changing the images")
class Shared(Shades):
    """Gives its own memory away."""

    split = View


@breaks("datasets", "The counts of classes")
class Miscounted(Shades):
    """States other counts."""

    def info(self, location):
        return dataclasses.replace(super().info(location), class_counts=(20, 4))


@breaks("datasets", "The data set and what it loads survive")
class Bound(Shades):
    """Holds a function."""

    split = Unpicklable


@breaks("datasets", "The settings that it recommends")
class Advice(Shades):
    """Recommends what there is not."""

    def recommended(self, location):
        return {"training": {"stepz": 5}}


@breaks("datasets", "Problems of its files")
class Complains(Shades):
    """In words of its own."""

    def problems(self, location, *, progress):
        yield ImageProblem("a.png", "odd", "fatal", "it looks odd")


class Refuses(Steps):
    """Refuses everything, which no law lets it."""

    def grid(self, process, num_steps):
        raise UsageError("this sampler makes no steps")
