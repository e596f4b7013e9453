"""What data sets return."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import Any

from debiasctl.api import (
    DatasetInfo,
    ImageProblem,
    LoadedDataset,
)
from debiasctl.boundary import ContractError, Origin, origin_of, plugin_call
from debiasctl.registry.contracts.densities import check_density
from debiasctl.registry.contracts.expected import Call, as_json, expect, short, whole_number
from debiasctl.registry.contracts.splits import checked_split


def checked_info(value: Any) -> DatasetInfo:
    """The facts about a data set, with plain numbers and a tuple of class names.

    Raises:
        ContractError: if a fact is not possible.
    """
    info: DatasetInfo = expect(value, DatasetInfo, "a DatasetInfo")
    asked = (("image_size", 1), ("channels", 1), ("num_train", 0), ("num_heldout", 0))
    numbers: dict[str, Any] = {name: whole_number(name, getattr(info, name), lowest) for name, lowest in asked}
    if numbers["channels"] not in (1, 3):
        raise ContractError(f"states channels={numbers['channels']}; images have 1 channel (grey) or 3 (RGB)")
    classes = info.classes
    if not isinstance(classes, list | tuple) or not all(isinstance(one, str) and one for one in classes):
        raise ContractError(f"states classes={classes!r:.80}, which must be a tuple of names, empty without labels")
    if len(set(classes)) < len(classes):
        raise ContractError("states a class twice; each has a name of its own")
    if info.value_type not in ("uint8", "float32"):
        raise ContractError(f"states value_type={info.value_type!r}, which must be uint8 or float32")
    return replace(info, classes=tuple(classes), **numbers)


def info(call: Call, plugin: Any, location: Any) -> DatasetInfo:
    """A DatasetInfo that is possible."""
    return checked_info(call(location))


def load(call: Call, plugin: Any, location: Any) -> LoadedDataset:
    """A LoadedDataset whose splits are what its info and `Dataset.info` state."""
    loaded: LoadedDataset = expect(call(location), LoadedDataset, "a LoadedDataset")
    info, stated = checked_info(loaded.info), plugin.info(location)
    for field in fields(DatasetInfo):
        found, before = getattr(info, field.name), getattr(stated, field.name)
        if found != before:
            raise ContractError(f"returned data with {field.name}={found!r:.80}, and its info states {before!r:.80}")
    if not isinstance(loaded.content_hash, str) or not loaded.content_hash:
        raise ContractError(f"returned {short(loaded.content_hash)} as the content_hash, which must be a SHA-256")
    origin = origin_of(plugin)
    train = checked_split(loaded.train, info, "train", num=info.num_train, origin=origin)
    heldout = checked_split(loaded.heldout, info, "heldout", num=info.num_heldout, origin=origin)
    if loaded.density is not None:
        check_density(loaded.density, info)
    return replace(loaded, info=info, train=train, heldout=heldout)


def problems(call: Call, plugin: Any, location: Any, **more: Any) -> Iterator[ImageProblem] | None:
    """An iterator of ImageProblems, which runs inside the boundary, or None."""
    found = call(location, **more)
    return None if found is None else _checked_problems(iter(expect(found, Iterable, "an iterator")), origin_of(plugin))


def _checked_problems(found: Iterator[Any], origin: Origin | None) -> Iterator[ImageProblem]:
    while True:
        with nullcontext() if origin is None else plugin_call(origin, "problems"):
            problem = next(found, None)
            if problem is None:
                return
            problem = expect(problem, ImageProblem, "an ImageProblem")
            if problem.severity not in ("error", "warning"):
                raise ContractError(f"yielded the severity {short(problem.severity)}, which must be error or warning")
        yield problem


def stored_sizes(call: Call, plugin: Any, location: Any) -> Any:
    """A Counter of sizes, or None."""
    found = call(location)
    return None if found is None else expect(found, Counter, "a Counter of (width, height)")


def recommended(call: Call, plugin: Any, location: Any) -> Mapping[str, Any]:
    """Sections with settings that JSON can hold."""
    found = expect(call(location), Mapping, 'a mapping of settings, such as {"training": {"steps": 1000}}')
    for section, settings in found.items():
        if not isinstance(section, str) or not isinstance(settings, Mapping | list | tuple | None):
            raise ContractError(
                f"returned {section!r:.40}: {short(settings)}, where a section has a mapping of settings"
            )
    plain: dict[str, Any] = as_json(_plain(found), "returned settings")
    return plain


def _plain(value: Any) -> Any:
    """The mappings in a value as dictionaries."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
