"""Hostile but well-formed text is refused at once, in one line that names the place."""

import sys
from pathlib import Path
from typing import Any

import pytest

from debiasctl.errors import DebiasctlError, ReferenceSyntaxError, SpecError
from debiasctl.reading.documents import parse_json, parse_toml, parse_yaml
from debiasctl.registry.refs import parse_ref
from debiasctl.specs.files import parse_setting, read_spec_file
from debiasctl.specs.resolve import validate_spec
from debiasctl.wording import one_line, quoted

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"a": 1, "a": 2}', "the key 'a' is given twice"),
        ('{"training": {"seed": 1, "steps": 2, "seed": 3}}', "the key 'seed' is given twice in training"),
        ('{"x": [{"y": {"k": 1, "k": 1}}]}', "the key 'k' is given twice in x.0.y"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested too deeply"),
        ("[1e400]", "the number 1e400 is beyond the range"),
        ("[-1e400]", "the number -1e400 is beyond the range"),
        ("[NaN]", "NaN is not JSON"),
        ("9" * 500, "has 500 digits"),
        ("9" * 5_000, "has 5,000 digits"),
        ("", "Expecting value"),
    ],
)
def test_json_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$") as caught:
        parse_json(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: 1\na: 2", "the key 'a' is given twice (line 2, column 1)"),
        ("t:\n  seed: 1\n  seed: 2", "the key 'seed' is given twice (line 3, column 3)"),
        ("x: !!int ''", "tags such as 'tag:yaml.org,2002:int' are not read"),
        ("x: !!python/object/apply:os.system [id]", "tags such as"),
        ("x: !own 1", "tags such as '!own'"),
        (LAUGHS, "its aliases stand for more than"),
        ("a: &a [*a]", "an alias names a part of the document that contains it"),
        ("a: &a {b: *a}", "an alias names a part"),
        ("[" * 50_000, "nested too deeply"),
        ("- " * 500, "nested too deeply"),
        ("{a: " * 500, "nested too deeply"),
        ("? [1, 2]\n: 3", "a key has to be text"),
        ("1: 2", "a key has to be text"),
        ("a: 1\n---\nb: 2", "found another document"),
        ("a: *b", "undefined alias"),
        ("\x00", "special characters are not allowed"),
    ],
)
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{1,320}$") as caught:
        parse_yaml(text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "text, value",
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("true", True),
        ("False", False),
        ("010", "010"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("2001-01-01", "2001-01-01"),
        ("10", 10),
        ("-3", -3),
        ("1e-4", 1e-4),
        (".5", 0.5),
        ("1.", 1.0),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
    ],
)
def test_words_of_yaml_mean_what_they_say(text: str, value: Any) -> None:
    found = parse_yaml(f"x: {text}")["x"]
    assert found == value
    assert type(found) is type(value)


def test_aliases_and_merge_keys_of_yaml_work() -> None:
    text = "base: &base {lr: 1, eps: 2}\noptimizer:\n  <<: *base\n  lr: 3\nother: *base"
    assert parse_yaml(text)["optimizer"] == {"lr": 3, "eps": 2}
    assert parse_yaml(text)["other"] == {"lr": 1, "eps": 2}


@pytest.mark.parametrize("text", ["a = 1\na = 2", "a = " + "[" * 50_000, "[" * 50_000, "a" + ".a" * 150 + " = 1"])
def test_toml_that_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
        parse_toml(text)


@pytest.mark.parametrize("section", ["training:\n  batch_size: ", "training:\n  keep_steps: [", "optimizer:\n  lr: "])
@pytest.mark.parametrize("word", ["yes", "on", "true", "True", "off"])
def test_truth_is_no_number(section: str, word: str) -> None:
    raw = parse_yaml(f"data:\n  dataset: digits\n{section}{word}{']' if '[' in section else ''}\n")
    with pytest.raises(SpecError, match=r"spec: (training\.(batch_size|keep_steps(\.0)?)|optimizer\.lr): "):
        validate_spec(raw)


@pytest.mark.parametrize("value", [True, False, [True]])
@pytest.mark.parametrize("option", ["num_timesteps", "channels", "base"])
def test_truth_is_no_number_in_a_plugins_options(option: str, value: Any) -> None:
    from debiasctl import registry

    kind, name = {
        "num_timesteps": ("schedules", "linear"),
        "channels": ("backbones", "unet"),
        "base": ("timesteps", "stratified"),
    }[option]
    with pytest.raises(DebiasctlError):
        registry.resolve(kind, {"name": name, "options": {option: value}})


@pytest.mark.parametrize(
    "field, value",
    [
        ("batch_size", 10**30),
        ("batch_size", str(10**30)),
        ("steps", "9" * 400),
        ("steps", "9" * 5_000),
        ("steps", -1),
        ("steps", 2.5),
        ("steps", "1e400"),
        ("keep_steps", [10**30]),
        ("seed", 2**63),
    ],
)
def test_numbers_beyond_all_bounds_are_refused_in_one_short_line(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"^spec: training\.{field}[^\n]{{1,400}}$"):
        validate_spec({"data": {"dataset": "digits"}, "training": {field: value}})


def test_values_of_a_plugins_options_are_quoted_within_one_line() -> None:
    deep: Any = ["x"] * 10
    for _ in range(40):
        deep = [deep] * 10  # 10^41 values, were they written out
    with pytest.raises(SpecError, match=r"^[^\n]{1,500}$"):
        validate_spec({"data": {"dataset": "digits"}, "training": {"batch_size": deep}})


@pytest.mark.parametrize(
    "text",
    [
        "x:a=" + "[" * 50_000,
        "x:a=" + "[" * 50_000 + "]" * 50_000,
        "x:a=" + '{"a":' * 2_000 + "1" + "}" * 2_000,
        'x:a={"b": 1, "b": 2}',
        "x:a=[1e400]",
        "x:a=[NaN]",
        "y" * 100_000 + ":",
        "x:" + "k" * 100_000,
        "x:a=1,a=1" + " " * 1_000 + ",b",
    ],
)
def test_references_that_are_refused(text: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"^[^\n]{1,600}$"):
        parse_ref(text)


@pytest.mark.parametrize("text", ["a." * 50_000 + "b=1", "x" * 100_000, "a.b=" + "[" * 50_000, "=", "a..b=1", "a=1"])
def test_settings_that_are_refused(text: str) -> None:
    with pytest.raises(DebiasctlError, match=r"^[^\n]{1,500}$"):
        parse_setting(text)


@pytest.mark.parametrize("ending", ["json", "yaml", "toml"])
def test_a_spec_file_is_refused_in_one_line(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"spec.{ending}"
    path.write_text({"json": '{"a": 1, "a": ' + "9" * 300 + "}", "yaml": LAUGHS, "toml": "a = 1\na = 2"}[ending])
    with pytest.raises(SpecError, match=r"^[^\n]{1,500}$"):
        read_spec_file(path)


def test_quoted_text_is_one_short_line_that_no_terminal_obeys() -> None:
    assert quoted("two  words") == "'two  words'"
    assert quoted("a\n\x1b[31mb\udc80") == r"'a\n\x1b[31mb\udc80'"
    assert len(quoted("x" * 10**6)) == 122
    assert one_line("a\n  b") == "a b"
    assert sys.getrecursionlimit() >= 1000
