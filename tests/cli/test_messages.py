"""The library names settings, arguments and commands; the command line says what to type."""

import ast
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from tiny import debiasctl, error_of

import debiasctl.cli.app
from debiasctl.cli.commands import COMMANDS, import_all
from debiasctl.cli.messages import with_options
from debiasctl.cli.options import FLAGS, SETTINGS
from debiasctl.cli.output import show_log
from debiasctl.specs.sections import RunSpec

# a command with what follows it, `X` for what is filled in: debiasctl train --resume X --steps X
COMMAND = re.compile(rf"\bdebiasctl ((?:{'|'.join(COMMANDS)})\b(?: (?:--[a-z-]+|[a-z]+(?:-[a-z]+)*|[A-Z]+)\b)*)")
ROOT = Path(debiasctl.cli.app.__file__).parents[1]


@pytest.mark.parametrize(
    "message, shown",
    [
        ("lower `optimizer.lr`, or wait", "lower optimizer.lr (--lr), or wait"),
        ("`optimizer.lr=0.1` is much", "--lr 0.1 is much"),
        ("set `optimizer.clip_grad_norm`", "set optimizer.clip_grad_norm"),
        ("with `ema.kind=power`.", "with --set ema.kind=power."),
        ("`training.init_from.weights=x`", "--set training.init_from.weights=x"),
        ("leave `class_name` out", "leave --class out"),
        ("`features=inception:resize=clean` or pixels", "--features inception:resize=clean or pixels"),
        ("`compute.deterministic=true` and `force=True`", "--deterministic and --force"),
        ("`pyproject.toml`, `training.nothing`", "`pyproject.toml`, `training.nothing`"),
        ("`numpy.random.seed=3`, `data.yaml=x`", "`numpy.random.seed=3`, `data.yaml=x`"),
        ("`Weighting`, `class X(Weighting):`, `a b`", "`Weighting`, `class X(Weighting):`, `a b`"),
        ("`resume('a')`", "`resume('a')`"),
        ("one ` alone", "one ` alone"),
    ],
)  # fmt: skip
def test_what_is_to_be_typed(message: str, shown: str) -> None:
    assert with_options(message) == shown


def test_every_setting_with_an_option_exists() -> None:
    assert len(SETTINGS) == 18
    for setting in SETTINGS.values():
        assert is_setting(setting), setting


def is_setting(text: str) -> bool:
    section, dot, field = text.partition(".")
    if not dot:  # a list of plugins
        return section in RunSpec.model_fields
    found = RunSpec.model_fields.get(section)
    models = [] if found is None else [found.annotation, *get_args(found.annotation)]
    return any(field.partition(".")[0] in getattr(model, "model_fields", {}) for model in models)


@lru_cache(maxsize=1)
def messages() -> list[tuple[str, str]]:
    """Place and text of every string of the library that is no docstring, `X` for what is filled in."""
    return list(_read_messages())


def _read_messages() -> Iterator[tuple[str, str]]:
    for path in sorted(ROOT.rglob("*.py")):
        if {"cli", "templates"} & set(path.relative_to(ROOT).parts):  # templates are the code of others
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values]
                yield place, "".join(parts)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (
                documentation | inside
            ):  # fmt: skip
                yield place, node.value


def test_the_library_names_no_option_of_the_command_line() -> None:
    found = messages()
    assert len(found) > 1000
    ours = re.compile("(?<!pip install )(?<!ray start )--[a-z]")  # those programs have options of their own
    # what these write are the options of a command, which it or a test has tried, and of guided-diffusion's programs;
    # the checks of commands call them
    written = ("analysis/identify/flags.py", "builtin/models/_support/adm_flags.py", "scaffold/kinds.py")
    written += ("testing/commands.py",)
    found = [(place, text) for place, text in found if not place.startswith(written)]
    tar = re.compile(r"\(tar( --[a-z-]+)+\)")
    assert [(place, text) for place, text in found if ours.search(tar.sub("", COMMAND.sub("", text)))] == []


