"""The arms of a sweep with every setting resolved, so that whatever is refused is refused before anything starts."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from debiasctl.api import DataLocation, DatasetInfo, content_key
from debiasctl.errors import DebiasctlError, UsageError
from debiasctl.models.outside_code import trust_named
from debiasctl.reading.user_text import whole_number
from debiasctl.registry.refs import split_list
from debiasctl.specs.files import flatten, merge, parse_setting
from debiasctl.specs.resolve import resolve_spec, validate_spec
from debiasctl.specs.sections import RunSpec, plugin_settings
from debiasctl.sweeps.study import Origin, Place, Study
from debiasctl.wording import did_you_mean, one_line, quoted

IMAGES = "images"  # in place of training.steps: a budget in images, from which the steps follow
_SEED, _DATASET, _EXTENSIONS = "training.seed", "data.dataset", "extensions"
_OPTION = re.compile(r"\s*[A-Za-z_][A-Za-z0-9_]*\s*=")  # another option of the plugin before the comma
ARM_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9._-]*")
_SHOWN = 6  # differences
_MOST_ARMS, _LONGEST = 500, 40  # arms of a sweep; characters that a value gives to a name
_OWN = ("training.seed", "training.init_from", "content", "imported", "provenance", "schema_version")
_LEFT_TO_THE_MACHINE = {"compute.precision": "auto", "compute.compile": None}


@dataclass(frozen=True)
class Choice:
    """One setting of an arm: its full name, the value as it was given, and where it stands in a study file."""

    setting: str
    value: Any
    place: Place = ()

    @property
    def layer(self) -> dict[str, Any]:
        """The choice as nested settings."""
        if isinstance(self.value, str):
            return parse_setting(f"{self.setting}={self.value}")
        layer = self.value
        for part in reversed(self.setting.split(".")):
            layer = {part: layer}
        return dict(layer)


@dataclass(frozen=True)
class Arm:
    """An arm: its name, its own settings as given, and the spec of its runs with seed 0."""

    name: str
    choices: tuple[Choice, ...]
    spec: RunSpec

    def seeded(self, seed: int) -> RunSpec:
        """The spec of its run with a seed."""
        return self.spec.model_copy(update={"training": self.spec.training.model_copy(update={"seed": seed})})


@dataclass(frozen=True)
class Common:
    """What all arms share: layers of settings (later ones win), those of a spec file, and those advised by a trial.

    `typed` says that the arms' own settings were given in the command, and not in a study file.
    """

    layers: Sequence[Mapping[str, Any]] = ()
    file: Mapping[str, Any] | None = None
    advised: Mapping[str, Any] | None = None
    typed: bool = False


def full_name(name: str, short: Mapping[str, str]) -> str:
    """The setting that `name` names: by itself, or by a `short` name such as an option of `train`, with '-' or '_'."""
    return short.get(name.replace("-", "_"), name)


def split_values(setting: str, text: str) -> list[str]:
    """Split a list at its commas: not in brackets or quotes, nor between the options of one plugin.

    Raises:
        ReferenceSyntaxError: if a bracket or quote is left open; UsageError: if a value is empty.
    """
    values: list[str] = []
    for item in split_list(text, text):
        goes_on = ":" in values[-1] and _OPTION.match(item.partition(":")[0]) if values else None
        if goes_on and _names_plugin(setting):
            values[-1] = f"{values[-1]},{item}"
        else:
            values.append(item.strip())
    if not all(values):
        raise UsageError(f"{quoted(text)}: a value is empty. Write values separated by commas, for example a,b,c")
    return values


def _names_plugin(setting: str) -> bool:
    return setting == _EXTENSIONS or setting in plugin_settings()


def choices_of(study: Study, short: Mapping[str, str]) -> list[tuple[str | None, tuple[Choice, ...]]]:
    """The name, if it has one, and the own settings of each arm that a study asks for.

    Raises:
        UsageError: if there are too many.
    """
    if study.arms:
        return [
            (_stated_name(arm), tuple(_choices(arm, ("arms", number), short))) for number, arm in enumerate(study.arms)
        ]
    axes = [
        [Choice(full_name(name, short), value, ("grid", name, number)) for number, value in enumerate(values)]
        for name, values in study.grid.items()
    ]
    total = 1
    for axis in axes:
        total *= len(axis)
    if total > _MOST_ARMS:
        raise UsageError(f"the grid has {total:,} arms, and a sweep has at most {_MOST_ARMS}. Leave values out")
    return [(None, chosen) for chosen in product(*axes)]


def make_arms(
    study: Study, common: Common, location: DataLocation, *, short: Mapping[str, str], origin: Origin
) -> tuple[list[Arm], DatasetInfo]:
    """Resolve every arm of a study.

    Raises:
        UsageError: if a setting is not valid, or arms have one name, train the same or differ in their data; for a
            study file, the message names the line.
    """
    shared = tuple(_choices(study.settings, ("settings",), short))
    with origin.locating("arms" if study.arms else "grid"):
        asked = choices_of(study, short)
    labelled = _varying([chosen for _, chosen in asked])
    arms: list[Arm] = []
    found: DatasetInfo | None = None
    for number, (name, chosen) in enumerate(asked):
        choices, place = (*shared, *chosen), _place(study, number)
        try:
            spec, found = _resolved(study.dataset, common, choices, location, short)
            label = name or _label([one for one in chosen if one.setting in labelled], short)
            arm = Arm(label or _slug(spec.loss.weighting.name), chosen, spec)
            _check_beside(arm, arms)
        except UsageError as error:
            raise origin.located(error, _guilty(study.dataset, common, choices, location, short) or place) from error
        arms.append(arm)
    assert found is not None, "a study has an arm at least"
    return arms, found


def asked_settings(study: Study, common: Common, short: Mapping[str, str]) -> list[dict[str, Any]]:
    """What each arm of a study asks for by itself, as nested settings: no defaults, and nothing that is advised.

    A budget in images stands under `images`.

    Raises:
        UsageError: if a setting is unknown, or there are too many arms.
    """
    shared = tuple(_choices(study.settings, ("settings",), short))
    arms = []
    for _, own in choices_of(study, short):
        choices, asked = (*shared, *own), dict[str, Any]()
        for layer in (common.file or {}, *_layers(study.dataset, common, choices, short)):
            asked = merge(asked, layer)
        arms.append(asked | {one.setting: one.value for one in choices if one.setting == IMAGES})
    return arms


def run_name(sweep: str, arm: str, seed: int) -> str:
    """The name of an arm's run with a seed."""
    return f"{sweep}-{arm}-s{seed}"


