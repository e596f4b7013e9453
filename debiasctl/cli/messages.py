"""Messages of the library, which name settings and functions in backquotes, in the words of the command line."""

import re

from debiasctl.cli.options import FLAGS

_QUOTED = re.compile("`([^`\n]+)`")
_SETTING = re.compile(r"[a-z_]+(\.[a-z_]+)+")
_CALL = re.compile(r"([a-z_]+)\(.*\)")
# function -> the command that calls it
_COMMANDS = {"train": "train", "resume": "train --resume", "sample": "sample", "evaluate": "evaluate"}


def with_options(message: str) -> str:
    """The message with what is to be typed in place of what stands in backquotes.

    `precision=bf16`, a function's argument, becomes --precision bf16, and `precision` the option alone. A setting
    that has an option keeps its name: `optimizer.lr` becomes optimizer.lr (--lr). With a value, `optimizer.lr=0.1`
    becomes --lr 0.1, and one without an option --set ema.kind=power. `resume('a', steps=9)`, a function that a command
    calls, becomes debiasctl train --resume a --steps 9. Anything else stays as it is.
    """
    return _QUOTED.sub(lambda found: _typed(found[1]) or found[0], message)


def _typed(text: str) -> str | None:
    call = _CALL.fullmatch(text)
    if call:
        return _command(text) if call[1] in _COMMANDS else None
    name, equals, value = text.partition("=")
    flag = FLAGS.get(name)
    if _SETTING.fullmatch(name) and not (flag and equals):
        return f"--set {text}" if equals else f"{name} ({flag})" if flag else name
    if flag is None:
        return None
    return f"{flag} {value}" if equals and value.lower() != "true" else flag


def _command(text: str) -> str | None:
    """`evaluate('a', steps=10)` as a line to paste."""
    import ast
    import shlex

    try:
        call = ast.parse(text, mode="eval").body
    except SyntaxError:
        return None
    assert isinstance(call, ast.Call), "so it looks"
    words = [_value(node) for node in call.args]
    for keyword in call.keywords:
        words += [FLAGS.get(str(keyword.arg), f"--{keyword.arg}"), _value(keyword.value)]
    return f"debiasctl {_COMMANDS[ast.unparse(call.func)]} {shlex.join(words)}"


def _value(node: object) -> str:
    import ast

    return str(node.value) if isinstance(node, ast.Constant) else ast.unparse(node)  # type: ignore[arg-type]
