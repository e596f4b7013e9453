"""Plugins of every kind that break their contract; the option `how` chooses in which way."""

import dataclasses
import functools
import sys

import numpy as np
import torch
from pydantic import Field
from torch import nn

from debiasctl.api import (
    ArraySplit,
    Autoencoder,
    Backbone,
    Dataset,
    DatasetInfo,
    Engine,
    Extension,
    ExternalModel,
    Features,
    ImageProblem,
    JobEvent,
    LatentScale,
    LatentShape,
    Learned,
    Level,
    LoadedDataset,
    MetricNames,
    ModelSource,
    PluginOptions,
    PreparedAutoencoder,
    PreparedFeatures,
    Sampler,
    Schedule,
    ScheduleOptions,
    TimestepDistribution,
    UsageError,
    Weighting,
    hash_splits,
)


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self):
        raise RuntimeError("mute")


class Zero(UsageError):
    """Would end the process as if all were well."""

    exit_code = 0


def deep(number=0):
    return deep(number + 1)


def throw(error):
    raise error


RAISES = {
    "error": lambda: throw(ValueError("no\x1b[31m such thing")),
    "memory": lambda: throw(MemoryError("all gone")),
    "mute": lambda: throw(Mute()),
    "exit": lambda: sys.exit(0),
    "quit": lambda: throw(SystemExit()),
    "interrupt": lambda: throw(KeyboardInterrupt()),
    "close": lambda: throw(GeneratorExit()),
    "base": lambda: throw(BaseException("at the base")),
    "deep": deep,
    "zero": lambda: throw(Zero("all is well")),
    "silent": lambda: throw(UsageError("")),
    "on-purpose": lambda: throw(UsageError("a plugin says so")),
}


def breaks(method):
    """Let `METHOD-WAY` as `how` raise in the method in that way, and `METHOD-none` return None."""

    @functools.wraps(method)
    def broken(self, *args, **kwargs):
        place, _, way = self.options.how.partition("-")
        if place == method.__name__.strip("_"):
            if way == "none":
                return None
            if way in RAISES:
                RAISES[way]()
        return method(self, *args, **kwargs)

    return broken


class Options(PluginOptions):
    """How it misbehaves."""

    how: str = Field("", description="in which way")


