"""What holds of autoencoders."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import LoadedDataset, PreparedAutoencoder
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.testing.laws import Broken, Laws, Subject, described, expect_close, expect_same, same
from debiasctl.testing.tiny import tiny_dataset

laws = Laws(may_lack=True)
_SHAPES = ((8, 1), (8, 3), (16, 3), (32, 3), (64, 3))  # of images: size, channels
_CPU = torch.device("cpu")
_NUM = 6
_ROUNDING = 1e-4


def _data(subject: Subject) -> LoadedDataset:
    """The images that are given, or the smallest tiny ones that it encodes."""
    given: LoadedDataset | None = subject.more.get("data")
    return given if given is not None else subject.once("data", lambda: _smallest(subject.make()))


def _smallest(plugin: Any) -> LoadedDataset:
    for number, (size, channels) in enumerate(_SHAPES, start=1):
        try:
            plugin.latent_shape(size, channels)
        except UsageError:
            if number == len(_SHAPES):
                raise
            continue
        return tiny_dataset(size, channels)
    raise AssertionError("the last shape's refusal is raised")


def _prepared(subject: Subject) -> PreparedAutoencoder:
    """The prepared autoencoder, made once for all laws; what making it raised is raised for each of them."""

    def prepare() -> PreparedAutoencoder | DebiasctlError:
        try:
            made: PreparedAutoencoder = subject.make().prepare(_data(subject), device=_CPU)
        except DebiasctlError as error:
            return error
        return made

    found: PreparedAutoencoder | DebiasctlError = subject.once("prepared", prepare)
    if isinstance(found, DebiasctlError):
        raise found
    return found


def _images(subject: Subject) -> Tensor:
    data = _data(subject)
    images = data.heldout.images(torch.arange(min(_NUM, len(data.heldout))))
    return images if images.is_floating_point() else images.float() / 127.5 - 1


def _parts(subject: Subject) -> Iterator[tuple[str, Any, Tensor]]:
    """Its two maps, each with something to map."""
    prepared, images = _prepared(subject), _images(subject)
    with torch.no_grad():
        latents = prepared.encode(images)
    yield "encode", prepared.encode, images
    yield "decode", prepared.decode, latents


@laws.law("Its latents are float32 of the shape that it states, and decode to images of the shape encoded")
def _form(subject: Subject) -> None:
    images = _images(subject)
    shape = subject.make().latent_shape(images.shape[-1], images.shape[1])
    with torch.no_grad():
        latents = _prepared(subject).encode(images)
        decoded = _prepared(subject).decode(latents)
    wanted = (len(images), shape.channels, shape.size, shape.size)
    if latents.dtype != torch.float32 or tuple(latents.shape) != wanted:
        raise Broken(f"encode returned {described(latents)}, and latent_shape states float32 {list(wanted)}")
    if decoded.dtype != torch.float32 or decoded.shape != images.shape:
        raise Broken(f"decode returned {described(decoded)} for images {described(images)}")
    if not bool(latents.isfinite().all()) or not bool(decoded.isfinite().all()):
        raise Broken("latents or decoded images hold NaN or infinity")


@laws.law("Decoded images are nearer to those encoded than their mean is")
def _round_trip(subject: Subject) -> None:
    images = _images(subject)
    with torch.no_grad():
        decoded = _prepared(subject).decode(_prepared(subject).encode(images)).clamp(-1, 1)
    apart, spread = (float(one.square().mean().sqrt()) for one in (decoded - images, images - images.mean()))
    if not apart < spread:
        raise Broken(f"the root mean square error is {apart:.3g}, and that of the mean value {spread:.3g}")


@laws.law("Its maps give the same every time, and leave what they are given as it is")
def _deterministic(subject: Subject) -> None:
    for name, mapping, values in _parts(subject):
        before = values.clone()
        with torch.no_grad():
            first = mapping(values)
            expect_same(values, before, f"{name} changed its argument in place")
            expect_same(mapping(values), first, f"two calls of {name}")


@laws.law("What an image is mapped to does not depend on the others that are mapped with it")
def _apart(subject: Subject) -> None:
    for name, mapping, values in _parts(subject):
        with torch.no_grad():
            expect_close(mapping(values[1:2]), mapping(values)[1:2], f"{name} of the second alone", tolerance=_ROUNDING)


@laws.law("Its state and settings restore it without the images, bit by bit")
def _restored(subject: Subject) -> None:
    prepared = _prepared(subject)
    state = {name: tensor.clone() for name, tensor in prepared.state().items()}
    try:
        again = subject.make().restore(state, dict(prepared.settings()), device=_CPU)
    except DebiasctlError as error:  # it lacks nothing: all of this is its own
        raise Broken(f"restore refused the state and settings of the one prepared ({error})") from error
    for name, mapping, values in _parts(subject):
        with torch.no_grad():
            expect_same(getattr(again, name)(values), mapping(values), f"{name} of the one restored")
    if not same(dict(again.state()), state) or dict(again.settings()) != dict(prepared.settings()):
        raise Broken("the one restored has another state or other settings")
    if again.scale() != prepared.scale():
        raise Broken(f"the one restored has the scale {again.scale()}, and was {prepared.scale()}")


@laws.law("Fitted to the same images twice, it is the same")
def _fitted_twice(subject: Subject) -> None:
    again = subject.make().prepare(_data(subject), device=_CPU)
    if not same(dict(again.state()), dict(_prepared(subject).state())):
        raise Broken("prepare returned another state for the same images")


@laws.law("Latents that are said to be bounded lie in [-1, 1]")
def _bounded(subject: Subject) -> None:
    plugin: Any = subject.plugin
    if not plugin.bounded:
        return
    prepared = _prepared(subject)
    with torch.no_grad():
        latents = prepared.encode(_images(subject))
    scale = prepared.scale()
    if scale is not None:
        shift, factor = (torch.tensor(one).view(1, -1, 1, 1) for one in (scale.shift, scale.scale))
        latents = (latents - shift) * factor
    if float(latents.abs().max()) > 1 + 1e-6:
        raise Broken(f"after shift and scale a latent is {float(latents.abs().max()):.4g}")
