"""The registered weightings as functions to fit: options that are plain numbers are found, choices are all tried."""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from debiasctl import registry
from debiasctl.api import Prediction, Weighting, WeightingContext
from debiasctl.diffusion.weighting import bounded_snr, convert_weight
from debiasctl.errors import DebiasctlError
from debiasctl.registry.refs import PluginRef

Floats = NDArray[np.float64]
_PROBE = torch.logspace(-5, 5, 81, dtype=torch.float64)
_GRID = np.concatenate([np.linspace(-46, -14, 17)[:-1], np.linspace(-14, 14, 225), np.linspace(14, 46, 17)[1:]])
_MOST_CHOICES = 16
_TRIED = 900  # values of the options of one scheme that are tried before any is refined
_LEVELS = 4000  # of a schedule, on which schemes that depend on it are tried
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parameter:
    """A number to find: its default (None if it is required), and where it is looked for."""

    name: str
    default: float | None
    low: float
    high: float
    whole: bool = False

    @property
    def is_logarithmic(self) -> bool:
        """Whether it is looked for over orders of magnitude."""
        return self.low > 0

    def start(self) -> float:
        """Its default, or some allowed number."""
        if self.default is not None:
            return self.default
        return min(max(1.0, self.low), self.high)

    def spread(self, count: int) -> list[float]:
        """About `count` numbers over its range, and the default."""
        space = np.geomspace if self.is_logarithmic else np.linspace
        values = {float(value) for value in space(self.low, self.high, count)}
        if self.whole:
            values = {float(round(value)) for value in values}
        return sorted({*values, self.start()})

    def moved(self, value: float, by: float) -> float:
        """The number a step up or down, within its range."""
        moved = value * math.exp(by) if self.is_logarithmic else value + by
        return min(max(moved, self.low), self.high)


@dataclass(frozen=True, eq=False)
class Scheme:
    """A weighting with its choices made; `parameters` are the numbers that its weights depend on.

    `snr` is the schedule's, float64 [T], and None for a weighting that depends on none.
    """

    name: str
    plugin: Any
    choices: Mapping[str, Any]
    parameters: tuple[Parameter, ...]
    snr: Tensor | None
    num_options: int

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        levels = None if self.snr is None else self.snr.numpy().tobytes()
        return (self.plugin, repr(sorted(self.choices.items())), self.parameters, levels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scheme) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def options(self, values: Sequence[float]) -> dict[str, Any]:
        """The options that differ from their defaults."""
        found = dict(self.choices)
        for parameter, value in zip(self.parameters, values, strict=True):
            if value != parameter.default:
                found[parameter.name] = int(value) if parameter.whole or value == int(value) else value
        return found

    def reference(self, values: Sequence[float]) -> str:
        """The scheme as the command line takes it."""
        return str(PluginRef(self.name, self.options(values)))

    def make(self, values: Sequence[float]) -> Weighting:
        """The weighting with these numbers, settled for the schedule.

        Raises:
            ValueError: if the options are not valid.
            DebiasctlError: if the plugin fails.
        """
        numbers = {
            one.name: int(value) if one.whole else value for one, value in zip(self.parameters, values, strict=True)
        }
        options = self.plugin.Options.model_validate({**self.choices, **numbers}, context=registry.resolve)
        made: Weighting = self.plugin(options)
        return made if self.snr is None else made.at(WeightingContext(self.snr))

    def log_weight(self, values: Sequence[float], snr: Floats) -> Floats:
        """The log of the weight in the scheme's own unit, NaN where it is no weight."""
        try:
            weight = self.make(values)(bounded_snr(torch.from_numpy(snr)))
        except (ValueError, DebiasctlError):
            return np.full_like(snr, np.nan)
        found = torch.as_tensor(weight, dtype=torch.float64).cpu().numpy()
        if found.shape != snr.shape:
            return np.full_like(snr, np.nan)
        with np.errstate(all="ignore"):
            return np.where(np.isfinite(found) & (found > 0), np.log(found), np.nan)

    @cached_property
    def space(self) -> Any:
        """The unit that the scheme is written in."""
        return self.make([one.start() for one in self.parameters]).space

    @cached_property
    def light(self) -> "Scheme":
        """The scheme on at most _LEVELS of the schedule's levels, evenly spaced: quick, and close to it."""
        if self.snr is None or len(self.snr) <= _LEVELS:
            return self
        return replace(self, snr=self.snr[torch.linspace(0, len(self.snr) - 1, _LEVELS).round().long()])

    @cached_property
    def spread(self) -> list[tuple[float, ...]]:
        """Values of the parameters over their ranges."""
        if not self.parameters:
            return [()]
        count = max(3, min(57, int(_TRIED ** (1 / len(self.parameters)))))
        return list(itertools.product(*[one.spread(count) for one in self.parameters]))

    def tried(self, snr: Floats) -> Floats:
        """The log of the weight for each of `spread`, float64 [len(spread), *snr's shape], interpolated in log SNR."""
        table = _table(self.light)
        at = np.clip(np.log(np.maximum(snr, 1e-20)), _GRID[0], _GRID[-1])
        above = np.clip(np.searchsorted(_GRID, at), 1, len(_GRID) - 1)
        share = (at - _GRID[above - 1]) / (_GRID[above] - _GRID[above - 1])
        found: Floats = (1 - share) * table[:, above - 1] + share * table[:, above]
        return found