class BadDataset(Dataset):
    """Ten images in two classes."""

    Options = Options

    def __init__(self, options):
        super().__init__(options)
        if options.how.startswith("init-"):
            RAISES[options.how.removeprefix("init-")]()

    @breaks
    def info(self, location):
        changes = {
            "lies-channels": {"channels": 3},
            "lies-size": {"image_size": 16},
            "lies-classes": {"classes": ("a", "b", "c")},
            "lies-count": {"num_train": 70},
            "no-classes": {"classes": ()},
            "two-channels": {"channels": 2},
            "text-size": {"image_size": "8"},
            "half-size": {"image_size": 8.5},
            "negative": {"num_train": -1},
            "classes-numbers": {"classes": (1, 2)},
            "classes-twice": {"classes": ("a", "a")},
            "value-type": {"value_type": "int64"},
            "images-late": {"value_type": "float32"},
            "split-late": {"value_type": "float32"},
        }
        return dataclasses.replace(DatasetInfo(8, 1, ("a", "b"), 60, 20), **changes.get(self.options.how, {}))

    def _images(self):
        images = torch.arange(80 * 64).remainder(256).to(torch.uint8).reshape(80, 1, 8, 8)
        changed = {
            "int64": lambda: images.long(),
            "float": lambda: images / 255,
            "two": lambda: images.expand(80, 2, 8, 8),
            "large": lambda: images.repeat(1, 1, 2, 2),
            "flat": lambda: images[:, 0],
            "late": lambda: (images / 127.5 - 1).index_fill(0, torch.tensor([45]), torch.nan),
            "numpy": lambda: images.numpy(),
        }
        return changed.get(self.options.how.removeprefix("images-"), lambda: images)()

    def _labels(self):
        labels = torch.arange(80) % 2
        changed = {
            "negative": lambda: labels - 1,
            "many": lambda: labels + 1,
            "float": lambda: labels.float(),
            "int32": lambda: labels.int(),
            "none": lambda: None,
            "column": lambda: labels[:, None],
        }
        return changed.get(self.options.how.removeprefix("labels-"), lambda: labels)()

    @breaks
    def load(self, location):
        images, labels, how = self._images(), self._labels(), self.options.how
        parts = [slice(0, 60), slice(60, 80)]
        train, heldout = (ArraySplit(images[part], None if labels is None else labels[part]) for part in parts)
        told = hash_splits("bad", [train, heldout]) if isinstance(images, torch.Tensor) else "0" * 64
        if how.startswith("split-"):
            train = Odd(train, how.removeprefix("split-"))
        info = DatasetInfo(8, 1, ("a", "b"), 60, 20, "float32" if how.endswith("-late") else "uint8")
        if how == "no-split":
            train = [1, 2]
        return LoadedDataset(None if how == "load-no-info" else info, train, heldout, told)

    def problems(self, location, *, progress):
        place, _, way = self.options.how.partition("-")
        if place != "problems":
            return
        if way in RAISES:
            RAISES[way]()
        yield {"text": "a text", "severity": ImageProblem("a", "b", "fatal", "c")}[way]

    def stored_sizes(self, location):
        return [] if self.options.how == "sizes-list" else None

    @breaks
    def recommended(self, location):
        return {
            "recommends-list": [1],
            "recommends-text": {"training": "5 steps"},
            "recommends-type": {"training": {"steps": "many"}},
            "recommends-key": {"train": {"steps": 5}},
            "recommends-setting": {"training": {"step": 5}},
            "recommends-monitor": {"monitor": {"num": "many"}},
            "recommends-tensor": {"training": {"steps": torch.ones(1)}},
            "recommends-content": {"content": {"image_size": 3}},
            "recommends-dataset": {"data": {"dataset": "digits"}},
        }.get(self.options.how, {})


class Odd:
    """A split that goes wrong after the first look."""

    def __init__(self, split, how):
        self.split, self.how, self.reads = split, how, 0

    def __len__(self):
        return len(self.split)

    def images(self, indices):
        self.reads += len(indices) > 1
        images = self.split.images(indices)
        if not self.reads:
            return images
        if self.how in RAISES:
            RAISES[self.how]()
        return {"none": None, "large": images.repeat(1, 1, 2, 2), "few": images[:1], "int64": images.long()}[self.how]

    def labels(self, indices):
        return self.split.labels(indices)


class Net(nn.Module):
    """One convolution, and what is done to its result."""

    def __init__(self, shape, how):
        super().__init__()
        self.layer, self.how = nn.Conv2d(shape.in_channels, shape.out_channels, 3, padding=1), how

    def forward(self, x, noise_level, labels=None):
        out, way = self.layer(x), self.how.removeprefix("forward-")
        if self.how.startswith("forward-") and way in RAISES:
            RAISES[way]()
        changed = {
            "pooled": lambda: out.mean(dim=(2, 3), keepdim=True),
            "one": lambda: out[:1],
            "twice": lambda: torch.cat([out, out], dim=1),
            "tuple": lambda: (out, out),
            "none": lambda: None,
            "double": lambda: out.double(),
            "int": lambda: out.long(),
            "nan": lambda: out * torch.nan,
            "detached": lambda: out.detach(),
            "item": lambda: out + out.mean().item(),
        }
        return changed.get(way, lambda: out)()


class BadBackbone(Backbone):
    """One convolution."""

    Options = Options

    @breaks
    def build(self, shape, num_classes):
        return {
            "build-text": lambda: "a network",
            "build-empty": nn.Identity,
            "build-lazy": lambda: nn.LazyConv2d(1, 3),
        }.get(self.options.how, lambda: Net(shape, self.options.how))()

    @classmethod
    def resolve_options(cls, options, shape):
        return {"resolve-none": None, "resolve-dict": {}}.get(options.how, options)

    @breaks
    def set_memory_format(self, network, memory_format):
        return True


