"""Arms: runs whose specs differ in the seed alone. They are named by the settings in which they differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from debiasctl.comparison.known_images import known_by_content
from debiasctl.errors import ReferenceSyntaxError
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.runs.store import Run
from debiasctl.specs.sections import RunSpec

SEED = "training.seed"
IMPORTED = "imported.name"  # of a model from elsewhere, which is an arm of its own
EXTENSIONS = "extensions"  # a list of references
# these stand in an arm's name without that of the setting
_FIRST = (IMPORTED, "loss.weighting", "data.dataset", EXTENSIONS)
_RECORDS = (  # what is recorded of a training, which changes no weight
    "training.log_every", "training.heldout_every", "training.heldout_images", "training.checkpoint_every",
    "training.keep_last", "training.keep_steps", "monitor",
)  # fmt: skip
_MOST_NAMED = 3  # settings in an arm's name; of more those that tell the arms apart
_PLUGIN = {"name", "options", "distribution", "version"}
_MOST_LISTED = 5  # arms in one sentence
Settings = dict[str, JsonValue]


@dataclass(frozen=True)
class ArmRuns:
    """An arm's runs by ascending seed, and its values of the settings in which the arms differ.

    `batch_size` is None for a model from elsewhere, of whose training nothing is known.
    """

    name: str
    settings: Settings
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]
    batch_size: int | None
    dataset: str
    content_hash: str | None


@dataclass(frozen=True)
class Arms:
    """Arms in the order in which their first runs are given; `differing` are the settings in which they differ.

    `warnings` name runs that do not count, `notes` what differs within an arm without being part of its training.
    """

    arms: tuple[ArmRuns, ...]
    differing: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]


def arms_of(runs: Sequence[Run], specs: Sequence[RunSpec]) -> Arms:
    """Group runs into arms. Of runs with equal specs and seeds, which say no more than one, the first counts."""
    specs = known_by_content(specs)
    settings = [settings_of(spec) for spec in specs]
    groups: dict[str, list[int]] = {}
    for number, one in enumerate(settings):
        groups.setdefault(repr([(key, one[key]) for key in sorted(one) if not _is_record(key)]), []).append(number)
    members = [sorted(group, key=lambda number: specs[number].training.seed) for group in groups.values()]
    firsts = [settings[group[0]] for group in members]
    warnings = [text for group in members for text in _doubled([(specs[n].training.seed, runs[n]) for n in group])]
    members = [_without_doubled(group, specs) for group in members]
    differing = differing_settings(firsts)
    values: list[Settings] = [{field: one.get(field) for field in differing} for one in firsts]
    names = _names(values, [specs[group[0]] for group in members])
    arms = tuple(
        ArmRuns(
            name,
            value,
            tuple(runs[number] for number in group),
            tuple(specs[number].training.seed for number in group),
            None if specs[group[0]].imported is not None else specs[group[0]].training.batch_size,
            specs[group[0]].data.dataset.name,
            content.content_hash if (content := specs[group[0]].content) is not None else None,
        )
        for name, value, group in zip(names, values, members, strict=True)
    )
    notes = [_within(arm, [settings[number] for number in group]) for arm, group in zip(arms, members, strict=True)]
    return Arms(arms, tuple(differing), tuple(warnings), tuple(filter(None, notes)))


def settings_of(spec: RunSpec) -> Settings:
    """A spec's settings, `section.field` -> value, a plugin as its reference; without the seed and provenance.

    For a model from elsewhere, they are its name and those settings that are known: its training is not.
    """
    found = _flat(spec.model_dump(mode="json", exclude={"provenance", "schema_version", "imported"}), "")
    found.pop(SEED)
    return known_settings(spec, found)


def known_settings(spec: RunSpec, settings: Settings) -> Settings:
    """The settings that the network is known to have been trained with, and the name of a model from elsewhere.

    If it has no data set, nothing about its images is known.
    """
    if spec.imported is None:
        return settings
    without_images = spec.content is not None and not spec.content.num_train
    about_images = ("data.dataset", "content.") if without_images else ()
    known = {name: value for name, value in settings.items() if spec.is_known(name)}
    return {IMPORTED: spec.imported.name} | {
        name: value for name, value in known.items() if not name.startswith(about_images)
    }


def _flat(value: Any, name: str) -> Settings:
    if not isinstance(value, dict) or not value:
        return {name: [_reference(one) for one in value] if isinstance(value, list) else value}
    if set(value) == _PLUGIN:
        return {name: _reference(value)}
    return {key: one for inner, at in value.items() for key, one in _flat(at, f"{name}.{inner}".lstrip(".")).items()}


def _reference(value: Any) -> JsonValue:
    """A plugin as it is typed; which version of its package offered it is provenance.

    An option that is unset is left out: an older version may not have had it.
    """
    is_plugin = isinstance(value, dict) and set(value) == _PLUGIN
    return str(PluginRef(value["name"], _set_ones(value["options"] or {}))) if is_plugin else value


def _set_ones(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _is_record(field: str) -> bool:
    return any(field == name or field.startswith(f"{name}.") for name in _RECORDS)


def differing_settings(settings: Sequence[Settings]) -> list[str]:
    """The settings that are not equal in all, without those of the content that follow from the data set."""
    fields = dict.fromkeys(field for one in settings for field in one if not _is_record(field))
    apart = [field for field in fields if not alike(field, settings)]
    content = [field for field in apart if field.startswith("content.")]
    other = [field for field in apart if field not in content]
    if content and not any(field.startswith("data.") for field in other):
        leading = ("content.content_hash", "content.latents.sha256")
        other += [field for field in content if field in leading] or content
    return sorted(other, key=lambda field: _FIRST.index(field) if field in _FIRST else len(_FIRST))


def alike(field: str, settings: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all have the same value of a setting; of a model from elsewhere, most are unknown."""
    values = [one.get(field) for one in settings if field in one or IMPORTED not in one]
    return all(value == values[0] for value in values)


