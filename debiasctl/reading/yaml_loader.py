"""A loader of YAML for settings: PyYAML's safe one, without tags, doubled keys or growing aliases."""

import re
from typing import Any

import yaml

from debiasctl.wording import quoted

_STR = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Words as in YAML 1.2: `yes` and `on` are text, 1:30 and 2001-01-01 too, and 010 is left to the setting."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it

    def __init__(self, text: str, *, max_depth: int) -> None:
        super().__init__(text)
        self._depth, self._max_depth = 0, max_depth

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", _STR):
            raise yaml.composer.ComposerError(None, None, f"tags such as {quoted(tag)} are not read", event.start_mark)
        self._depth += 1
        if self._depth > self._max_depth:
            raise yaml.composer.ComposerError(None, None, "it is nested too deeply", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (_STR, _MERGE):
                raise yaml.composer.ComposerError(None, None, "a key has to be text: quote it", key.start_mark)
            if key.value in seen:
                text = f"the key {quoted(key.value)} is given twice"
                raise yaml.composer.ComposerError(None, None, text, key.start_mark)
            seen.add(key.value)
        return node


def _resolver(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(first))


_resolver("bool", "true|True|TRUE|false|False|FALSE", "tTfF")
_resolver("null", "~|null|Null|NULL", "~nN")
_resolver("int", "[-+]?(?:0|[1-9][0-9]{0,399})", "-+0123456789")
_NUMBER = r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+"
_resolver("float", _NUMBER + r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN)", "-+.0123456789")
_resolver("merge", "<<", "<")
_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("^$"), [""])


def load(text: str, *, max_nodes: int, max_depth: int) -> Any:
    """The value of the one document in `text`; see `documents.parse_yaml`.

    Raises:
        yaml.YAMLError, ValueError: if it is not such a document.
    """
    loader = _Loader(text, max_depth=max_depth)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node, max_nodes)
        return loader.construct_document(node)
    finally:
        loader.dispose()


def lines(text: str, *, max_nodes: int, max_depth: int) -> dict[tuple[str | int, ...], int]:
    """The line, from 1, of each key and item of a document that `load` reads; what a merge brings in has none.

    Raises:
        yaml.YAMLError, ValueError: if it is not such a document.
    """
    loader = _Loader(text, max_depth=max_depth)
    try:
        root = loader.get_single_node()
        if root is None:
            return {}
        _check_size(root, max_nodes)
        found: dict[tuple[str | int, ...], int] = {}
        waiting: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
        while waiting:
            place, node = waiting.pop()
            if isinstance(node, yaml.MappingNode):
                inner = [(key.value, key, value) for key, value in node.value if key.tag != _MERGE]
            else:
                inner = [(number, one, one) for number, one in enumerate(_inner(node))]
            for key, mark, value in inner:
                found[(*place, key)] = mark.start_mark.line + 1
                waiting.append(((*place, key), value))
        return found
    finally:
        loader.dispose()


def _check_size(root: Any, max_nodes: int) -> None:
    """Refuse a document that contains itself, or has too many nodes once every alias is written out."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()
    waiting = [(root, False)]
    while waiting:
        node, is_done = waiting.pop()
        inner = _inner(node)
        if is_done:
            open_nodes.discard(id(node))
            sizes[id(node)] = 1 + sum(sizes[id(one)] for one in inner)
            if sizes[id(node)] > max_nodes:
                raise ValueError(f"its aliases stand for more than {max_nodes:,} values. Write out what is meant")
        elif id(node) in open_nodes:
            raise ValueError("an alias names a part of the document that contains it")
        elif id(node) not in sizes:
            open_nodes.add(id(node))
            waiting.append((node, True))
            waiting += [(one, False) for one in inner]


def _inner(node: Any) -> list[Any]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