class BadWeighting(Weighting):
    """One, in many ways."""

    Options = Options

    @property
    @breaks
    def space(self):
        return "epsilon" if self.options.how == "space-other" else "eps"

    @property
    @breaks
    def varies(self):
        return "no" if self.options.how == "varies-text" else False

    @breaks
    def at(self, context):
        return {"at-text": "me", "at-other": Stranger(self.options)}.get(self.options.how, self)

    @breaks
    def __call__(self, snr):
        one = torch.ones_like(snr)
        return {
            "nan": lambda: one * torch.nan,
            "negative": lambda: -one,
            "short": lambda: one[1:],
            "column": lambda: one[:, None],
            "text": lambda: "one",
            "complex": lambda: one + 1j,
            "in-place": lambda: snr.clamp_(max=1),
        }.get(self.options.how.removeprefix("weight-"), lambda: one)()


class Stranger(Weighting):
    """What `at` may return though nobody registered it."""

    space = "eps"
    Options = Options

    def __call__(self, snr):
        raise ValueError("a stranger fails")


class BadLearned(Weighting):
    """A learned weighting."""

    space = "eps"
    Options = Options

    def __call__(self, snr):
        return torch.ones_like(snr)

    @breaks
    def learned(self):
        how = self.options.how
        return Learned(NoiseLevelU(how), "fast" if how == "rate" else 0.1)


class NoiseLevelU(nn.Module):
    """u for each noise level."""

    def __init__(self, how):
        super().__init__()
        self.u, self.how = nn.Parameter(torch.zeros(1)), how

    def forward(self, log_snr):
        u = self.u.expand(len(log_snr))
        return {"column": u[:, None], "double": u.double(), "nan": u * torch.nan}.get(self.how, u)


class BadSchedule(Schedule):
    """Evenly falling."""

    class Options(ScheduleOptions):
        """How it misbehaves."""

        how: str = Field("", description="in which way")

    @breaks
    def alphas_cumprod(self):
        size = self.options.num_timesteps
        table = torch.linspace(0.99, 0.01, size, dtype=torch.float64)
        return {
            "short": lambda: table[:-1],
            "float": lambda: table.float(),
            "rising": lambda: table.flip(0),
            "flat": lambda: table * 0 + 0.5,
            "nan": lambda: table * torch.nan,
            "numpy": lambda: table.numpy(),
            "complex": lambda: table + 0j,
            "square": lambda: table[:, None],
        }.get(self.options.how.removeprefix("table-"), lambda: table)()


class BadTimesteps(TimestepDistribution):
    """Uniform."""

    Options = Options
    observes = True

    def __init__(self, options):
        super().__init__(options)
        self.steps = 0

    @property
    @breaks
    def corrected(self):
        return self.options.how in ("base-nan", "q-rare") or (0 if self.options.how == "corrected-number" else False)

    @breaks
    def probabilities(self, context):
        q = torch.ones_like(context.snr)
        context.weight.mul_(torch.nan)  # its own copy
        return {
            "nan": lambda: q * torch.nan,
            "negative": lambda: -q,
            "short": lambda: q[1:],
            "zero": lambda: q * 0,
            "rare": lambda: torch.where(torch.arange(len(q)) == 0, 1e-320, q),
        }.get(self.options.how.removeprefix("q-"), lambda: q)()

    @breaks
    def base(self, context):
        return torch.ones_like(context.snr) * (torch.nan if self.options.how == "base-nan" else 1)

    @breaks
    def spread(self, draws, shared, positions, batch_size):
        return {
            "one": lambda: draws + 1,
            "negative": lambda: draws - 1,
            "nan": lambda: draws * torch.nan,
            "few": lambda: draws[:1],
            "float": lambda: draws.float(),
        }.get(self.options.how.removeprefix("spread-"), lambda: draws)()

    @breaks
    def observe(self, t, losses):
        self.steps += 1

    @breaks
    def state_dict(self):
        return {"steps": np.int64(self.steps) if self.options.how == "state-numpy" else self.steps}