def in_rounds(arms: Sequence[Any], seeds: Sequence[int]) -> Iterator[tuple[Any, int]]:
    """Arms and seeds in the order in which they are trained: all arms with the first seed first, and so on."""
    return ((arm, seed) for seed in seeds for arm in arms)


def differences(planned: RunSpec, other: RunSpec) -> list[str]:
    """The settings in which two runs' specs differ, seeds and origins aside: `NAME (planned, other)`.

    What a plan leaves to the machine, such as the precision, may be anything in the other one.
    """
    first, second = (flatten(_plain(spec)) for spec in (planned, other))
    replaced = [f"{name}." for name in plugin_settings() if first.get(f"{name}.name") != second.get(f"{name}.name")]
    found = []
    for name in sorted(first.keys() | second.keys()):
        one, two = first.get(name), second.get(name)
        if name.startswith(tuple(replaced)) and not name.endswith(".name"):
            continue  # another plugin has other options
        if one == two or any(name == own or name.startswith(f"{own}.") for own in _OWN):
            continue
        if name in _LEFT_TO_THE_MACHINE and one == _LEFT_TO_THE_MACHINE[name]:
            continue
        found.append(f"{name} ({_short(one)}, there {_short(two)})")
    return found


def listed(different: Sequence[str]) -> str:
    """What differs, the first few of it."""
    more = f"; and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
    return f"{'; '.join(different[:_SHOWN])}{more}"


def _plain(spec: RunSpec) -> dict[str, Any]:
    """A spec without the versions of its plugins, which do not ask for anything."""

    def without(value: Any) -> Any:
        if isinstance(value, Mapping):
            kept = {key: without(inner) for key, inner in value.items()}
            return {
                key: one for key, one in kept.items() if not ({"name", "options"} <= kept.keys() and key == "version")
            }
        return [without(inner) for inner in value] if isinstance(value, list) else value

    plain: dict[str, Any] = without(spec.model_dump(mode="json", exclude={"content", "imported", "provenance"}))
    return plain


def _short(value: Any) -> str:
    return one_line("nothing" if value is None else value, limit=60)


def _choices(settings: Mapping[str, Any], place: Place, short: Mapping[str, str]) -> Iterator[Choice]:
    for name, value in settings.items():
        if place[0] != "arms" or name != "name":
            yield Choice(full_name(name, short), value, (*place, name))


def _stated_name(arm: Mapping[str, Any]) -> str | None:
    name = arm.get("name")
    if name is None or isinstance(name, str):
        return name
    raise UsageError(f"an arm's name has to be text. Quote it: '{name!s:.40}'")


def _place(study: Study, number: int) -> Place:
    return (
        ("arms", number)
        if study.arms
        else ("grid",)
        if study.grid
        else ("settings",)
        if study.settings
        else ("dataset",)
    )


