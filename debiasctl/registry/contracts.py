"""What each kind's methods return, checked where it crosses the boundary; torch is imported only inside calls."""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from operator import index
from typing import TYPE_CHECKING, Any, get_args

from debiasctl.api import (
    DatasetInfo,
    Learned,
    Level,
    LoadedDataset,
    MetricNames,
    Part,
    PreparedFeatures,
    Space,
    TimestepContext,
    Weighting,
)
from debiasctl.boundary import ContractError, Origin, mark, origin_of
from debiasctl.registry.splits import checked_split

if TYPE_CHECKING:
    from torch import Tensor

Call = Callable[..., Any]


def short(value: object) -> str:
    """What a value is, in a few words."""
    if value is None or isinstance(value, bool):
        return str(value)
    name = type(value).__name__
    shape = getattr(value, "shape", None)
    if shape is None:
        return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
    return f"{str(getattr(value, 'dtype', name)).removeprefix('torch.')} {list(shape)}"


def expect(value: Any, kind: type | tuple[type, ...], asked: str) -> Any:
    """The value, if it is of that type.

    Raises:
        ContractError: if it is not.
    """
    if not isinstance(value, kind):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    return value


def a_tensor(value: Any, asked: str, *, shape: Sequence[int] | None = None, dtype: str = "float64") -> "Tensor":
    """The value, if it is a tensor of that shape and dtype ("float" for any floating-point one).

    Raises:
        ContractError: if it is not.
    """
    import torch

    if not isinstance(value, torch.Tensor):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    fits = value.is_floating_point() if dtype == "float" else value.dtype == getattr(torch, dtype)
    if not fits or (shape is not None and tuple(value.shape) != tuple(shape)):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    return value


def as_json(value: Any, what: str) -> Any:
    """The value, if JSON can hold it.

    Raises:
        ContractError: if it cannot.
    """
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ContractError(f"{what} that JSON cannot hold ({error})") from error
    return value


def _flag(call: Call, plugin: Any) -> bool:
    return bool(expect(call(), bool, "True or False"))