class BadSampler(Sampler):
    """One step of the network."""

    Options = Options

    @breaks
    def __call__(self, denoiser, x, *, num_steps, noise, labels=None, on_step=None):
        x0 = denoiser(x, denoiser.num_timesteps - 1, labels).x0
        return {
            "small": lambda: x0[:, :, ::2, ::2],
            "few": lambda: x0[:1],
            "uint8": lambda: x0.to(torch.uint8),
            "tuple": lambda: (x0, x0),
            "nan": lambda: x0 * torch.nan,
        }.get(self.options.how.removeprefix("sample-"), lambda: x0)()

    @breaks
    def grid(self, process, num_steps):
        levels = [Level(t, (1 - t / 1000) ** 0.5, (t / 1000) ** 0.5) for t in range(num_steps, -1, -1)]
        return {
            "short": lambda: levels[1:],
            "rising": lambda: levels[::-1],
            "numbers": lambda: list(range(num_steps + 1)),
            "far": lambda: [dataclasses.replace(one, t=one.t + 10**6) for one in levels],
            "off": lambda: [dataclasses.replace(one, alpha=2.0) for one in levels],
        }.get(self.options.how.removeprefix("grid-"), lambda: None)()


class PreparedBad(PreparedAutoencoder):
    """Halves images in size."""

    def __init__(self, options):
        self.options = options

    @breaks
    def state(self):
        return {
            "nan": lambda: {"w": torch.tensor([torch.nan])},
            "numbers": lambda: {"w": 1.0},
            "list": lambda: [torch.ones(1)],
        }.get(self.options.how.removeprefix("state-"), lambda: {"w": torch.ones(1)})()

    @breaks
    def settings(self):
        return {"set": {1}} if self.options.how == "settings-set" else {"size": 2}

    @breaks
    def scale(self):
        return {
            "zero": lambda: LatentScale((0.0,), (0.0,)),
            "nan": lambda: LatentScale((float("nan"),), (1.0,)),
            "few": lambda: LatentScale((), ()),
            "many": lambda: LatentScale((0.0, 0.0), (1.0, 1.0)),
            "text": lambda: "0.18215",
        }.get(self.options.how.removeprefix("scale-"), lambda: LatentScale((0.0,), (2.0,)))()

    @breaks
    def encode(self, images):
        latents = nn.functional.avg_pool2d(images, 2)
        return {
            "large": lambda: images,
            "few": lambda: latents[1:],
            "int": lambda: latents.int(),
            "nan": lambda: latents * torch.nan,
        }.get(self.options.how.removeprefix("encode-"), lambda: latents)()

    @breaks
    def decode(self, latents):
        images = latents.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        return {
            "small": lambda: latents,
            "tuple": lambda: (images, images),
            "nan": lambda: images * torch.nan,
        }.get(self.options.how.removeprefix("decode-"), lambda: images)()


