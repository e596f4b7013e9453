"""The conditions that figures must share to be compared, and the axes along which they may be declared to differ."""

from collections.abc import Sequence
from itertools import groupby

from pydantic import JsonValue

from debiasctl.comparison.observations import ArmData, Measured, Member
from debiasctl.errors import UsageError
from debiasctl.wording import did_you_mean, quoted

AXES: dict[str, tuple[str, ...]] = {
    "steps": ("steps",),
    "weights": ("weights",),
    "num": ("num",),
    "sampler": ("sampler",),
    "features": ("features", "features_identity"),
    "reference": ("reference", "reference_num"),
    "resolution": ("dataset", "dataset_hash", "reference_num", "class_counts"),
    "precision": ("precision",),
    "class": ("class",),
    "guide": ("guide", "guide_sha256"),
    "draws": ("draws",),
}  # an axis -> the conditions that it stands for
_ALIKE = {"ema": "weights", "n": "num", "extractor": "features", "resize": "features", "dataset": "resolution"}
_IF_ANY = AXES["guide"]  # conditions that records state only where there is something to state
_SHORT, _WHOLE = 20, 200  # letters of a condition that are shown
_FEW = 6  # members whose conditions are listed one by one


def parse_axes(axes: Sequence[str]) -> list[str]:
    """Axes by their names or other names for them.

    Raises:
        UsageError: if one is unknown.
    """
    found = [_ALIKE.get(axis.strip().lower(), axis.strip().lower()) for axis in axes]
    for axis in found:
        if axis not in AXES:
            raise UsageError(
                f"`by`: unknown axis {quoted(axis)}.{did_you_mean(axis, [*AXES, *_ALIKE])} Known: {', '.join(AXES)}"
            )
    return list(dict.fromkeys(found))


def fields_of(axes: Sequence[str]) -> list[str]:
    """The conditions that axes stand for."""
    return list(dict.fromkeys(field for axis in axes for field in AXES[axis]))


def split_by(arms: Sequence[ArmData], axes: Sequence[str]) -> tuple[list[ArmData], list[str]]:
    """The arms that differ along the declared axes too, and the conditions that no longer must be equal.

    Where several arms were measured alike along the axes, these are conditions as ever: each value has a verdict of
    its own. Otherwise every value that an arm was measured at makes an arm.
    """
    if not axes:
        return list(arms), []
    fields = fields_of(axes)
    values = [_values(arm, fields) for arm in arms]
    if len(arms) > 1 and set(values[0]).intersection(*values[1:]):
        return list(arms), []
    split = []
    for arm, found in zip(arms, values, strict=True):
        for value in found:
            named = [f"{axis}={_some(AXES[axis][0], dict(value).get(AXES[axis][0]))}" for axis in axes]
            name = (
                arm.name if len(found) == 1 and len(arms) > 1 else " ".join([*([arm.name] * (len(arms) > 1)), *named])
            )
            split.append(ArmData(name, arm.kind, arm.settings | dict(value), _only(arm.members, fields, value)))
    return _with_partners(split), fields


def _with_partners(arms: Sequence[ArmData]) -> list[ArmData]:
    """The arms that share a metric with another: a likelihood's conditions make no arm beside those of samples."""
    metrics = [{name for one in arm.members for seen in one.observations for name in seen.figures} for arm in arms]
    return [
        arm
        for number, arm in enumerate(arms)
        if any(metrics[number] & other for at, other in enumerate(metrics) if at != number)
    ] or list(arms)


def _values(arm: ArmData, fields: Sequence[str]) -> list[Measured]:
    found = [_part(one.measured, fields) for member in arm.members for one in member.observations]
    return sorted(dict.fromkeys(found), key=lambda value: [(isinstance(one, str), one or 0) for _, one in value])


def _part(measured: Measured, fields: Sequence[str]) -> Measured:
    return tuple((field, value) for field, value in measured if field in fields)


def _only(members: Sequence[Member], fields: Sequence[str], value: Measured) -> list[Member]:
    """The members that were measured at one value, with those observations alone."""
    found = []
    for member in members:
        kept = [one for one in member.observations if _part(one.measured, fields) == value]
        if kept:
            found.append(Member(member.seed, member.source, member.run, member.run_identity, member.path, kept))
    return found


def conditions_apart(members: Sequence[Member], free: Sequence[str], metric: str | None = None) -> str:
    """Which conditions of measurement make members' figures incomparable; empty if none does alone."""
    values: dict[str, list[set[str]]] = {}
    stated = {field for member in members for one in member.observations for field, _ in one.measured}
    for member in members:
        kept = [dict(one.measured) for one in member.observations if metric is None or metric in one.figures]
        fields = [*(field for one in kept for field in one), *(field for field in _IF_ANY if field in stated)]
        for field in dict.fromkeys(field for field in fields if field not in free):
            values.setdefault(field, []).append({str(one.get(field)) for one in kept})
    apart = {field: sets for field, sets in values.items() if len(sets) == len(members) and not set.intersection(*sets)}
    return "; ".join(f"{field}: {_listed(members, sets, field)}" for field, sets in apart.items())


def _listed(members: Sequence[Member], sets: Sequence[set[str]], field: str) -> str:
    pairs = [(" or ".join(_shown(found, field)), member.source) for member, found in zip(members, sets, strict=True)]
    if len(members) <= _FEW:
        return ", ".join(f"{source} {value}" for value, source in pairs)
    groups = {value: [pair[1] for pair in found] for value, found in groupby(sorted(pairs), key=lambda pair: pair[0])}
    return ", ".join(
        f"{value} ({', '.join(sources[:3])}{f' and {len(sources) - 3} more' if len(sources) > 3 else ''})"
        for value, sources in groups.items()
    )


def _shown(values: set[str], field: str) -> list[str]:
    return sorted(_some(field, value) for value in values)[:4]


def _some(field: str, value: JsonValue) -> str:
    text = str(value)
    if field in _IF_ANY and text == "None":
        return "none"
    return text if len(text) <= (_WHOLE if field == "guide" else _SHORT) else f"{text[:12]}…"
