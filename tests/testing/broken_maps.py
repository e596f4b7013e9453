"""Autoencoders and feature extractors that break one law each."""

import itertools

import torch
from broken import breaks

from debiasctl.api import (
    Autoencoder,
    Features,
    LatentScale,
    LatentShape,
    MetricNames,
    PreparedAutoencoder,
    PreparedFeatures,
)

COUNTS = itertools.count()


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
