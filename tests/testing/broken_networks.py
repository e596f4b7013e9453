"""Backbones, extensions, model sources and engines that break one law each."""

import itertools
import os
from pathlib import Path

import torch
from broken import breaks
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import nn

from debiasctl import registry
from debiasctl.api import (
    Backbone,
    Engine,
    Extension,
    ExternalModel,
    ImageShape,
    JobEvent,
    ModelSource,
    PluginOptions,
    perform,
)

COUNTS = itertools.count()


class Net(nn.Module):
    """A convolution, and a bias of the noise level and the class."""

    def __init__(self, shape, num_classes):
        super().__init__()
        self.first = nn.Conv2d(shape.in_channels, 8, 3, padding=1)
        self.last = nn.Conv2d(8, shape.out_channels, 3, padding=1)
        self.level = nn.Linear(1, 8)
        self.classes = nn.Embedding(num_classes, 8) if num_classes else None

    def forward(self, x, noise_level, labels=None):
        bias = self.level(noise_level[:, None] / 1000)
        if self.classes is not None:
            bias = bias + self.classes(labels)
        return self.last(torch.tanh(self.first(x) + bias[:, :, None, None]))


class Small(Backbone):
    """Two convolutions."""

    net = Net

    def build(self, shape, num_classes):
        return self.net(shape, num_classes)


class Wide(Net):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x, noise_level, labels).repeat(1, 2, 1, 1)


class Idle(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.unused = nn.Parameter(torch.zeros(1))


class Timeless(Net):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x, noise_level * 0, labels)


class Noisy(Net):
    def forward(self, x, noise_level, labels=None):
        found = super().forward(x, noise_level, labels)
        return found + 0.01 * torch.randn_like(found)


class Batched(Net):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x - x.mean(), noise_level, labels)


class Overwrites(Net):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x.mul_(0.5), noise_level, labels)


