"""What is said of a spec's settings is true of the spec."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from debiasctl.errors import SpecError, UsageError
from debiasctl.registry.describe import FieldDescription
from debiasctl.specs.describe import describe_spec
from debiasctl.specs.files import merge, parse_setting
from debiasctl.specs.resolve import validate_spec
from debiasctl.specs.sections import RunSpec

SETTINGS = [field for section in describe_spec() for field in section.settings]
FILLED_IN = ("content", "imported", "provenance", "schema_version")
PLAIN = validate_spec({"data": {"dataset": "digits"}})


def given(field: FieldDescription, value: Any) -> RunSpec:
    """The spec with one setting, as --set takes it; as a file holds it where the setting is in no section."""
    text = value if isinstance(value, str) else json.dumps(value)
    setting = parse_setting(f"{field.name}={text}") if "." in field.name else {field.name: value}
    return validate_spec(merge(holding(field).model_dump(mode="json", exclude_unset=True), setting))


def holding(field: FieldDescription) -> RunSpec:
    """The spec with defaults alone that has the setting: some belong to a kind of average or to a monitor."""
    sections: dict[str, Any] = {}
    if field.name.startswith("ema.") and not field.name.endswith(".kind"):
        sections["ema"] = {"kind": field.description.partition(":")[0]}
    if field.name.startswith("monitor."):
        sections["monitor"] = {"every": 1}
    return validate_spec({"data": {"dataset": "digits"}} | sections)


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, inner in value.items():
        if isinstance(inner, Mapping) and "name" not in inner and name != "packages":
            yield from flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_setting_of_a_spec_is_described_once() -> None:
    names = [field.name for field in SETTINGS]
    assert len(names) == len(set(names))
    specs = [holding(field) for field in SETTINGS]  # with every kind of average, and with a monitor
    stored = {name for spec in specs for name in flat(spec.model_dump(mode="json"))}
    assert stored - {"content", "monitor"} <= set(names)
    assert {"ema.lengths", "ema.rampup_ratio", "ema.decay", "monitor.num"} <= stored
    assert all(field.description for field in SETTINGS)
    assert all(section.summary for section in describe_spec())


@pytest.mark.parametrize(
    "field",
    [field for field in SETTINGS if not field.required and not field.name.startswith(FILLED_IN)],
    ids=lambda field: field.name,
)
def test_the_default_is_what_a_spec_has(field: FieldDescription) -> None:
    assert given(field, field.default) == holding(field)


BOUNDED = [
    (field, *bound)
    for field in SETTINGS
    for bound in re.findall(r"([<>]=?) ([\d.]+)", re.sub(r"from (\S+) to (\S+)", r">= \1 <= \2", field.type))
]


@pytest.mark.parametrize("field, mark, bound", BOUNDED, ids=lambda value: getattr(value, "name", str(value)))
def test_what_is_out_of_range_is_refused(field: FieldDescription, mark: str, bound: str) -> None:
    number = int(bound) if bound.isdecimal() else float(bound)
    wrong: float = {">": number, "<": number, ">=": number - 1, "<=": number + 1}[mark]
    with pytest.raises(SpecError, match=f"{field.name}.*should be {'greater' if '>' in mark else 'less'} than"):
        given(field, [wrong] * 2 if field.type.startswith("list") else wrong)


def test_the_bounds_are_there() -> None:
    types = {field.name: field.type for field in SETTINGS}
    assert types["model.label_dropout"] == "number >= 0 < 1"
    assert types["loss.normalize"] == "mean|none"
    assert types["optimizer.clip_grad_norm"] == "number > 0 or null"
    assert types["loss.weighting"] == "plugin"
    assert types["monitor.features"] == "plugin or null"
    assert types["extensions"] == "list of plugin"
    assert types["ema.lengths"] == "list of number from 0.001 to 0.28"
    assert types["training.init_from"] == "section or null"
    assert types["ema.kind"] == "decay|half-life|power"
    assert len(BOUNDED) > 30


def test_each_kind_of_average_has_its_own_settings() -> None:
    (section,) = describe_spec("ema")
    assert section.summary == "Moving averages of the weights, by their kind."
    assert [(field.name, field.description.partition(":")[0]) for field in section.settings[1:]] == [
        ("ema.decay", "decay"),
        ("ema.warmup", "decay"),
        ("ema.half_life_images", "half-life"),
        ("ema.rampup_ratio", "half-life"),
        ("ema.lengths", "power"),
        ("ema.snapshot_every", "power"),
    ]


def test_a_choice_is_one_of_those_named() -> None:
    for field in SETTINGS:
        if "|" in field.type and not field.name.startswith(FILLED_IN):
            for choice in field.type.split("|"):
                given(field, choice)
            with pytest.raises(SpecError, match=field.name):
                given(field, "neither")


def test_one_section() -> None:
    (section,) = describe_spec("optimizer")
    assert section.name == "optimizer"
    assert section.summary == "AdamW and its learning rate."
    assert [field.name for field in section.settings][:2] == ["optimizer.lr", "optimizer.betas"]
    with pytest.raises(UsageError, match=r"unknown section 'optimiser'\. Did you mean 'optimizer'\? Known: .*training"):
        describe_spec("optimiser")