def test_every_command_that_the_library_names_exists() -> None:
    """Its words and its options are the command line's, so that it can be pasted."""
    commands = [(place, words.split()) for place, text in messages() for words in COMMAND.findall(text)]
    assert len(commands) > 20
    for place, words in commands:
        command: Any = typer.main.get_command(debiasctl.cli.app.app)
        while hasattr(command, "commands"):
            if command.invoke_without_command and not (words and words[0] in command.commands):
                break  # the group is a command itself
            command = command.commands[words.pop(0)]
        known = {"--help", *(name for parameter in command.params for name in parameter.opts)}
        assert {word for word in words if word.startswith("--")} <= known, (place, words)


def test_what_the_library_names_can_be_typed() -> None:
    """A setting or an argument that a message names exists, so that none is renamed alone."""
    import_all()  # declares every option
    typed = ("python/", "testing/")  # one types Python there
    library = [(place, text) for place, text in messages() if not place.startswith(typed)]
    named = [(place, inside) for place, text in library for inside in re.findall("`([^`\n]+)`", text)]
    assert len(named) > 50
    for place, inside in named:
        name = inside.partition("=")[0]
        assert name == "X" or (is_setting(name) if "." in name else name in FLAGS), f"{place}: {inside}"
        assert "`" not in with_options(f"`{inside}`") or name == "X", f"{place}: {inside}"


def test_errors_notes_and_logs_say_what_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from debiasctl.cli.output import note
    from debiasctl.errors import UsageError

    def refuse(text: str) -> None:
        raise UsageError("choose a smaller `training.batch_size`")

    note("note: raise `steps`")
    with monkeypatch.context() as patch:
        patch.setattr(logging.root, "handlers", [])  # pytest's own keep the command from setting up its log
        show_log()
        logging.getLogger("debiasctl.training").warning("try `compute.accumulation=%d`", 2)
        logging.getLogger("debiasctl.training").info("drawing")
        logging.getLogger("elsewhere").warning("of theirs")
    assert capsys.readouterr().err.splitlines() == [
        "note: raise --steps", "note: try --accumulation 2", "drawing", "of theirs",
    ]  # fmt: skip
    monkeypatch.setattr("debiasctl.runs.store.find_run", refuse)
    assert error_of("sample", "a", code=2) == "choose a smaller training.batch_size (--batch-size)\n"


def test_a_note_that_several_runs_would_repeat_is_shown_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(logging.root, "handlers", [])
        show_log()
        for text in ("laid over white", "drawing", "laid over white", "cropped"):
            level = logging.INFO if text == "drawing" else logging.WARNING
            logging.getLogger("debiasctl.data").log(level, "%s", text)
            logging.getLogger("debiasctl.data").info("progress")
    shown = capsys.readouterr().err.splitlines()
    assert [line for line in shown if line != "progress"] == ["note: laid over white", "drawing", "note: cropped"]
    assert shown.count("progress") == 4


@pytest.mark.parametrize("option", ["--spec", "--data-dir", "--precision"])
def test_a_value_of_any_length_is_never_repeated_whole(option: str) -> None:
    message = error_of("train", "digits", "--dry-run", option, "x" * 50_000, code=1 if option == "--data-dir" else 2)
    assert len(message) < 1_000
    assert "xxx" in message


def test_the_last_value_of_an_option_is_the_one_that_is_quoted() -> None:
    assert "'abc'" in error_of("train", "digits", "--steps", "2", "--steps", "abc", code=2)


@pytest.mark.parametrize("number", ["1000", "9" * 400])
def test_processes_beyond_the_cores_are_refused_at_once(number: str) -> None:
    message = error_of("train", "digits", "--device", "cpu", "--processes", number, "--dry-run", code=2)
    assert "CPU cores" in message
    assert "Give at most" in message


def test_an_argument_of_a_command_that_was_not_imported_is_known() -> None:
    code = "from debiasctl.cli.messages import with_options; print(with_options('give `feature_weights`'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "give --feature-weights"