class BadAutoencoder(Autoencoder):
    """Halves images in size."""

    Options = Options

    @breaks
    def latent_shape(self, image_size, channels):
        return {
            "zero": lambda: LatentShape(0, 4),
            "half": lambda: LatentShape(channels, image_size / 2),
            "tuple": lambda: (channels, image_size // 2),
        }.get(self.options.how.removeprefix("shape-"), lambda: LatentShape(channels, image_size // 2))()

    @breaks
    def prepare(self, data, *, device):
        return "prepared" if self.options.how == "prepare-text" else PreparedBad(self.options)

    @breaks
    def restore(self, state, settings, *, device):
        return PreparedBad(self.options)


class Unbounded(BadAutoencoder):
    """Does not say whether its latents are bounded."""

    bounded = None


class Prepared(PreparedFeatures):
    """Row means."""

    def __init__(self, options):
        how, self.options = options.how, options
        identity = None if how == "identity" else "0" * 64
        details = {"of": torch.ones(1)} if how == "details" else {"of": "rows"}
        super().__init__(identity=identity, dimension="8" if how == "dimension" else 8, details=details)

    def __call__(self, images):
        if self.options.how.startswith("extract-") and self.options.how.removeprefix("extract-") in RAISES:
            RAISES[self.options.how.removeprefix("extract-")]()
        rows = images.double().mean(dim=(1, 3))
        return {
            "none": lambda: None,
            "wide": lambda: torch.cat([rows, rows], dim=1),
            "few": lambda: rows[1:],
            "nan": lambda: rows * torch.nan,
            "int": lambda: rows.long(),
            "complex": lambda: rows + 0j,
        }.get(self.options.how.removeprefix("extract-"), lambda: rows)()

    @breaks
    def notes(self):
        return "one text" if self.options.how == "notes-text" else []

    @property
    @breaks
    def offers(self):
        return {"logits"} if self.options.how == "offers-less" else frozenset({"features"})


class BadFeatures(Features):
    """Row means."""

    Options = Options
    pretrained = True

    @breaks
    def prepare(self, data, *, cache_dir, device):
        return "features" if self.options.how == "prepare-text" else Prepared(self.options)


class Nameless(BadFeatures):
    """Names its metrics by numbers."""

    @classmethod
    def metric_names(cls, name):
        return MetricNames(1, 2, 3, 4, 5)


class Mislabelled(BadFeatures):
    """Names an option that it does not have."""

    weights_option = "weights"


class Published(BadFeatures):
    """Has statistics that are none."""

    published_statistics = ("statistics",)


class Files(BadFeatures):
    """Has files that are none."""

    weights_files = ("weights.pt",)


class Labelled(BadFeatures):
    """Says in words whether it needs labels."""

    labelled = "no"


class BadExtension(Extension):
    """Does nothing, badly."""

    Options = Options

    @breaks
    def on_init(self, context):
        pass

    @breaks
    def on_start(self, context):
        pass

    @breaks
    def learning_rate(self, rate, context):
        return {"rate-negative": -rate, "rate-nan": float("nan"), "rate-text": "0.1"}.get(self.options.how, rate)

    @breaks
    def before_clipping(self, context):
        pass

    @breaks
    def reconstructed(self, name, average, newest):
        return {
            "average-none": None,
            "average-flat": average.flatten(),
            "average-double": average.double(),
        }.get(self.options.how, average)

    @breaks
    def summary(self):
        return {
            "summary-none": None,
            "summary-key": {1: 2},
            "summary-nan": {"share": float("nan")},
            "summary-flag": {"share": True},
            "summary-list": {"share": [1]},
            "summary-long": {"share": "x" * 201},
        }.get(self.options.how, {"share": np.float64(0.5), "what": "text"})

    @breaks
    def after_backward(self, context):
        pass

    @breaks
    def after_step(self, context):
        pass

    @breaks
    def state_dict(self):
        loop = {}
        loop["loop"] = loop
        return {
            "state-numpy": {"best": np.float64(1)},
            "state-class": {"best": Mute()},
            "state-set": {"best": {1, 2}},
            "state-key": {(1, 2): 3},
            "state-deep": {"list": [1, {"inner": np.arange(3)}]},
            "state-sparse": {"tensor": torch.eye(2).to_sparse()},
            "state-loop": loop,
            "state-function": {"best": deep},
            "state-list": [1],
        }.get(self.options.how, {"fine": (1, 2.0, None, "text", torch.ones(1), [True])})


class BadModels(ModelSource):
    """Reads no model, badly."""

    Options = Options

    @breaks
    def read(self):
        how = self.options.how
        changes = {
            "size": {"image_size": 0},
            "size-text": {"image_size": "8"},
            "channels": {"channels": True},
            "classes": {"num_classes": -1},
            "steps": {"steps": 1.5},
            "backbone": {"backbone": None},
            "schedule": {"schedule": 3},
            "options-list": {"backbone_options": [1]},
            "options-tensor": {"schedule_options": {"at": torch.ones(1)}},
            "prediction": {"prediction": "noise"},
            "variance": {"learned_variance": "yes"},
            "null": {"null_class": True, "num_classes": 0},
            "sigma": {"sigma_data": 0.0},
            "sigma-nan": {"sigma_data": float("nan")},
            "weights-none": {"weights": None},
            "weights-numpy": {"weights": {"a": np.ones(1)}},
            "weights-numbers": {"weights": {1: torch.ones(1)}},
            "notes-text": {"notes": "a note"},
        }.get(how, {})
        sound = {"image_size": 8, "channels": 1, "prediction": "eps", "schedule": "linear", "weights": {}}
        return ExternalModel(**{"backbone": "dit", "backbone_options": {}, **sound, **changes})


class BadEngine(Engine):
    """Runs nothing, badly."""

    Options = Options

    @breaks
    def run(self, jobs, workplace, *, on_event, stopping):
        first, *_ = [job.name for job in jobs]
        how = self.options.how
        if how == "events-none":
            on_event(None)
        if how == "idle":
            return None
        kinds = {
            "kind": ["started", "done"],
            "early": ["finished"],
            "twice": ["started", "finished", "finished"],
            "again": ["started", "started"],
            "endless": ["started", "progress"],
        }.get(how, ["started", "progress", "finished"])
        name = "other" if how == "another" else first
        reason = {"reason": 3}.get(how)
        progress = {"at": np.int64(1)} if how == "numpy" else {}
        for kind in kinds:
            on_event(JobEvent(name, kind, progress=progress if kind == "progress" else {}, reason=reason))
        return "done" if how == "run-text" else None

    @breaks
    def close(self):
        pass


class Picky(Weighting):
    """Refuses its own default."""

    space = "eps"

    class Options(PluginOptions):
        """The options."""

        power: float = Field(-1.0, gt=0, description="above 0")

    def __call__(self, snr):
        return torch.ones_like(snr)


class Endless(Picky):
    """Has a default that JSON has no number for."""

    class Options(PluginOptions):
        """The options."""

        power: float = Field(float("inf"), description="too large")


class Opaque(Picky):
    """Has a default that is no value."""

    class Options(PluginOptions):
        """The options."""

        power: object = Field(default_factory=object, description="nothing that can be stored")


class Failing(Picky):
    """Has a default that fails."""

    class Options(PluginOptions):
        """The options."""

        power: float = Field(default_factory=lambda: sys.exit(0), description="ends all")


class Another(Picky):
    """Makes something else than itself."""

    def __new__(cls, options):
        return None


class Forgetful(Picky):
    """Keeps no options."""

    Options = Options

    def __init__(self, options):
        pass


class Attribute(Picky):
    """Has an attribute in a method's place."""

    Options = Options
    at = None


class Spelling(Picky):
    """Has a space that there is not."""

    Options = Options
    space = "epsilon"


broken_command = "not an app"

ENTRY_POINTS = {
    "debiasctl.datasets": {"bad": "bad_plugins:BadDataset"},
    "debiasctl.backbones": {"bad": "bad_plugins:BadBackbone"},
    "debiasctl.schedules": {"bad": "bad_plugins:BadSchedule"},
    "debiasctl.timesteps": {"bad": "bad_plugins:BadTimesteps"},
    "debiasctl.samplers": {"bad": "bad_plugins:BadSampler"},
    "debiasctl.features": {
        "bad": "bad_plugins:BadFeatures",
        **{
            kind.__name__.lower(): f"bad_plugins:{kind.__name__}"
            for kind in (Nameless, Mislabelled, Published, Files, Labelled)
        },
    },
    "debiasctl.autoencoders": {"bad": "bad_plugins:BadAutoencoder", "unbounded": "bad_plugins:Unbounded"},
    "debiasctl.extensions": {"bad": "bad_plugins:BadExtension"},
    "debiasctl.models": {"bad": "bad_plugins:BadModels"},
    "debiasctl.engines": {"bad": "bad_plugins:BadEngine"},
    "debiasctl.weightings": {
        "bad": "bad_plugins:BadWeighting",
        "bad-learned": "bad_plugins:BadLearned",
        **{
            kind.__name__.lower(): f"bad_plugins:{kind.__name__}"
            for kind in (Picky, Endless, Opaque, Failing, Another, Forgetful, Attribute, Spelling)
        },
    },
    "debiasctl.commands": {"bad": "bad_plugins:broken_command"},
}