class OwnSeed(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        nn.init.constant_(self.level.bias, next(COUNTS))


class HiddenWeight(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.register_buffer("gain", torch.rand(1) + 1, persistent=False)

    def forward(self, x, noise_level, labels=None):
        return super().forward(x * self.gain, noise_level, labels)


class Twin(Net):
    def __deepcopy__(self, memo):
        return self


class HoldsFunction(Net):
    def __init__(self, shape, num_classes):
        super().__init__(shape, num_classes)
        self.scale = lambda: 1


class SingleOnly(Net):
    def forward(self, x, noise_level, labels=None):
        return super().forward(x.float(), noise_level, labels)


def backbone(law, net, **attributes):
    """Register a backbone that builds this."""
    about = {"net": net, "__doc__": "A broken one.", "__module__": __name__, **attributes}
    breaks("backbones", law)(type(f"Builds{net.__name__}", (Small,), about))


backbone("Its networks return finite numbers", Wide)
backbone("Every parameter gets a gradient", Idle)
backbone("Its output depends", Timeless)
backbone("In evaluation mode, equal arguments", Noisy)
backbone("In evaluation mode, an image's output", Batched)
backbone("It leaves its arguments", Overwrites)
backbone("With the same seed", OwnSeed)
backbone("Its weights can be stored", HiddenWeight)
backbone("A copy computes the same", Twin)
backbone("Pickled, as processes send it", HoldsFunction)
backbone("It runs in float64", SingleOnly)


@breaks("backbones", "In another memory layout")
class Turned(Small):
    """Computes something else in another layout."""

    def set_memory_format(self, network, memory_format):
        with torch.no_grad():
            network.level.bias.add_(1)
        return True


@breaks("backbones", "Options that depend on the image size")
class Deeper(Small):
    """Grows whenever it is resolved."""

    class Options(PluginOptions):
        """Its options."""

        depth: int = Field(1, description="depth")

    @classmethod
    def resolve_options(cls, options, shape):
        return options.model_copy(update={"depth": options.depth + 1})


class Counts(Extension):
    """Counts steps, and shrinks the weights by the count."""

    def __init__(self, options):
        super().__init__(options)
        self.count = 0

    def after_step(self, context):
        self.count += 1
        with torch.no_grad():
            for parameter in context.model.parameters():
                parameter.mul_(1 - 1e-3 * self.count)

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


@breaks("extensions", "A training with it ends")
class Blows(Extension):
    """Makes a weight infinite at the last step."""

    def after_step(self, context):
        if context.step == 3:
            with torch.no_grad():
                next(context.model.parameters()).fill_(torch.inf)


@breaks("extensions", "It works in a training of a single step")
class NeedsTwo(Counts):
    """Has no state after the first step."""

    def state_dict(self):
        if self.count == 1:
            raise ValueError("too early")
        return super().state_dict()


@breaks("extensions", "Its state can be stored")
class Looks(Counts):
    """Counts how often it is read."""

    def state_dict(self):
        self.count += 1
        return {"count": self.count}


@breaks("extensions", "Its state, loaded into another")
class Ignores(Counts):
    """Restores nothing."""

    def load_state_dict(self, state):
        pass


@breaks("extensions", "A training with it that was killed")
class Stateless(Counts):
    """Stores nothing."""

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


SMALL = {"patch_size": 4, "hidden_size": 16, "depth": 1, "num_heads": 2}


class Makes(ModelSource):
    """A tiny transformer."""

    class Options(PluginOptions):
        """Its options."""

        path: Path | None = Field(None, description="a file")

    changes: dict = {}  # noqa: RUF012

    def read(self):
        torch.manual_seed(0)
        if self.options.path is not None:
            weights = load_file(self.options.path)
        else:
            weights = registry.create("backbones", {"name": "dit", "options": SMALL}).build(ImageShape(8, 1, 1), 0)
            weights = weights.state_dict()
        return self.changed(
            {"backbone": "dit", "backbone_options": SMALL, "weights": weights, "image_size": 8, "channels": 1,
             "prediction": "eps", "schedule": "linear"}
        )  # fmt: skip

    def changed(self, facts):
        return ExternalModel(**facts)

    @classmethod
    def write(cls, model, path):
        save_file({name: tensor.contiguous() for name, tensor in model.weights.items()}, path)
        return ()


@breaks("models", "Read twice")
class Fresh(Makes):
    """Other weights every time."""

    def changed(self, facts):
        return ExternalModel(**facts | {"sigma_data": 0.5 + next(COUNTS)})


@breaks("models", "Its weights are those")
class Lacks(Makes):
    """Without one of its tensors."""

    def changed(self, facts):
        return ExternalModel(**facts | {"weights": dict(list(facts["weights"].items())[1:])})


@breaks("models", "Its schedule is")
class Unscheduled(Makes):
    """With a schedule that there is not."""

    def changed(self, facts):
        return ExternalModel(**facts | {"schedule": "banana"})


@breaks("models", "What it writes")
class Halves(Makes):
    """Writes half precision."""

    @classmethod
    def write(cls, model, path):
        save_file({name: tensor.half().float() for name, tensor in model.weights.items()}, path)
        return ()


class Here(Engine):
    """In this process."""

    def run(self, jobs, workplace, *, on_event, stopping):
        for job in self.order(jobs):
            if stopping() and not self.deaf:
                return
            on_event(JobEvent(job.name, "started"))
            on_event(self.done(job, on_event))

    deaf = False

    def order(self, jobs):
        return jobs

    def done(self, job, on_event):
        return perform(job, lambda progress: on_event(JobEvent(job.name, "progress", progress=progress)))


@breaks("engines", "It runs every job once, in order")
class Backwards(Here):
    """Last first."""

    def order(self, jobs):
        return jobs[::-1]


@breaks("engines", "A job that fails is reported")
class Cheerful(Here):
    """All is well."""

    def done(self, job, on_event):
        super().done(job, on_event)
        return JobEvent(job.name, "finished")


@breaks("engines", "A job whose process dies")
class Forks(Here):
    """In a process for each job, whose end it does not look at."""

    def done(self, job, on_event):
        child = os.fork()
        if child == 0:
            perform(job, lambda progress: None)
            os._exit(0)
        os.waitpid(child, 0)
        return JobEvent(job.name, "finished")


@breaks("engines", "Once it is to stop")
class Deaf(Here):
    """Goes on."""

    deaf = True


@breaks("engines", "It runs jobs again")
class Once(Here):
    """Works once."""

    used = False

    def order(self, jobs):
        if self.used:
            raise ValueError("used up")
        self.used = True
        return jobs
