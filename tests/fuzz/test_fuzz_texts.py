"""Texts that users type or files hold: references, settings, spec files and the values of every option."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import typer
from cases import count, fuzz
from guard import Broken, call, command, tree
from hypothesis import strategies as st
from sandboxes import Sandbox
from strategies import HOSTILE_TEXTS, arguments, changed_bytes, json_text, texts, values
from tiny import BACKBONE, LOCATION, make_spec

from debiasctl.cli.app import app
from debiasctl.registry.refs import PluginRef, parse_ref
from debiasctl.runs.filters import parse_where
from debiasctl.specs.files import parse_setting, read_spec_file
from debiasctl.specs.resolve import resolve_spec
from debiasctl.specs.sections import RunSpec

_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,9}", fullmatch=True)
_KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,9}", fullmatch=True)
_REFS = st.builds(PluginRef, _NAMES, st.dictionaries(_KEYS, st.text(max_size=20), max_size=3))


@fuzz(0.2, text=texts)
def test_a_reference_is_read_to_the_same_again_or_refused(text: str) -> None:
    ref, message = call(lambda: parse_ref(text))
    count("references", "refused" if message else "read")
    if not message and parse_ref(str(ref)) != ref:
        raise Broken(f"{text!r} is read as {ref!r}, which is written as {str(ref)!r}")


@fuzz(0.06, ref=_REFS)
def test_what_is_written_as_a_reference_is_read_back(ref: PluginRef) -> None:
    count("references written", "read")
    assert parse_ref(str(ref)) == ref


@fuzz(0.06, text=texts, field=st.sampled_from(("name", "created", "seed", "tag", "loss.weighting", "optimizer.betas")))
def test_a_filter_is_read_or_refused(text: str, field: str) -> None:
    for where in (text, f"{field}={text}", f"{field}<{text} and seed=0"):
        count("filters", "refused" if call(lambda where=where: parse_where(where))[1] else "read")


@lru_cache(maxsize=1)
def _base() -> dict[str, Any]:
    return make_spec().model_dump(mode="json", exclude={"content", "imported", "provenance"})


@lru_cache(maxsize=1)
def _setting_keys() -> list[str]:
    return [f"{section}.{key}" for section, fields in _base().items() if isinstance(fields, dict) for key in fields]


def _value(plausible: bool) -> st.SearchStrategy[str]:
    sound = st.sampled_from(("6", "0.5", "8", "1e-3", "true", "false", "cosine", "null", "[1,2]", "6.0", "08"))
    return sound if plausible else st.one_of(texts, values.map(str))


@fuzz(0.08, key=st.one_of(st.sampled_from(_setting_keys()), texts), value=st.booleans().flatmap(_value))
def test_a_setting_is_applied_as_given_or_refused(key: str, value: str) -> None:
    def resolve() -> RunSpec:
        return resolve_spec([parse_setting(f"{key}={value}")], LOCATION, file=_base())[0]

    spec, message = call(resolve)
    count("settings", "refused" if message else "applied")
    if not message:
        _check_applied(spec, key.strip(), value.strip())


def _check_applied(spec: RunSpec, key: str, text: str) -> None:
    """A number that was given is the number of the spec."""
    found: Any = spec.model_dump(mode="json")
    for part in (part.strip() for part in key.split(".")):
        found = found[part]
    if isinstance(found, int | float) and not isinstance(found, bool) and float(text) != found:
        raise Broken(f"{key} was given as {text!r} and is {found!r}")


_YAML = ("data: &a {dataset: digits}\nmodel: *a\n",
    "a: &a [x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\n"
    "e: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e]\ndata: {dataset: *f}\n",
    "training: {steps: yes}\n", "training: {steps: on}\n", "training: {steps: !!int ''}\n",
    "training: {steps: !!python/object/apply:os.system ['true']}\n", "training: {steps: 1_0}\n",
    "training: {steps: 0o17}\n", "training: {steps: 1:30}\n", "training:\n  steps: 1\n  steps: 2\n",
    "? [a]\n: b\n", "<<: {a: 1}\n", "- data\n", "---\na: 1\n---\nb: 2\n", "\t", "a: b: c", "%YAML 9.9\n---\n",
    "data: !!binary aGk=\n", "data: 2020-01-01\n", "training: {steps: .inf}\n", "&a [*a]\n",
    "data: &x {dataset: *x}\n", "!!set {a, b}\n", "!!timestamp x", "!<tag:yaml.org,2002:int> x",)  # fmt: skip


def _spec_text(data: st.DataObject) -> tuple[str, bytes]:
    """The ending and the bytes of a spec file."""
    kind = data.draw(st.sampled_from(("json", "json", "yaml", "yaml text", "toml", "bytes")))
    if kind in ("json", "yaml"):
        return kind, data.draw(json_text(_base())).encode("utf-8", "surrogatepass")
    if kind == "yaml text":
        return "yaml", (data.draw(st.sampled_from(_YAML)) + data.draw(st.sampled_from(("", "seed: 3\n")))).encode()
    plain = '[data]\ndataset = "digits"\n[training]\nsteps = 6\nbatch_size = 8\n[optimizer]\nlr = 0.001\n'
    if kind == "toml":
        return "toml", data.draw(changed_bytes(plain.encode()))
    return data.draw(st.sampled_from(("json", "yaml", "toml"))), data.draw(changed_bytes(json.dumps(_base()).encode()))


@fuzz(0.14, data=st.data())
def test_a_spec_file_is_resolved_or_refused(tmp_path_factory: Any, data: st.DataObject) -> None:
    ending, content = _spec_text(data)
    file = tmp_path_factory.getbasetemp() / f"fuzzed.{ending}"
    file.write_bytes(content)

    def resolve() -> RunSpec:
        return resolve_spec([{"data": {"dataset": "digits"}}], LOCATION, file=read_spec_file(file))[0]

    spec, message = call(resolve)
    count(f"spec files, {ending}", "refused" if message else "resolved")
    if not message and RunSpec.model_validate(spec.model_dump(mode="json")) != spec:
        raise Broken("the resolved spec is not read back as itself")


# a sound use of every command, to which one hostile option or argument is added; training is planned alone
SOUND: dict[str, tuple[str, ...]] = {
    "train": ("digits", "--backbone", BACKBONE, "--batch-size", "8", "--set", "training.heldout_images=4", "--dry-run"),
    "sample": ("a", "--num", "2", "--steps", "2"),
    "ema": ("a", "--length", "0.1"),
    "evaluate": ("a", "--num", "8", "--steps", "2", "--features", "pixels:dimension=4"),
    "likelihood": ("a", "--num", "2", "--steps", "2"),
    "compare": ("a", "b"),
    "analyze": ("a", "--num", "16", "--only", "existence"),
    "doctor": (),
    "sweep": ("digits", "--backbone", BACKBONE, "--batch-size", "8", "--weighting", "constant,debiased", "--dry-run"),
    "sweep list": (),
    "sweep show": ("a",),
    "sweep watch": ("a",),
    "sweep rm": ("a", "--yes"),
    "runs list": (),
    "runs watch": ("a",),
    "runs tag": ("a", "--add", "kept"),
    "runs note": ("a", "a note"),
    "runs prune": ("a", "--yes"),
    "runs show": ("a",),
    "runs rm": ("b", "--yes"),
    "runs path": ("a",),
    "runs add-model": ("m", "guided-diffusion:path=model.pt,preset=cifar10"),
    "runs export-checkpoint": ("a", "a.pt"),
    "runs export": ("a",),
    "runs import": ("a.tar",),
    "plugins list": (),
    "plugins describe": ("weightings", "min-snr"),
    "plugins check": ("weightings", "min-snr"),
    "plugins new": ("weightings", "my-scheme"),
    "datasets list": (),
    "datasets show": ("digits", "--num", "4"),
    "datasets check": ("digits",),
    "weightings fit": ("a", "--rule", "uncertainty"),
    "weightings list": (),
    "weightings identify": ("weights.csv", "--prediction", "v"),
    "weightings table": ("debiased", "min-snr"),
    "weightings plot": ("debiased",),
    "spec describe": (),
}
_LEFT_OUT = {"--processes", "--help", "--track", "--compile"}  # processes of their own, and minutes of compiling


@lru_cache(maxsize=1)
def options() -> list[tuple[str, str, bool]]:
    """(command, option, whether it is a flag) of every command; "" stands for an argument."""
    found: list[tuple[str, str, bool]] = []

    def walk(node: Any, path: tuple[str, ...]) -> None:
        for name, child in getattr(node, "commands", {}).items():
            walk(child, (*path, name))
        if not hasattr(node, "commands") or (path and node.invoke_without_command):
            for parameter in node.params:
                opts = [name for name in parameter.opts if name.startswith("-")]
                if opts and opts[0] not in _LEFT_OUT:
                    found.append((" ".join(path), opts[0], bool(parameter.is_flag)))
                elif not opts:
                    found.append((" ".join(path), "", False))

    walk(typer.main.get_command(app), ())
    return found


def test_every_command_has_a_sound_use_among_the_cases() -> None:
    assert {name for name, _, _ in options()} == set(SOUND)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[str, ...]:
    """A command with one or two options or arguments that are hostile."""
    name, _, _ = draw(st.sampled_from(options()))
    line = [*name.split(), *SOUND[name]]
    for _ in range(draw(st.integers(1, 2))):
        option, flag = draw(st.sampled_from([(option, flag) for other, option, flag in options() if other == name]))
        value = draw(st.one_of(arguments, st.sampled_from([text for text in HOSTILE_TEXTS if "\x00" not in text])))
        if flag:
            line.append(option)
        elif option:
            line += draw(st.sampled_from(([option, value], [f"{option}={value}"])))
        elif SOUND[name]:
            line[len(name.split())] = value
        else:
            line.append(value)
    return tuple(line)


def leaves_the_rest_alone(line: tuple[str, ...]) -> bool:
    """Whether the case names no file of the machine's to write: what a user names, the program may write."""
    return not any(argument.startswith(("/", "~")) or "=/" in argument or "=~" in argument for argument in line[2:])


@fuzz(0.08, line=command_lines())
def test_a_command_with_any_option_ends_as_promised(sandbox: Sandbox, line: tuple[str, ...]) -> None:
    before = tree(sandbox.home / "runs")
    (sandbox.work / "a.tar").exists() or command("runs", "export", "a", allowed=sandbox.places)
    outcome = command(*line, allowed=(*sandbox.places, *(() if leaves_the_rest_alone(line) else (Path("/dev"),))))
    count(
        f"options of {' '.join(line[: 2 if line[0] in ('runs', 'plugins', 'weightings', 'spec', 'sweep') else 1])}",
        outcome.code,
    )
    if outcome.code and (lost := before.keys() - tree(sandbox.home / "runs").keys()):
        raise Broken(f"{line}: refused, and yet these are gone: {sorted(lost)[:3]}")
    if tree(sandbox.home / "runs") != before:
        sandbox.renew()
