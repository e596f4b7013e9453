"""Reading settings from spec files and the command line, and merging them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from debiasctl.api.nested import with_loose_options
from debiasctl.errors import SpecError
from debiasctl.reading.documents import parse_json, parse_toml, parse_yaml
from debiasctl.reading.regular import read_text
from debiasctl.registry.refs import parse_ref
from debiasctl.specs.sections import plugin_settings
from debiasctl.wording import one_line, quoted

_MOST_PARTS = 20  # of a setting's name, and so of nested sections


def merge(base: Mapping[str, Any], over: Mapping[str, Any], *, within: str = "") -> dict[str, Any]:
    """Merge `over` onto `base`, section by section; a plugin with a name replaces the one in `base` and its options.

    What stands beside a plugin's name counts among its options. Options without a name join those in `base`; those that
    `base` sets without a name join the plugin that `over` names. `within` is the full name of the section.

    Raises:
        SpecError: if `base` sets an option without a plugin's name, and `over` names a plugin with another value of it.
    """
    merged = dict(base)
    for key, value in over.items():
        below, name = merged.get(key), f"{within}{key}"
        if name in plugin_settings():
            merged[key] = _merge_plugin(name, below, value)
        elif isinstance(value, Mapping) and "name" not in value:
            below = _named(below) if isinstance(below, str) else below
            merged[key] = merge(below, value, within=f"{name}.") if isinstance(below, Mapping) else dict(value)
        else:
            merged[key] = value
    return merged


def _merge_plugin(setting: str, below: Any, value: Any) -> Any:
    below, value = (with_loose_options(one) if isinstance(one, Mapping) else one for one in (below, value))
    if isinstance(value, Mapping) and "name" not in value:  # options alone
        below = _named(below) if isinstance(below, str) else below
        return merge(below, value, within=f"{setting}.") if isinstance(below, Mapping) else dict(value)
    if not isinstance(below, Mapping) or "name" in below or not isinstance(value, str | Mapping):
        return value
    named = _named(value) if isinstance(value, str) else value
    before, given = below.get("options") or {}, named.get("options") or {}
    if not isinstance(before, Mapping) or not isinstance(given, Mapping):
        return {**named, "options": before if named.get("options") is None else given}  # it is refused as no options
    for option in given.keys() & before.keys():
        if str(given[option]) != str(before[option]):
            raise SpecError(
                f"spec: {setting} is given {option}={before[option]!s:.40} and, with the name '{named['name']}', "
                f"{option}={given[option]!s:.40}. Give {option} once"
            )
    return {**named, "options": {**before, **given}}


def _named(reference: str) -> dict[str, Any]:
    ref = parse_ref(reference)
    return {"name": ref.name, "options": dict(ref.options)}


def extension_list(value: Any) -> Any:
    """The extensions that a value names: one reference, a list of them, or `none` for no extension.

    Raises:
        SpecError: if `none` stands beside others.
    """
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list | tuple) or "none" not in named:
        return named
    if len(named) > 1:
        raise SpecError("`extensions`: none stands for no extension, and others are given beside it. Leave one out")
    return []


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to `section.field` -> value; an empty mapping counts as a value."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat


def parse_setting(text: str) -> dict[str, Any]:
    """Parse `section.field=value` into nested settings; bracketed values are JSON, `null` is None, others are text.

    Raises:
        SpecError: if there is no `=`, or the key has an empty part.
    """
    from debiasctl.registry.refs import parse_value

    path, equals, value = text.partition("=")
    keys = [part.strip() for part in path.split(".")]
    if not equals or not all(keys) or not 2 <= len(keys) <= _MOST_PARTS:
        raise SpecError(f"setting {quoted(text)}: write section.field=value, for example `ema.decay=0.999`")
    stripped = value.strip()
    # a reference's quotes and brackets belong to the reference
    parsed: Any = parse_value(stripped, text) if stripped[:1] in "[{" or stripped == "null" else stripped
    for number, key in reversed(list(enumerate(keys))):
        # a plugin's distribution and version stand beside its name in a stored spec, and cannot be set
        if isinstance(parsed, Mapping) and ".".join(keys[: number + 1]) in plugin_settings():
            parsed = with_loose_options(parsed, beside=("name", "options"))
        parsed = {key: parsed}
    return dict(parsed)


def read_spec_file(path: Path) -> dict[str, Any]:
    """Read settings from a JSON, YAML or TOML file, as its ending says.

    Raises:
        SpecError: if the file does not exist, is not a regular file, cannot be read, or does not hold a mapping.
    """
    readers: dict[str, Callable[[str], Any]] = {
        ".json": parse_json,
        ".yaml": parse_yaml,
        ".yml": parse_yaml,
        ".toml": parse_toml,
    }
    if path.suffix.lower() not in readers:
        raise SpecError(f"spec file {path}: the ending must be one of {', '.join(readers)}")
    try:
        content = readers[path.suffix.lower()](read_text(path))
    except OSError as error:
        raise SpecError(f"spec file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise SpecError(f"spec file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise SpecError(f"spec file {path} must hold sections such as data, model and training")
    return content
