"""What holds of backbones."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from debiasctl.api import ImageShape
from debiasctl.errors import UsageError
from debiasctl.testing.laws import (
    Broken,
    Inapplicable,
    Laws,
    Subject,
    Unchecked,
    as_stored,
    described,
    expect_close,
    expect_same,
)

laws = Laws()
_SIZES = (8, 16, 32, 64, 256)
_NUM, _CLASSES = 3, 4
_ROUNDING = 1e-4  # by which sums in another order differ


def _shapes(subject: Subject) -> Iterator[ImageShape]:
    """The shapes to build for: the smallest square images that it takes, grey and coloured, and with a variance.

    A network may refuse to predict the variance.
    """
    given: ImageShape | None = subject.more.get("shape")
    if given is not None:
        yield given
        return
    size = subject.once("size", lambda: _smallest(subject))
    yield ImageShape(size, 1, 1)
    yield ImageShape(size, 3, subject.once("outputs", lambda: 3 if _refusal(subject, ImageShape(size, 3, 6)) else 6))


def _smallest(subject: Subject) -> int:
    refusal = None
    for size in _SIZES:
        refusal = _refusal(subject, ImageShape(size, 1, 1))
        if refusal is None:
            return size
    raise Broken(f"it refuses grey images of {', '.join(map(str, _SIZES))} pixels: {refusal}. Give check a `shape`")


def _refusal(subject: Subject, shape: ImageShape) -> str | None:
    """What a backbone says against networks for a shape, or None."""
    try:
        with torch.device("meta"):
            _resolved(subject, shape).build(shape, 0)
    except UsageError as error:
        return str(error)
    except Exception:  # noqa: BLE001 - not every network can be built without numbers
        return None
    return None


def _resolved(subject: Subject, shape: ImageShape) -> Any:
    plugin: Any = subject.plugin
    return subject.make(plugin.resolve_options(subject.options, shape))


def _network(subject: Subject, shape: ImageShape, num_classes: int, *, seed: int = 0, random: bool = True) -> nn.Module:
    """A network in training mode; with `random` weights every layer matters, as many begin switched off."""
    torch.manual_seed(seed)
    network: nn.Module = _resolved(subject, shape).build(shape, num_classes)
    if random:
        generator = torch.Generator().manual_seed(seed + 1)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))
    return network


def _arguments(shape: ImageShape, num_classes: int, num: int = _NUM) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(num, shape.in_channels, shape.image_size, shape.image_size, generator=generator)
    level = 999 * torch.rand(num, generator=generator)
    return (x, level, torch.arange(num) % num_classes) if num_classes else (x, level)


def _every(subject: Subject) -> Iterator[tuple[ImageShape, int, str]]:
    for shape in _shapes(subject):
        for num_classes in (0, _CLASSES):
            yield shape, num_classes, f"for {shape} and {num_classes} classes"


def _one(subject: Subject, num_classes: int = _CLASSES) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """One network in evaluation mode, and arguments for it."""
    shape = next(_shapes(subject))
    return _network(subject, shape, num_classes).eval(), _arguments(shape, num_classes)


@laws.law("Its networks return finite numbers of the shape that was asked for, with and without classes")
def _forward(subject: Subject) -> None:
    for shape, num_classes, where in _every(subject):
        network = _network(subject, shape, num_classes, random=False)
        wanted = (_NUM, shape.out_channels, shape.image_size, shape.image_size)
        found = network(*_arguments(shape, num_classes))
        if not isinstance(found, Tensor) or not found.is_floating_point() or tuple(found.shape) != wanted:
            raise Broken(f"{where} forward returned {described(found)}, not float {list(wanted)}")
        if not bool(found.isfinite().all()):
            raise Broken(f"{where} forward returned NaN or infinity with new weights")


@laws.law("Every parameter gets a gradient")
def _gradients(subject: Subject) -> None:
    listed = set(subject.more.get("without_gradient", ()))
    for shape, num_classes, where in _every(subject):
        network = _network(subject, shape, num_classes)
        torch.autograd.backward(network(*_arguments(shape, num_classes)).square().mean())
        idle = {name for name, one in network.named_parameters() if one.requires_grad and one.grad is None}
        if idle - listed:
            raise Broken(f"{where} none reaches {', '.join(sorted(idle - listed)[:5])}")
        if any(one.grad is not None and not bool(one.grad.isfinite().all()) for one in network.parameters()):
            raise Broken(f"{where} a gradient is NaN or infinite")


@laws.law("Its output depends on the image, on the noise level, and on the labels")
def _inputs(subject: Subject) -> None:
    network, (x, level, labels) = _one(subject)
    with torch.no_grad():
        before = network(x, level, labels)
        changed = {
            "x": network(x.flip(0), level, labels),
            "the noise level": network(x, (level + 400) % 999, labels),
            "the labels": network(x, level, (labels + 1) % _CLASSES),
        }
    for name, after in changed.items():
        if torch.equal(before, after):
            raise Broken(f"with random weights, the output is the same when {name} is another")


@laws.law("In evaluation mode, equal arguments give equal outputs")
def _deterministic(subject: Subject) -> None:
    network, arguments = _one(subject)
    with torch.no_grad():
        expect_same(network(*arguments), network(*arguments), "two forward passes in evaluation mode")


@laws.law("In evaluation mode, an image's output does not depend on the others in the batch")
def _apart(subject: Subject) -> None:
    network, arguments = _one(subject)
    with torch.no_grad():
        together = network(*arguments)
        alone = network(*(one[1:2] for one in arguments))
    expect_close(alone, together[1:2], "the second image of three, alone", tolerance=_ROUNDING)


@laws.law("It leaves its arguments as they are")
def _kept(subject: Subject) -> None:
    network, arguments = _one(subject)
    before = [one.clone() for one in arguments]
    with torch.no_grad():
        network(*arguments)
    for name, one, kept in zip(("x", "noise_level", "labels"), arguments, before, strict=True):
        expect_same(one, kept, f"forward changed {name} in place")


@laws.law("With the same seed, networks begin with the same weights; with another, with others")
def _seeded(subject: Subject) -> None:
    shape = next(_shapes(subject))
    first, again, other = (_network(subject, shape, _CLASSES, seed=seed, random=False) for seed in (0, 0, 1))
    states = [one.state_dict() for one in (first, again, other)]
    for name, tensor in states[0].items():
        expect_same(tensor, states[1][name], f"{name} of two networks with the same seed")
    if all(torch.equal(tensor, states[2][name]) for name, tensor in states[0].items()):
        raise Broken("all weights are the same with another seed: draw them from torch's global generator")


@laws.law("Its weights can be stored and loaded into another network, which then computes the same")
def _state(subject: Subject) -> None:
    shape = next(_shapes(subject))
    network, arguments = _one(subject)
    other = _network(subject, shape, _CLASSES, seed=5).eval()
    other.load_state_dict(as_stored(network.state_dict()))
    with torch.no_grad():
        expect_same(other(*arguments), network(*arguments), "a network with another's state_dict")


@laws.law("A copy computes the same, and keeps its own weights")
def _copied(subject: Subject) -> None:
    network, arguments = _one(subject)
    twin = copy.deepcopy(network)
    with torch.no_grad():
        before = network(*arguments)
        expect_same(twin(*arguments), before, "a deepcopy")
        for parameter in twin.parameters():
            parameter.zero_()
        expect_same(network(*arguments), before, "the network, after the weights of its deepcopy were changed")


@laws.law("Pickled, as processes send it, it computes the same")
def _pickled(subject: Subject) -> None:
    network, arguments = _one(subject)
    if any("<locals>" in type(module).__qualname__ for module in network.modules()):
        raise Unchecked("a module's class is defined inside a function, where pickle does not find it")
    with torch.no_grad():
        expect_same(pickle.loads(pickle.dumps(network))(*arguments), network(*arguments), "a pickled copy")


@laws.law("It runs in float64 and in bfloat16 under autocast")
def _precisions(subject: Subject) -> None:
    network, (x, level, labels) = _one(subject)
    with torch.no_grad():
        single = network(x, level, labels)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = network(x, level, labels)
        double = network.double()(x.double(), level.double(), labels)
    expect_close(double.float(), single, "float64 and float32", tolerance=1e-2)
    if not bool(low.isfinite().all()):
        raise Broken("under autocast to bfloat16 it returned NaN or infinity")


@laws.law("In another memory layout it computes the same")
def _layout(subject: Subject) -> None:
    shape = next(_shapes(subject))
    network, arguments = _one(subject)
    if not _resolved(subject, shape).set_memory_format(copy.deepcopy(network), torch.channels_last):
        raise Inapplicable("it has no choice of layouts: set_memory_format returns False")
    changed = copy.deepcopy(network)
    _resolved(subject, shape).set_memory_format(changed, torch.channels_last)
    with torch.no_grad():
        expect_close(changed(*arguments), network(*arguments), "channels_last and not", tolerance=_ROUNDING)


@laws.law("Options that depend on the image size are filled in once and for all")
def _options(subject: Subject) -> None:
    plugin: Any = subject.plugin
    for shape in _shapes(subject):
        once = plugin.resolve_options(subject.options, shape)
        if plugin.resolve_options(once, shape) != once:
            raise Broken(f"resolve_options for {shape}, given what it returned, returned something else")
