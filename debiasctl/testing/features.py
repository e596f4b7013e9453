"""What holds of feature extractors."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from debiasctl import registry
from debiasctl.api import DataError, LoadedDataset, PreparedFeatures
from debiasctl.errors import DebiasctlError
from debiasctl.paths import cache_dir
from debiasctl.testing.laws import Broken, Laws, Subject, described, expect_close, expect_same
from debiasctl.testing.tiny import no_files, tiny_dataset

laws = Laws(may_lack=True)
_CPU = torch.device("cpu")
_NUM = 6
_ROUNDING = 1e-4


def _data(subject: Subject) -> LoadedDataset:
    """The images that are given, or tiny ones; real ones, with more of them, for an extractor that learns of labels."""
    given: LoadedDataset | None = subject.more.get("data")
    if given is not None:
        return given
    plugin: Any = subject.plugin
    data: LoadedDataset = subject.once("data", lambda: _digits() if plugin.labelled else tiny_dataset(16, 3, num=64))
    return data


def _digits() -> LoadedDataset:
    try:
        loaded: LoadedDataset = registry.create("datasets", "digits").load(no_files())
    except DataError:
        return tiny_dataset(16, 3, num=64)
    return loaded


def _prepare(subject: Subject) -> PreparedFeatures:
    """Prepared with a cache of its own; files of weights are those that are there."""
    plugin: Any = subject.plugin
    with tempfile.TemporaryDirectory() as folder:
        cache = cache_dir() if plugin.weights_files else Path(folder)
        prepared: PreparedFeatures = subject.make().prepare(_data(subject), cache_dir=cache, device=_CPU)
        return prepared


def _prepared(subject: Subject) -> PreparedFeatures:
    def prepare() -> PreparedFeatures | DebiasctlError:
        try:
            return _prepare(subject)
        except DebiasctlError as error:
            return error

    found: PreparedFeatures | DebiasctlError = subject.once("prepared", prepare)
    if isinstance(found, DebiasctlError):
        raise found
    return found


def _images(subject: Subject) -> Tensor:
    data = _data(subject)
    return data.heldout.images(torch.arange(min(_NUM, len(data.heldout))))


def _parts(prepared: PreparedFeatures, images: Tensor) -> dict[Any, Tensor]:
    with torch.no_grad():
        return dict(prepared.parts(images, sorted(prepared.offers)))


@laws.law("Its features are finite, float64, and as long as it states")
def _form(subject: Subject) -> None:
    prepared, images = _prepared(subject), _images(subject)
    for name, rows in _parts(prepared, images).items():
        if rows.dtype != torch.float64 or rows.ndim != 2 or len(rows) != len(images):
            raise Broken(f"{name} of {len(images)} images are {described(rows)}, not float64 [{len(images)}, D]")
        if not bool(rows.isfinite().all()):
            raise Broken(f"{name} hold NaN or infinity")
    with torch.no_grad():
        alone = prepared(images)
    if alone.shape[1] != prepared.dimension:
        raise Broken(f"features have {alone.shape[1]} numbers, and dimension is {prepared.dimension}")
    expect_close(alone, _parts(prepared, images)["features"], "called, and as a part", tolerance=_ROUNDING)


@laws.law("Equal images give equal features, and are left as they are")
def _deterministic(subject: Subject) -> None:
    prepared, images = _prepared(subject), _images(subject)
    before, first = images.clone(), _parts(prepared, images)
    expect_same(images, before, "it changed the images in place")
    for name, rows in _parts(prepared, images).items():
        expect_same(rows, first[name], f"two calls, {name}")


@laws.law("An image's features do not depend on the others that are extracted with it")
def _apart(subject: Subject) -> None:
    prepared, images = _prepared(subject), _images(subject)
    together = _parts(prepared, images)
    for name, rows in _parts(prepared, images[1:2]).items():
        expect_close(rows, together[name][1:2], f"{name} of the second image alone", tolerance=_ROUNDING)


@laws.law("Different images have different features")
def _tell_apart(subject: Subject) -> None:
    prepared, images = _prepared(subject), _images(subject)
    rows = _parts(prepared, images)["features"]
    if bool((rows == rows[:1]).all()) and not bool((images == images[:1]).all()):
        raise Broken(f"{len(images)} different images all have the same features")


@laws.law("Prepared twice, it is the same: its identity, and its features")
def _twice(subject: Subject) -> None:
    first, again, images = _prepared(subject), _prepare(subject), _images(subject)
    if first.identity != again.identity:
        raise Broken(f"the identity was {first.identity[:16]}…, and then {again.identity[:16]}…")
    for name, rows in _parts(again, images).items():
        expect_same(rows, _parts(first, images)[name], f"{name} of the one prepared again")


@laws.law("Its metrics have names of their own, and what it says of itself is text")
def _names(subject: Subject) -> None:
    plugin: Any = subject.plugin
    names = list(vars(plugin.metric_names(subject.record.name)).values())
    if len(set(names)) < len(names):
        raise Broken(f"two metrics have one name: {', '.join(names)}")
    _prepared(subject).notes()