def _resolved(
    dataset: str, common: Common, choices: Sequence[Choice], location: DataLocation, short: Mapping[str, str]
) -> tuple[RunSpec, DatasetInfo]:
    """The spec of these settings, and the facts about its data."""
    layers = _layers(dataset, common, choices, short)
    spec, info = resolve_spec(layers, location, file=common.file, advised=common.advised)
    if common.typed:
        trust_named(spec, layers, common.file)
    for choice in choices:
        if choice.setting == IMAGES:
            steps = -(-_count(choice.value) // spec.training.batch_size)
            spec = validate_spec(merge(spec.model_dump(mode="json"), {"training": {"steps": steps}}))
    return spec, info


def _layers(
    dataset: str, common: Common, choices: Sequence[Choice], short: Mapping[str, str]
) -> list[Mapping[str, Any]]:
    """What these settings ask for, later ones over earlier ones, but for a budget in images."""
    layers = [*common.layers, *(_layer(choice, short) for choice in choices if choice.setting != IMAGES)]
    for layer in layers:
        given = flatten(layer)
        if _SEED in given:
            raise UsageError("all arms have the same seeds, which the sweep has. Give them by `seeds`")
        if _DATASET in given or f"{_DATASET}.name" in given:
            raise UsageError("all arms have one data set, whose figures are compared. Make a sweep of each data set")
    return [*layers, {"data": {"dataset": dataset}}]


def _layer(choice: Choice, short: Mapping[str, str]) -> Mapping[str, Any]:
    if "." in choice.setting:
        return choice.layer
    if choice.setting == _EXTENSIONS and isinstance(choice.value, str | list):
        return {_EXTENSIONS: choice.value}
    if isinstance(choice.value, Mapping) and choice.setting in RunSpec.model_fields:
        return {choice.setting: choice.value}
    options = [name for name, setting in short.items() if setting != _SEED]
    known = [*options, *RunSpec.model_fields]
    raise UsageError(
        f"unknown setting {quoted(choice.setting)}.{did_you_mean(choice.setting, known)} Known: options of train "
        f"({', '.join(options)}), and settings as in a spec, such as optimizer.lr"
    )


def _count(value: Any) -> int:
    number = whole_number(value) if isinstance(value, str) else value
    if type(number) is not int or number < 1:
        raise UsageError(f"`images={value}`: give a budget in images, a whole number from 1")
    return number


def _guilty(
    dataset: str, common: Common, choices: Sequence[Choice], location: DataLocation, short: Mapping[str, str]
) -> Place | None:
    """The place of the first setting that is refused by itself; None where they only contradict one another."""
    for choice in choices:
        try:
            _resolved(dataset, common, [choice], location, short)
        except DebiasctlError:
            return choice.place or None
    return None


def _check_beside(arm: Arm, others: Sequence[Arm]) -> None:
    """Check that an arm can be told from those before it, and compared with them."""
    if not ARM_NAME.fullmatch(arm.name):
        raise UsageError(
            f"{quoted(arm.name)} is not an arm's name: use letters, digits, '.', '_' and '-', starting with a letter "
            "or digit"
        )
    for other in others:
        if not differences(arm.spec, other.spec):
            raise UsageError(f"arms '{other.name}' and '{arm.name}' train the same. Leave one of them out")
        if other.name == arm.name:
            raise UsageError(f"two arms are named '{arm.name}'. Give them names of your own, in a study file")
        if other.spec.data.dataset != arm.spec.data.dataset:
            what = "; ".join(one for one in differences(other.spec, arm.spec) if one.startswith(_DATASET))
            raise UsageError(
                f"arms '{other.name}' and '{arm.name}' differ in their data: {what}. Figures of different images "
                "cannot be compared: make a sweep of each"
            )


def _varying(arms: Sequence[Sequence[Choice]]) -> set[str]:
    """The settings that are not the same in all arms."""
    values = [{one.setting: content_key(one.value) for one in arm} for arm in arms]
    return {name for arm in values for name in arm if any(other.get(name) != arm[name] for other in values)}


def _label(choices: Sequence[Choice], short: Mapping[str, str]) -> str:
    """A name made from an arm's own settings: plugins by themselves, and other values after their setting's name."""
    parts = []
    for choice in choices:
        text = str(choice.value).lower() if isinstance(choice.value, bool) else str(choice.value)
        if choice.setting == _EXTENSIONS and isinstance(choice.value, list):
            text = "-".join(map(str, choice.value)) or "none"
        brief = next(
            (name for name, full in short.items() if full == choice.setting), choice.setting.rpartition(".")[2]
        )
        is_name = _names_plugin(choice.setting) or (text[:1].isalpha() and text not in ("true", "false"))
        parts.append(_slug(text if is_name else f"{brief}{_number(text)}"))
    return "-".join(parts)


def _number(text: str) -> str:
    """1e-3 and 0.001 alike; what is no number stays as it is."""
    try:
        return f"{float(text):.15g}"
    except ValueError:
        return text


def _slug(text: str) -> str:
    """What may stand in a run's name."""
    slug = re.sub("[^A-Za-z0-9._-]+", "-", text.replace("=", "")).strip("-._")
    return slug if len(slug) <= _LONGEST else f"{slug[: _LONGEST - 5]}-{content_key(text)[:4]}"
