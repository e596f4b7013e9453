"""What feature extractors return."""

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from debiasctl.api import (
    MetricNames,
    Part,
    PreparedFeatures,
    PublishedStatistics,
    WeightsFile,
)
from debiasctl.boundary import ContractError
from debiasctl.registry.contracts.expected import Call, a_tensor, as_json, expect, short

if TYPE_CHECKING:
    from torch import Tensor


def prepare(call: Call, plugin: Any, *args: Any, **kwargs: Any) -> PreparedFeatures:
    """Features that say who they are and how long."""
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


def features(call: Call, plugin: Any, images: "Tensor") -> "Tensor":
    """Features, [N, dimension], finite."""
    return _rows(call(images), len(images), plugin.dimension)


def other_rows(call: Call, plugin: Any, images: "Tensor") -> "Tensor":
    """Logits or spatial features, [N, D], finite."""
    return _rows(call(images), len(images), None)


def parts(call: Call, plugin: Any, images: "Tensor", names: Collection[Part]) -> Mapping[Part, "Tensor"]:
    """The parts that were asked for, each [N, D] and finite."""
    found = expect(call(images, names), Mapping, "a mapping of parts")
    missing = [name for name in names if name not in found]
    if missing:
        raise ContractError(f"returned no {', '.join(missing)}, which it was asked for")
    return {name: _rows(found[name], len(images), plugin.dimension if name == "features" else None) for name in names}


def offers(call: Call, plugin: Any) -> frozenset[Part]:
    """A set of parts, the features among them."""
    offered = expect(call(), Collection, "a set of parts")
    if "features" not in offered or not set(offered) <= set(get_args(Part)):
        raise ContractError(f"is {sorted(map(str, offered))}. Allowed: features, logits and spatial, the first always")
    return frozenset(offered)


def notes(call: Call, plugin: Any) -> Sequence[str]:
    """Sentences."""
    notes = call()
    if not isinstance(notes, list | tuple) or not all(isinstance(note, str) for note in notes):
        raise ContractError(f"returned {short(notes)} in place of a list of sentences")
    return notes


def metric_names(call: Call, plugin: Any, name: str) -> MetricNames:
    """MetricNames that are text."""
    names: MetricNames = expect(call(name), MetricNames, "MetricNames")
    if not all(isinstance(value, str) and value for value in vars(names).values()):
        raise ContractError("returned MetricNames that are not all text")
    return names


def features_class(plugin: Any) -> None:
    """Check the attributes that others read of every installed extractor."""
    for name in ("labelled", "pretrained", "any_size"):
        if not isinstance(getattr(plugin, name), bool):
            raise ContractError(f"has {name}={getattr(plugin, name)!r:.40}, which must be True or False")
    options = plugin.Options.model_fields
    if plugin.weights_option is not None and plugin.weights_option not in options:
        raise ContractError(f"has weights_option={plugin.weights_option!r:.40}, which is none of its options")
    for name, kind in (("weights_files", WeightsFile), ("published_statistics", PublishedStatistics)):
        values = getattr(plugin, name)
        if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
            raise ContractError(f"has {name} that are not a tuple of {kind.__name__}")
    for statistics in plugin.published_statistics:
        if not isinstance(statistics.options, Mapping) or not set(statistics.options) <= set(options):
            raise ContractError("has published_statistics of options that it does not have")
