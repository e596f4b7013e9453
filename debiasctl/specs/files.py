"""Reading settings from spec files and the command line, and merging them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from debiasctl.errors import SpecError
from debiasctl.reading.documents import parse_json, parse_toml, parse_yaml
from debiasctl.reading.regular import read_text
from debiasctl.registry.refs import parse_ref
from debiasctl.wording import one_line, quoted

_MOST_PARTS = 20  # of a setting's name, and so of nested sections


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` onto `base`, section by section; a plugin with a name replaces the one in `base` and its options.

    Raises:
        SpecError: if `base` sets only options of a plugin, without its name, which would be lost.
    """
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, Mapping) and "name" not in value:
            if isinstance(below, str):
                ref = parse_ref(below)
                below = {"name": ref.name, "options": dict(ref.options)}
            merged[key] = merge(below, value) if isinstance(below, Mapping) else dict(value)
        else:
            if isinstance(below, Mapping) and set(below) == {"options"}:
                name = value if isinstance(value, str) else value.get("name") if isinstance(value, Mapping) else value
                raise SpecError(
                    f"spec: {key}.options are set, and then {key} is given as '{name}', which would replace them. "
                    f"Give both at once, for example {key}=name:option=value"
                )
            merged[key] = value
    return merged


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
    for key in reversed(keys):
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
