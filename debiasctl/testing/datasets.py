"""What holds of data sets."""

import pickle
import re
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from debiasctl.api import DataLocation, ImageProblem, LoadedDataset, Split
from debiasctl.errors import DebiasctlError
from debiasctl.specs.resolve import resolve_spec
from debiasctl.testing.laws import Broken, Inapplicable, Laws, Subject, Unchecked, described, expect_same, same
from debiasctl.testing.tiny import no_files

laws = Laws(may_lack=True)
_HASH = re.compile(r"(files:)?[0-9a-f]{64}")
_LOOKED_AT = 24  # images of a split
_PROBLEMS = 1000  # files that are looked at for problems


def _location(subject: Subject) -> DataLocation:
    found: DataLocation = subject.more.get("location") or no_files()
    return found


def _load(subject: Subject) -> LoadedDataset:
    """The data set, loaded once for all laws; what loading raised is raised for each of them."""

    def load() -> LoadedDataset | DebiasctlError:
        try:
            loaded: LoadedDataset = subject.make().load(_location(subject))
        except DebiasctlError as error:
            return error
        return loaded

    found: LoadedDataset | DebiasctlError = subject.once("loaded", load)
    if isinstance(found, DebiasctlError):
        raise found
    return found


def _splits(subject: Subject) -> Iterator[tuple[str, Split, Tensor]]:
    """The splits that are not empty, with indices that are spread over each."""
    loaded = _load(subject)
    for name, split in (("train", loaded.train), ("heldout", loaded.heldout)):
        size = len(split)
        if size:
            count = min(size, _LOOKED_AT)
            yield name, split, torch.arange(count) * size // count


@laws.law("What it says of itself before reading is the same every time")
def _info(subject: Subject) -> None:
    location = _location(subject)
    first, again = subject.make().info(location), subject.make().info(location)
    if first != again:
        raise Broken(f"info stated {first}, and then {again}")


@laws.law("What it loads is what it says of itself")
def _loads(subject: Subject) -> None:
    loaded = _load(subject)
    if loaded.info != subject.make().info(_location(subject)):
        raise Broken(f"info states {subject.make().info(_location(subject))}, and load().info {loaded.info}")
    if not _HASH.fullmatch(loaded.content_hash):
        raise Broken(
            f"the content_hash is {loaded.content_hash!r:.80}, and should be a SHA-256 in hexadecimal, such as "
            "debiasctl.api.hash_splits computes"
        )


@laws.law("Its hash and its images are the same every time it is loaded")
def _stable(subject: Subject) -> None:
    first, again = _load(subject), subject.make().load(_location(subject))
    if first.content_hash != again.content_hash:
        raise Broken(f"the content_hash was {first.content_hash[:16]}…, and then {again.content_hash[:16]}…")
    others = {"train": again.train, "heldout": again.heldout}
    for name, split, indices in _splits(subject):
        expect_same(split.images(indices), others[name].images(indices), f"the {name} images, loaded twice")


@laws.law("Its images have the dtype, shape and range that it states, and so have its labels")
def _form(subject: Subject) -> None:
    loaded = _load(subject)
    info = loaded.info
    shape = (info.channels, info.image_size, info.image_size)
    for name, split, indices in _splits(subject):
        images, labels = split.images(indices), split.labels(indices)
        found = (str(images.dtype).removeprefix("torch."), tuple(images.shape))
        if found != (info.value_type, (len(indices), *shape)):
            raise Broken(f"{name} gave {described(images)} where info states {info.value_type} [N, {shape}]")
        if images.is_floating_point() and not bool((images.abs() <= 1).all()):
            raise Broken(f"{name} gave values from {float(images.min()):.3g} to {float(images.max()):.3g}")
        if (labels is None) != (not info.classes):
            raise Broken(f"{name} gave labels {described(labels)}, and info states {len(info.classes)} classes")
    if len(loaded.train) and not loaded.train.images(torch.zeros(0, dtype=torch.int64)).shape[1:] == shape:
        raise Broken("for no indices it gave images of another shape")


@laws.law("Images can be read in any order, and again and again")
def _any_order(subject: Subject) -> None:
    for name, split, indices in _splits(subject):
        images, labels = split.images(indices), split.labels(indices)
        orders = {"in reverse order": torch.arange(len(indices)).flip(0), "the first one thrice": torch.zeros(3).long()}
        for how, order in orders.items():
            expect_same(split.images(indices[order]), images[order], f"{name} images {how}")
            if labels is not None:
                again = split.labels(indices[order])
                assert again is not None, "the data set has labels"
                expect_same(again, labels[order], f"{name} labels {how}")
        one = split.images(indices[-1:])
        expect_same(one, images[-1:], f"the {name} image {int(indices[-1])} alone, and with others")


@laws.law("Changing the images that were read does not change the data set")
def _own_images(subject: Subject) -> None:
    for name, split, indices in _splits(subject):
        before = split.images(indices).clone()
        split.images(indices).zero_()
        expect_same(split.images(indices), before, f"the {name} images, after those that were read were overwritten")


@laws.law("The counts of classes that it states are right")
def _counts(subject: Subject) -> None:
    loaded = _load(subject)
    stated = loaded.info.class_counts
    if not stated:
        raise Inapplicable("it states no counts of classes")
    labels = loaded.train.labels(torch.arange(len(loaded.train)))
    found = () if labels is None else tuple(torch.bincount(labels, minlength=len(loaded.info.classes)).tolist())
    if found != tuple(stated):
        raise Broken(f"class_counts states {tuple(stated)[:12]}, and there are {found[:12]}")


@laws.law("The data set and what it loads survive pickling, as processes send them")
def _pickled(subject: Subject) -> None:
    made, loaded = subject.make(), _load(subject)
    plain: Any = subject.plugin.__mro__[1]
    if "<locals>" in plain.__qualname__:
        raise Unchecked("the class is defined inside a function, where pickle does not find it")
    again = pickle.loads(pickle.dumps(made))
    if again.info(_location(subject)) != made.info(_location(subject)):
        raise Broken("a pickled copy of the plugin states another info")
    for name, split, indices in _splits(subject):
        copy = pickle.loads(pickle.dumps(split))
        expect_same(copy.images(indices), split.images(indices), f"a pickled copy of the {name} split")
    if not same(pickle.loads(pickle.dumps(loaded.info)), loaded.info):
        raise Broken("a pickled copy of its info differs")


@laws.law("The settings that it recommends make a valid spec")
def _recommends(subject: Subject) -> None:
    location = _location(subject)
    subject.make().info(location)
    try:
        resolve_spec([{"data": {"dataset": subject.reference()}}], location)
    except DebiasctlError as error:
        raise Broken(f"recommended() returned {dict(subject.make().recommended(location))}: {error}") from error


@laws.law("Problems of its files are reported as such")
def _problems(subject: Subject) -> None:
    _load(subject)
    found = subject.make().problems(_location(subject), progress=lambda done, total: None)
    if found is None:
        raise Inapplicable("it has no file for each image: problems returns None")
    for number, problem in enumerate(found):
        if not isinstance(problem, ImageProblem):
            raise Broken(f"problems yielded {described(problem)}")
        if number >= _PROBLEMS:
            break
