"""Samplers, data sets, autoencoders and feature extractors that break one law each."""

import dataclasses
import itertools
import math

import torch
from broken import breaks

from debiasctl.api import (
    ArraySplit,
    Autoencoder,
    Dataset,
    DatasetInfo,
    Features,
    ImageProblem,
    LatentScale,
    LatentShape,
    Level,
    LoadedDataset,
    MetricNames,
    PreparedAutoencoder,
    PreparedFeatures,
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


class Same(PreparedAutoencoder):
    """What is encoded is decoded."""

    def __init__(self, gain=1.0):
        self.gain = gain

    def state(self):
        return {"gain": torch.tensor(self.gain)}

    def encode(self, images):
        return images * self.gain

    def decode(self, latents):
        return latents / self.gain


class Plain(Autoencoder):
    """The images themselves."""

    made = Same

    def latent_shape(self, image_size, channels):
        return LatentShape(channels, image_size)

    def prepare(self, data, *, device):
        return self.made()

    def restore(self, state, settings, *, device):
        return self.made(float(state["gain"]))


@breaks("autoencoders", "Its latents are float32")
class Misstated(Plain):
    """States half the size."""

    def latent_shape(self, image_size, channels):
        return LatentShape(channels, image_size // 2)


class Negative(Same):
    def decode(self, latents):
        return -latents


class Jittery(Same):
    def encode(self, images):
        return images + 1e-3 * next(COUNTS)


class BatchNormed(Same):
    def encode(self, images):
        return images - images.mean()


class Hidden(Same):
    def __init__(self, gain=0.0):
        super().__init__(gain or 2.0)
        self.shift = 0.0 if gain else 0.5

    def encode(self, images):
        return super().encode(images) + self.shift

    def decode(self, latents):
        return super().decode(latents - self.shift)


class Random(Same):
    def __init__(self, gain=0.0):
        super().__init__(gain or 1.0 + next(COUNTS))


class Large(Same):
    def scale(self):
        return LatentScale((0.0,), (3.0,))


def autoencoder(law, prepared, **attributes):
    """Register an autoencoder that makes this."""
    about = {"made": prepared, "__doc__": "A broken one.", "__module__": __name__, **attributes}
    breaks("autoencoders", law)(type(f"Makes{prepared.__name__}", (Plain,), about))


autoencoder("Decoded images are nearer", Negative)
autoencoder("Its maps give the same every time", Jittery)
autoencoder("What an image is mapped to", BatchNormed)
autoencoder("Its state and settings restore", Hidden)
autoencoder("Fitted to the same images twice", Random)
autoencoder("Latents that are said to be bounded", Large, bounded=True)


class RowMeans(PreparedFeatures):
    """The mean of each row."""

    def __init__(self, identity="0" * 64):
        super().__init__(identity=identity, dimension=16, details={})

    def __call__(self, images):
        return images.double().mean(dim=(1, 3))


class Means(Features):
    """Row means."""

    made = RowMeans

    def prepare(self, data, *, cache_dir, device):
        return self.made()


class Rounded(RowMeans):
    def __call__(self, images):
        return super().__call__(images).float()


class Drifts(RowMeans):
    def __call__(self, images):
        return super().__call__(images) + next(COUNTS)


class Whitened(RowMeans):
    def __call__(self, images):
        rows = super().__call__(images)
        return rows - rows.mean(dim=0)


class Constant(RowMeans):
    def __call__(self, images):
        return super().__call__(images) * 0


class Nameless(RowMeans):
    def __init__(self):
        super().__init__(identity=f"{next(COUNTS):064x}")


def features(law, prepared):
    """Register a feature extractor that makes this."""
    about = {"made": prepared, "__doc__": "A broken one.", "__module__": __name__}
    breaks("features", law)(type(f"Makes{prepared.__name__}", (Means,), about))


features("Its features are finite", Rounded)
features("Equal images give equal features", Drifts)
features("An image's features do not depend", Whitened)
features("Different images have different features", Constant)
features("Prepared twice", Nameless)


@breaks("features", "Its metrics have names")
class OneName(Means):
    """Calls all of them one name."""

    @classmethod
    def metric_names(cls, name):
        return MetricNames(name, "m", "m", "m", "m")


class Refuses(Steps):
    """Refuses everything, which no law lets it."""

    def grid(self, process, num_steps):
        raise UsageError("this sampler makes no steps")
