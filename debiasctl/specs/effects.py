"""Settings that have no effect given the other settings of a spec, and the messages about them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from debiasctl.errors import UsageError
from debiasctl.specs.plugins import complete_monitor
from debiasctl.specs.section import Section
from debiasctl.specs.sections import DecayEMA, HalfLifeEMA, MonitorSection, PowerEMA, RunSpec

_KINDS = (DecayEMA(), HalfLifeEMA(), PowerEMA())
_MONITOR = MonitorSection(every=1)
NO_MONITOR = _MONITOR.model_dump() | {"every": None}  # the settings of a spec without a monitor
_WITHOUT_EVERY = (
    "without monitor.every (training images between evaluations). Set that too (`monitor.every=IMAGES`), or leave it "
    "out"
)


@dataclass(frozen=True)
class Ineffective:
    """A setting that differs from its default but has no effect; `message` says why."""

    section: str
    name: str
    message: str


@dataclass(frozen=True)
class _Rule:
    """When a setting has no effect given the others, and the value that replaces it (normally its default)."""

    section: str
    name: str
    applies: Callable[[RunSpec], bool]
    message: str
    value: Callable[[RunSpec], Any] | None = None


_RULES = (
    _Rule(
        "model",
        "sigma_data",
        lambda spec: spec.model.prediction != "edm",
        "model.sigma_data has no effect with model.prediction={0.model.prediction}; it belongs to model.prediction=edm",
    ),
    _Rule(
        "model",
        "label_dropout",
        lambda spec: not spec.model.conditional,
        "model.label_dropout has no effect on a model without class labels. Leave it out, or set "
        "model.conditional=true",
    ),
    _Rule(
        "loss",
        "variance_weight",
        lambda spec: not spec.model.learned_variance,
        "loss.variance_weight has no effect without model.learned_variance=true",
    ),
    *(
        _Rule(
            "loss",
            name,
            lambda spec: spec.loss.metric == "mse",
            f"loss.{name} has no effect with loss.metric=mse; it belongs to loss.metric=huber and smooth-l1",
        )
        for name in ("huber_c", "huber_schedule")
    ),
    _Rule(
        "monitor",
        "grid",
        lambda spec: spec.monitor is not None and spec.monitor.grid > spec.monitor.num,
        "monitor.grid={0.monitor.grid} is more than the monitor.num={0.monitor.num} images that are drawn. "
        "Lower monitor.grid or raise monitor.num",
        lambda spec: spec.monitor and spec.monitor.num,
    ),
)


def drop_absent(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[Ineffective]]:
    """Drop settings (not yet validated) for other kinds of averages, and for a monitor if the spec has none.

    The dropped settings that differ from their defaults are returned in the list.
    """
    kept, dropped = dict(raw), []
    for section, switch, absent, why in _absent(raw):
        given = kept[section]
        names = [name for name in type(absent).model_fields if name in given and name != switch]
        dropped += [
            Ineffective(section, name, f"{section}.{name} has no effect {why}")
            for name in names
            if _differs(absent, name, given[name])
        ]
        kept[section] = {name: value for name, value in given.items() if name not in names}
    monitor = kept.get("monitor")
    if isinstance(monitor, Mapping) and monitor.get("every") is None:  # unknown keys remain and are refused later
        kept["monitor"] = {name: value for name, value in monitor.items() if name != "every"} or None
    return kept, dropped


def reset_ineffective(spec: RunSpec) -> tuple[RunSpec, list[Ineffective]]:
    """Reset settings without effect to their defaults, and list those that differed from them."""
    reset = []
    for rule in _RULES:
        section = getattr(spec, rule.section)
        if not rule.applies(spec):
            continue
        value = rule.value(spec) if rule.value else type(section).model_fields[rule.name].default
        if getattr(section, rule.name) != value:
            reset.append(Ineffective(rule.section, rule.name, rule.message.format(spec)))
            spec = spec.model_copy(update={rule.section: section.model_copy(update={rule.name: value})})
    return spec, reset


def _absent(raw: Mapping[str, Any]) -> Iterator[tuple[str, str, Section, str]]:
    """Yield each absent section: its name, the setting that would choose it, its defaults, and the reason."""
    ema, monitor = raw.get("ema"), raw.get("monitor")
    if isinstance(ema, Mapping):
        kind = ema.get("kind", DecayEMA().kind)
        for other in _KINDS:
            if other.kind != kind:
                yield "ema", "kind", other, f"with ema.kind={kind}; choose ema.kind={other.kind}, or leave it out"
    if isinstance(monitor, Mapping) and monitor.get("every") is None:
        yield "monitor", "every", _MONITOR, _WITHOUT_EVERY


def _differs(default: Section, name: str, value: Any) -> bool:
    """Whether a value differs from the default after validation; an invalid value differs."""
    try:
        other = type(default).model_validate({**default.model_dump(), name: value})
        if isinstance(default, MonitorSection) and isinstance(other, MonitorSection) and other != default:
            default, other = complete_monitor(default), complete_monitor(other)
    except (ValidationError, UsageError):
        return True
    return bool(getattr(other, name) != getattr(default, name))
