"""What the shell completes: names and values, read without importing torch or any plugin."""

import os
import re
from collections.abc import Callable, Iterable, Mapping

import typer

_METRICS = (
    "precision", "recall", "density", "coverage", "nearest_train_gap", "memorised_share", "spectrum_distance",
    "mean_shift_grey", "mean_shift_r", "mean_shift_g", "mean_shift_b", "std_shift_grey", "std_shift_r", "std_shift_g",
    "std_shift_b", "mean_shift_squared", "colour_fd",
)  # fmt: skip
_IN_FEATURES = ("fd_", "kd_")
# settings not named after one of a kind
_KINDS_OF = {"loss.timesteps": "timesteps", "monitor.features": "features", "extensions": "extensions"}


def complete_run(incomplete: str) -> list[str]:
    """Names of runs in the store."""
    from debiasctl.runs.store import run_names

    return _beginning(run_names(), incomplete)


def complete_sweep(incomplete: str) -> list[str]:
    """Names of sweeps in the store."""
    from debiasctl import paths

    folder = paths.sweeps_dir()
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return _beginning([name for name in names if not name.startswith(".")], incomplete)


def complete_kind(incomplete: str) -> list[str]:
    """Plugin kinds."""
    from debiasctl import registry

    return _beginning(registry.KINDS, incomplete)


def complete_plugin(kind: str) -> Callable[[str], list[str]]:
    """A completion of plugin names of one kind, and, after `name:`, of the plugin's options and their values."""

    def complete(incomplete: str) -> list[str]:
        from debiasctl import registry

        name, colon, given = incomplete.partition(":")
        if not colon:
            return _beginning({record.name for record in registry.records(kind)}, incomplete)
        return [f"{name}:{text}" for text in _options(kind, name, given)]

    return complete


def _options(kind: str, name: str, given: str) -> list[str]:
    """The continuations of `key=value,ke`, or of `key=val`."""
    from debiasctl import registry
    from debiasctl.registry.source import option_values

    record = next((record for record in registry.records(kind) if record.name == name), None)
    known = {} if record is None else option_values(record)
    before, comma, last = given.rpartition(",")
    key, equals, value = last.partition("=")
    used = {part.partition("=")[0] for part in before.split(",")}
    found = known.get(key, []) if equals else [option for option in known if option not in used]
    texts = (
        [f"{key}={one}" for one in _beginning(found, value)]
        if equals
        else [f"{one}=" for one in _beginning(found, key)]
    )
    return [f"{before}{comma}{text}" for text in texts]


def complete_described(ctx: typer.Context, incomplete: str) -> list[str]:
    """Plugin names of the kind that the command line names; of every kind where it names none."""
    from debiasctl import registry

    kind = ctx.params.get("kind")
    kinds = [kind] if kind in registry.KINDS else list(registry.KINDS)
    return sorted({name for one in kinds for name in complete_plugin(str(one))(incomplete)})


def complete_checked(incomplete: str) -> list[str]:
    """Plugin kinds; or, where none begins so, plugins of any kind."""
    from debiasctl import registry

    names = {name for kind in registry.KINDS for name in complete_plugin(kind)(incomplete)} if incomplete else set()
    return complete_kind(incomplete) or sorted(names)


def complete_distribution(incomplete: str) -> list[str]:
    """The packages that offer plugins."""
    from debiasctl import registry

    found = {record.distribution for kind in registry.KINDS for record in registry.records(kind)}
    return _beginning(found, incomplete)


def complete_values(*values: str) -> Callable[[str], list[str]]:
    """A completion of some fixed values."""
    return lambda incomplete: _beginning(values, incomplete)


def complete_choices(setting: str) -> Callable[[str], list[str]]:
    """A completion of the names that a setting of a run spec may have."""
    return lambda incomplete: _beginning(_choices(setting), incomplete)


def _choices(setting: str) -> list[str]:
    from debiasctl.specs.describe import describe_spec

    types = [
        one.type
        for section in describe_spec(setting.partition(".")[0])
        for one in section.settings
        if one.name == setting
    ]
    choices = types[0].split(" or ")[0].split("|") if types and "|" in types[0] else []
    return ["true", "false"] if types and types[0].startswith("boolean") else choices