@lru_cache(maxsize=256)
def _table(scheme: Scheme) -> Floats:
    return np.stack([scheme.log_weight(values, np.exp(_GRID)) for values in scheme.spread])


def log_conversion(source: Any, target: Prediction, snr: Floats, *, sigma_data: float) -> Floats:
    """The log of w_target/w_source, float64 of snr's shape."""
    level = bounded_snr(torch.from_numpy(snr))
    factor = convert_weight(torch.ones_like(level), source=source, target=target, snr=level, sigma_data=sigma_data)
    found: Floats = factor.log().numpy()
    return found


def schemes(snr: Tensor) -> tuple[list[Scheme], list[str]]:
    """Every registered weighting with each choice of its options, on a schedule; and what had to be left out."""
    found: list[Scheme] = []
    notes = []
    for name in sorted({record.name for record in registry.records("weightings")}):
        try:
            plugin = registry.load("weightings", name)
            found += _schemes_of(name, plugin, bounded_snr(snr))
        except DebiasctlError as error:
            notes.append(f"the weighting '{name}' was left out: {error}")
    return found, notes


def _schemes_of(name: str, plugin: Any, snr: Tensor) -> Iterator[Scheme]:
    details = plugin.Options.model_json_schema()
    fields, required = details.get("properties", {}), set(details.get("required", []))
    numbers = {key: _parameter(key, field) for key, field in fields.items()}
    if any(numbers[key] is None for key in required):
        return  # a file or other weightings are needed
    menus = {key: _choices(field) for key, field in fields.items()}
    kept = {key: values for key, values in menus.items() if values and key not in required}
    combinations = list(itertools.islice(itertools.product(*kept.values()), _MOST_CHOICES))
    for values in combinations:
        chosen = {key: value for key, value in zip(kept, values, strict=True) if value != fields[key].get("default")}
        parameters = tuple(one for one in numbers.values() if one is not None)
        full = Scheme(name, plugin, chosen, parameters, snr, len(fields))
        try:
            base = full.make([one.start() for one in parameters])
        except ValueError:  # choices that contradict one another
            continue
        if base.is_learned or base.varies:
            continue
        shaping = tuple(one for place, one in enumerate(parameters) if _shapes(full.light, place))
        needed = [one.name for one in parameters if one.default is None and one not in shaping]
        if not needed:
            yield Scheme(name, plugin, chosen, shaping, snr if _is_settled(base, snr) else None, len(fields))


def _is_settled(weighting: Weighting, snr: Tensor) -> bool:
    """Whether a weighting depends on the schedule, and `at` has made another of it."""
    return weighting is not weighting.at(WeightingContext(snr))


def _parameter(name: str, field: Mapping[str, Any]) -> Parameter | None:
    """The number that an option is, by its JSON schema; None if it is something else."""
    if field.get("type") not in ("number", "integer"):
        return None
    low = max(field.get("minimum", -math.inf), field.get("exclusiveMinimum", -math.inf))
    high = min(field.get("maximum", math.inf), field.get("exclusiveMaximum", math.inf))
    if math.isinf(low):
        low = max(-15.0, high - 30) if math.isfinite(high) else -15.0  # the logs of the SNRs that there are
        high = min(high, 15.0)
    elif low >= 0 and high > 10:
        low, high = max(low, 1e-2), min(high, 1e5)
    elif math.isinf(high):
        high = low + 30
    default = field.get("default")
    return Parameter(name, None if default is None else float(default), low, high, field["type"] == "integer")


def _choices(field: Mapping[str, Any]) -> list[Any]:
    if field.get("type") == "boolean":
        return [False, True]
    return list(field.get("enum", []))


def _shapes(scheme: Scheme, place: int) -> bool:
    """Whether a parameter changes the weights by more than a factor, the others at their defaults."""
    values = [one.start() for one in scheme.parameters]
    snr = _PROBE.numpy()
    base = scheme.log_weight(values, snr)
    for by in (0.3, -0.3, 2.0, -2.0):
        values[place] = scheme.parameters[place].moved(scheme.parameters[place].start(), by)
        change = scheme.log_weight(values, snr) - base
        if np.isfinite(change).all() and np.ptp(change) > 1e-9:
            return True
    return False