def _mapping(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    return expect(call(*args, **kwargs), Mapping, "a mapping")


# ---------------------------------------------------------------- data sets


def checked_info(value: Any) -> DatasetInfo:
    """The facts about a data set, with plain numbers and a tuple of class names.

    Raises:
        ContractError: if a fact is not possible.
    """
    info: DatasetInfo = expect(value, DatasetInfo, "a DatasetInfo")
    numbers: dict[str, Any] = {}
    for name, lowest in (("image_size", 1), ("channels", 1), ("num_train", 0), ("num_heldout", 0)):
        given = getattr(info, name)
        try:
            numbers[name] = index(given)
        except TypeError:
            numbers[name] = lowest - 1
        if numbers[name] < lowest or isinstance(given, bool):
            raise ContractError(f"states {name}={given!r}, which must be a whole number from {lowest} on")
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


def _info(call: Call, plugin: Any, location: Any) -> DatasetInfo:
    return checked_info(call(location))


def _load(call: Call, plugin: Any, location: Any) -> LoadedDataset:
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
    return replace(loaded, info=info, train=train, heldout=heldout)


def _recommended(call: Call, plugin: Any, location: Any) -> Mapping[str, Any]:
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


# ---------------------------------------------------------------- networks, and what is trained beside them


def _module(value: Any, origin: Origin | None, asked: str) -> Any:
    """A module that can be trained and stored, marked as the plugin's."""
    import torch
    from torch.nn.parameter import is_lazy

    module = expect(value, torch.nn.Module, asked)
    if any(is_lazy(parameter) for parameter in module.parameters()):
        raise ContractError("returned a module with lazy parameters, whose shapes are not known")
    if not any(parameter.requires_grad for parameter in module.parameters()):
        raise ContractError("returned a module without parameters to train")
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided or tensor.is_complex():
            raise ContractError(f"returned a module whose state '{name}' cannot be stored: {short(tensor)}")
    if origin is not None:
        mark(module, origin)
    return module


def _build(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    return _module(call(*args, **kwargs), origin_of(plugin), "a torch.nn.Module")


def _resolve_options(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Any:
    return expect(call(*args, **kwargs), plugin.Options, "its Options")


def _set_memory_format(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> bool:
    return bool(expect(call(*args, **kwargs), bool, "True or False"))


def _learned(call: Call, plugin: Any) -> Learned:
    learned: Learned = expect(call(), Learned, "a Learned (a weighting that is not learned leaves this method out)")
    _module(learned.module, origin_of(plugin), "a torch.nn.Module in Learned")
    rate = learned.learning_rate
    if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 < rate < math.inf:
        raise ContractError(f"returned learning_rate={rate!r:.40}, which must be a number above 0")
    return learned


# ---------------------------------------------------------------- weightings, schedules and timesteps


def _space(call: Call, plugin: Any) -> str:
    space = call()
    if space not in get_args(Space):
        raise ContractError(f"is {space!r:.40}. Allowed: {', '.join(get_args(Space))}")
    return str(space)


def _weights(call: Call, plugin: Any, snr: Any) -> Any:
    import torch

    from debiasctl.diffusion.weighting import weight_fault

    if not isinstance(snr, torch.Tensor):
        return call(snr)
    given = snr.clone()
    weight = torch.as_tensor(call(given), device=snr.device)
    if not given.equal(snr):
        raise ContractError("changes the snr that it is given in place. Work on a copy, snr.clone()")
    if weight.is_complex():
        raise ContractError("returned complex weights, whose imaginary part has no meaning")
    weight = weight.to(torch.float64)
    fault = weight_fault(weight, snr)
    if fault is not None:
        raise ContractError(fault)
    return weight


def _at(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> Weighting:
    settled: Weighting = expect(call(*args, **kwargs), Weighting, "a Weighting")
    return settled


def _alphas_cumprod(call: Call, plugin: Any) -> "Tensor":
    import torch

    size = plugin.options.num_timesteps
    table = a_tensor(call(), f"a table for num_timesteps={size}, float64 [{size}]", shape=(size,))
    before = torch.cat([table.new_ones(1), table[:-1]])
    if not bool(((table < before) & (table >= 0)).all()):  # NaN compares false
        raise ContractError("must fall strictly from below 1 to 0 or above; check the schedule's options")
    return table


def _probabilities(call: Call, plugin: Any, context: TimestepContext) -> "Tensor":
    shape = context.snr.shape
    copied = TimestepContext(context.snr.clone(), context.slope.clone(), context.weight.clone())
    found = a_tensor(call(copied), f"a probability for each t, float64 {list(shape)}", shape=shape, dtype="float")
    if not bool((found >= 0).all()):
        raise ContractError("returned a probability that is NaN or negative")
    return found.double()


def _spread(call: Call, plugin: Any, draws: "Tensor", *args: Any, **kwargs: Any) -> "Tensor":
    shape = draws.shape
    found = a_tensor(call(draws, *args, **kwargs), f"uniform numbers, float64 {list(shape)}", shape=shape)
    if not bool(((found >= 0) & (found < 1)).all()):  # NaN compares false
        raise ContractError("returned numbers outside [0, 1), where it spreads uniform numbers")
    return found


# ---------------------------------------------------------------- samplers


def _sample(call: Call, plugin: Any, denoiser: Any, x: "Tensor", **kwargs: Any) -> "Tensor":
    shape = tuple(x.shape)
    return a_tensor(call(denoiser, x, **kwargs), f"images of the noise's shape, float {list(shape)}", shape=shape,
                    dtype="float")  # fmt: skip


def _grid(call: Call, plugin: Any, process: Any, num_steps: int) -> Sequence[Level] | None:
    levels = call(process, num_steps)
    if levels is None:
        return None
    expect(levels, Sequence, "a sequence of Levels, or None")
    for level in levels:
        expect(level, Level, "a Level")
    if len(levels) != num_steps + 1:
        raise ContractError(f"returned {len(levels)} levels for {num_steps} steps, which visit {num_steps + 1}")
    falling = all(one.t > after.t for one, after in pairwise(levels))
    on_circle = all(abs(one.alpha**2 + one.sigma**2 - 1) < 1e-4 for one in levels)
    if not falling or not on_circle or levels[0].t > process.num_timesteps:
        raise ContractError("returned levels that are not noise levels from the noisiest to the cleanest")
    return list(levels)


# ---------------------------------------------------------------- features


def _prepare(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> PreparedFeatures:
    prepared: PreparedFeatures = expect(call(*args, **kwargs), PreparedFeatures, "PreparedFeatures")
    found = {name: getattr(prepared, name, None) for name in ("identity", "dimension", "details")}
    identity, dimension, details = found.values()
    if not isinstance(identity, str) or not identity:
        raise ContractError(f"returned features whose identity is {short(identity)}, not a SHA-256")
    if not isinstance(dimension, int) or isinstance(dimension, bool) or dimension < 1:
        raise ContractError(f"returned features whose dimension is {dimension!r:.40}, not a number from 1 on")
    as_json(dict(expect(details, Mapping, "details in a mapping")), "returned features with details")
    return prepared


def _rows(value: Any, num: int, dimension: int | None) -> "Tensor":
    asked = f"features, float64 [{num}, {'D' if dimension is None else dimension}]"
    rows = a_tensor(value, asked, dtype="float")
    if rows.ndim != 2 or len(rows) != num or dimension not in (None, rows.shape[1]):
        raise ContractError(f"returned {short(value)} in place of {asked}")
    if not bool(rows.isfinite().all()):
        raise ContractError("returned NaN or infinity in the features")
    return rows


def _features(call: Call, plugin: Any, images: "Tensor") -> "Tensor":
    return _rows(call(images), len(images), plugin.dimension)


def _other_rows(call: Call, plugin: Any, images: "Tensor") -> "Tensor":
    return _rows(call(images), len(images), None)


def _parts(call: Call, plugin: Any, images: "Tensor", names: Collection[Part]) -> Mapping[Part, "Tensor"]:
    found = expect(call(images, names), Mapping, "a mapping of parts")
    missing = [name for name in names if name not in found]
    if missing:
        raise ContractError(f"returned no {', '.join(missing)}, which it was asked for")
    return {name: _rows(found[name], len(images), plugin.dimension if name == "features" else None) for name in names}


def _offers(call: Call, plugin: Any) -> frozenset[Part]:
    offered = expect(call(), Collection, "a set of parts")
    if "features" not in offered or not set(offered) <= set(get_args(Part)):
        raise ContractError(f"is {sorted(map(str, offered))}. Allowed: features, logits and spatial, the first always")
    return frozenset(offered)


def _notes(call: Call, plugin: Any) -> Sequence[str]:
    notes = call()
    if not isinstance(notes, list | tuple) or not all(isinstance(note, str) for note in notes):
        raise ContractError(f"returned {short(notes)} in place of a list of sentences")
    return notes


def _metric_names(call: Call, plugin: Any, name: str) -> MetricNames:
    names: MetricNames = expect(call(name), MetricNames, "MetricNames")
    if not all(isinstance(value, str) and value for value in vars(names).values()):
        raise ContractError("returned MetricNames that are not all text")
    return names


Around = Callable[..., Any]
CONTRACTS: Mapping[tuple[str, str], Around] = {
    ("Dataset", "info"): _info,
    ("Dataset", "load"): _load,
    ("Dataset", "recommended"): _recommended,
    ("Backbone", "build"): _build,
    ("Backbone", "resolve_options"): _resolve_options,
    ("Backbone", "set_memory_format"): _set_memory_format,
    ("Weighting", "space"): _space,
    ("Weighting", "__call__"): _weights,
    ("Weighting", "at"): _at,
    ("Weighting", "learned"): _learned,
    ("Schedule", "alphas_cumprod"): _alphas_cumprod,
    ("TimestepDistribution", "probabilities"): _probabilities,
    ("TimestepDistribution", "base"): _probabilities,
    ("TimestepDistribution", "spread"): _spread,
    ("TimestepDistribution", "state_dict"): _mapping,
    ("Extension", "state_dict"): _mapping,
    ("Sampler", "__call__"): _sample,
    ("Sampler", "grid"): _grid,
    ("Features", "prepare"): _prepare,
    ("Features", "metric_names"): _metric_names,
    ("PreparedFeatures", "__call__"): _features,
    ("PreparedFeatures", "logits"): _other_rows,
    ("PreparedFeatures", "spatial"): _other_rows,
    ("PreparedFeatures", "parts"): _parts,
    ("PreparedFeatures", "offers"): _offers,
    ("PreparedFeatures", "notes"): _notes,
    **{
        (base, name): _flag
        for base, names in {
            "Weighting": ("varies", "is_learned"),
            "TimestepDistribution": ("corrected", "varies", "observes"),
            "PreparedFeatures": ("verified",),
        }.items()
        for name in names
    },
}