def complete_setting(incomplete: str) -> list[str]:
    """`section.field=` for every setting of a run spec; then its values, where they are names or plugins."""
    from debiasctl import registry

    name, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{setting}=" for setting in complete_section(name) if "." in setting] or complete_section(name)
    kind = _KINDS_OF.get(name) or f"{name.rpartition('.')[2]}s"
    values = complete_plugin(kind)(value) if kind in registry.KINDS else _beginning(_choices(name), value)
    return [f"{name}={one}" for one in values]


def complete_where(short_names: Callable[[], Mapping[str, str]]) -> Callable[[str], list[str]]:
    """A completion of `field=` for what a filter may name, after each `and`; then of its values, where they are names.

    `short_names` are those of settings.
    """

    def complete(incomplete: str) -> list[str]:
        from debiasctl.runs.fields import OWN

        before, joined, last = incomplete.rpartition(" and ")
        field, equals, value = last.partition("=")
        short = short_names()
        if not equals:
            found = [f"{name}=" for name in _beginning({*OWN, *short}, field)]
            found = found or [name for name in complete_setting(field) if name.endswith("=")]
        elif field in OWN:
            found = [f"{field}={one}" for one in _beginning(OWN[field].choices, value)]
        else:
            values = complete_setting(f"{short.get(field, field)}={value}")
            found = [f"{field}={one.partition('=')[2]}" for one in values]
        return [f"{before}{joined}{one}" for one in found]

    return complete


def complete_section(incomplete: str) -> list[str]:
    """Sections of a run spec; after the dot, the settings of one."""
    from debiasctl.specs.describe import describe_spec
    from debiasctl.specs.sections import RunSpec

    section, dot, _ = incomplete.partition(".")
    if dot and section in RunSpec.model_fields:
        return _beginning(
            dict.fromkeys(one.name for part in describe_spec(section) for one in part.settings), incomplete
        )
    sections = _beginning(RunSpec.model_fields, incomplete)
    return complete_section(f"{sections[0]}.") if len(sections) == 1 else sections


def complete_metrics(incomplete: str) -> list[str]:
    """Names of metrics, separated by commas."""
    from debiasctl import registry

    before, comma, last = incomplete.rpartition(",")
    features = [f"{prefix}{record.name}" for prefix in _IN_FEATURES for record in registry.records("features")]
    used = before.split(",")
    return [f"{before}{comma}{name}" for name in _beginning([*features, *_METRICS], last) if name not in used]


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    found = [name for name in names if name.startswith(incomplete)]
    return sorted(found) if isinstance(names, set) else found


def bash_words() -> str:
    """Join what bash splits at ':' and '=' in the words of a line being completed; returns what bash leaves out.

    bash gives `min-snr:ga` as three words, and puts what it is answered in place of the last one alone.
    """
    joined: list[str] = []
    glued = False
    words, current = os.environ.get("COMP_WORDS", "").split("\n"), os.environ.get("COMP_CWORD", "")
    if len(words) == 1 or not current.isdecimal():
        return ""
    wanted = [*words, ""][: int(current) + 1]
    for word in wanted:
        separator = bool(re.fullmatch("[:=]+", word))
        if joined and (separator or glued) and not joined[-1].isspace():
            joined[-1] += word
        else:
            joined.append(word)
        glued = separator
    os.environ["COMP_WORDS"], os.environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
    last = joined[-1]
    return last[: max(last.rfind(":"), last.rfind("=")) + 1]


def for_zsh(answer: str) -> str:
    """An answer to zsh with the option put before each value, where `--option=value` is one word of the line."""
    line = os.environ.get("_TYPER_COMPLETE_ARGS", "")
    found = re.search(r"\s(--[a-z0-9-]+=)\S*$", line)
    if found is None or not answer.startswith("_arguments"):
        return answer
    return re.sub(r"(?m)^(_arguments '\*: :\(\()?\"", rf'\g<1>"{found[1]}', answer)