def _names(values: Sequence[Settings], specs: Sequence[RunSpec]) -> list[str]:
    """A name for each arm: a model's from elsewhere is its own, and the others' are of what tells them apart."""
    imported = [spec.imported.name if spec.imported is not None else None for spec in specs]
    own = [one for one, name in zip(values, imported, strict=True) if name is None]
    apart = differing_settings(own) if own else []
    weightings = [str(spec.loss.weighting.name) for spec in specs if spec.imported is None]
    trained = iter(
        arm_names([{field: one.get(field) for field in apart} for one in own]) if len(own) > 1 else weightings
    )
    names = [next(trained) if name is None else name for name in imported]
    return names if len(set(names)) == len(names) else arm_names(values)


def arm_names(settings: Sequence[Settings]) -> list[str]:
    """A name for each arm, of the settings in which they differ: `debiased`, `constant lr=0.001`."""
    fields = list(settings[0])
    for missing in ("", "none"):
        for number in range(1, len(fields) + 1):
            if number < len(fields) <= _MOST_NAMED:
                continue  # all of few are named
            names = [_name(one, fields[:number], settings, missing) for one in settings]
            if len(set(names)) == len(names) and all(names):
                return names
    return [f"arm {number + 1}" for number in range(len(settings))]


def _name(one: Settings, fields: Sequence[str], settings: Sequence[Settings], missing: str) -> str:
    parts = []
    for field in fields:
        values = [other[field] for other in settings]
        value = one[field]
        if field == EXTENSIONS and isinstance(value, list):
            every = [item for other in values if isinstance(other, list) for item in other]
            text = " + ".join(_short(item, every) for item in value) or missing
        else:
            text = missing if value is None else _short(value, values)
        if text:
            last = field.rpartition(".")[2]
            alike = [other for other in settings[0] if other.rpartition(".")[2] == last]
            label = "" if field in _FIRST else f"{last if len(alike) == 1 else field}="
            parts.append(label + text)
    return " ".join(parts)


def _short(value: JsonValue, values: Sequence[JsonValue]) -> str:
    """A value as text; of a plugin its name, with those options in which it differs from the same plugin elsewhere."""
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    try:
        reference = parse_ref(value)
        others = [parse_ref(other) for other in values if isinstance(other, str)]
    except ReferenceSyntaxError:
        return value
    same = [other.options for other in others if other.name == reference.name]
    apart = {key: item for key, item in reference.options.items() if any(one.get(key) != item for one in same)}
    return str(PluginRef(reference.name, apart))


def _doubled(seeds: Sequence[tuple[int, Run]]) -> list[str]:
    """A warning for each seed of an arm that several runs have."""
    names: dict[int, list[str]] = {}
    for seed, run in seeds:
        names.setdefault(seed, []).append(run.name)
    return [
        f"the runs {', '.join(found)} have equal specs and the same seed {seed}, and together say no more than one of "
        f"them: {found[0]} alone counts"
        for seed, found in names.items()
        if len(found) > 1
    ]


def _without_doubled(group: Sequence[int], specs: Sequence[RunSpec]) -> list[int]:
    return list({specs[number].training.seed: number for number in reversed(group)}.values())[::-1]


def _within(arm: ArmRuns, settings: Sequence[Settings]) -> str:
    """A note on what differs within an arm."""
    fields = dict.fromkeys(field for one in settings for field in one)
    apart = [field for field in fields if any(one.get(field) != settings[0].get(field) for one in settings)]
    return f"the runs of '{arm.name}' differ in {', '.join(apart)}, which changes no weight" if apart else ""


def confounded(settings: Mapping[str, Settings], reference: str) -> list[str]:
    """A warning for arms, by name, that differ from the reference in more than one setting.

    Arms without settings, made elsewhere, are not among them.
    """
    names: dict[tuple[str, ...], list[str]] = {}
    for name, one in settings.items() if reference in settings else ():
        apart = tuple(field for field, value in one.items() if value != settings[reference].get(field))
        if len(apart) > 1:
            names.setdefault(apart, []).append(name)
    return [
        f"{_listed(found)} {'differ' if len(found) > 1 else 'differs'} from '{reference}' in {len(apart)} settings "
        f"({', '.join(apart)}): a difference between them may come from any of these"
        for apart, found in names.items()
    ]


def _listed(names: Sequence[str]) -> str:
    quoted = [f"'{name}'" for name in names[:_MOST_LISTED]]
    rest = len(names) - len(quoted)
    return ", ".join(quoted) + (f" and {rest} more" if rest else "")


def seeds_apart(seeds: Mapping[str, Sequence[int]]) -> str | None:
    """Why arms are not paired: which seeds each has, or None if all have the same."""
    if len({frozenset(one) for one in seeds.values()}) == 1:
        return None
    return "; ".join(f"{name}: {', '.join(map(str, one))}" for name, one in seeds.items())
