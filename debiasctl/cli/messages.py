"""Messages of the library, which name settings and arguments in backquotes, in the words of the command line."""

import re
from typing import get_args

from debiasctl.cli.commands import import_all
from debiasctl.cli.options import FLAGS

_QUOTED = re.compile("`([^`\n]+)`")


def with_options(message: str) -> str:
    """The message with what is to be typed in place of the settings and arguments that stand in backquotes.

    `precision=bf16`, a function's argument, becomes --precision bf16, and `precision` the option alone. A setting
    that has an option keeps its name: `optimizer.lr` becomes optimizer.lr (--lr). With a value, `optimizer.lr=0.1`
    becomes --lr 0.1, and one without an option --set ema.kind=power. Anything else stays as it is.
    """
    return _QUOTED.sub(lambda found: _typed(found[1]) or found[0], message)


def _typed(text: str) -> str | None:
    name, equals, value = text.partition("=")
    if name not in FLAGS and name.isidentifier():  # an argument of another command, perhaps
        import_all()
    flag = FLAGS.get(name)
    if "." in name and not (flag and equals):
        if not _is_setting(name):
            return None
        return f"--set {text}" if equals else f"{name} ({flag})" if flag else name
    if flag is None:
        return None
    return f"{flag} {value}" if equals and value.lower() != "true" else flag


def _is_setting(name: str) -> bool:
    """Whether a run spec has this setting, or one that it lies in, such as a plugin's options."""
    from debiasctl.specs.sections import RunSpec

    section, _, rest = name.partition(".")
    found = RunSpec.model_fields.get(section)
    models = [] if found is None else [found.annotation, *get_args(found.annotation)]
    return any(rest.partition(".")[0] in getattr(model, "model_fields", {}) for model in models)
