"""Writes the reference from the code: `<!-- generated: NAME -->` in a page becomes what this package's NAME.py says."""

import re
from collections.abc import Callable
from typing import Any

from . import api, commands, json_keys, metrics, plugins, settings

PAGES: dict[str, Callable[[], str]] = {
    "api": api.page,
    "commands": commands.page,
    "diffusion": api.diffusion_page,
    "json-keys": json_keys.page,
    "metrics": metrics.page,
    "plugins": plugins.page,
    "python": api.python_page,
    "settings": settings.page,
    "testing": api.testing_page,
}
_MARK = re.compile(r"^<!-- generated: (?P<name>[\w-]+) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """A page's source with its generated parts in place."""
    return _MARK.sub(lambda found: PAGES[found["name"]](), text)


def _generated_pages(app: Any, env: Any, *_: Any) -> list[str]:
    """Pages to read again whatever their files' times are, for the code may have changed."""
    return [name for name in env.found_docs if _MARK.search(env.doc2path(name).read_text(encoding="utf-8"))]


def _read(app: Any, name: str, source: list[str]) -> None:
    source[0] = expand(source[0])


def _mend_raises(app: Any, doctree: Any) -> None:
    """After an error's name Sphinx writes two hyphens, which read as an option's."""
    for node in doctree.findall(lambda node: node.astext() == " -- "):
        node.parent.replace(node, type(node)(": "))


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.connect("env-get-outdated", _generated_pages)
    app.connect("doctree-read", _mend_raises)
    app.connect("autodoc-process-docstring", api.prepare_docstring)
    return {"version": "1", "parallel_read_safe": True}
