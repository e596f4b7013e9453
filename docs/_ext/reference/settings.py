"""Every setting of a run spec: what `debiasctl spec describe` prints."""

from debiasctl.specs.describe import describe_spec

from .markdown import anchored, fields, text


def page() -> str:
    """The body of the page."""
    parts = []
    for section in describe_spec():
        parts += [
            anchored(f"settings-{section.name}", f"## {section.name}"),
            text(section.summary),
            fields("setting", section.settings),
        ]
    return "\n\n".join(parts)
