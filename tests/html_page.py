"""A page of HTML as its elements and words."""

import json
from html.parser import HTMLParser
from typing import Any


class Page(HTMLParser):
    """A page's elements with their attributes, and the text of its scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[tuple[dict[str, str | None], str]]] = {"script": [], "style": []}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.raw:
            self.raw[tag].append((dict(attrs), ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        tag = self.elements[-1][0] if self.elements else ""
        if tag in self.raw and self.raw[tag][-1][1] == "" and self.cdata_elem == tag:
            self.raw[tag][-1] = (self.raw[tag][-1][0], data)
        else:
            self.words.append(data)

    def data(self, name: str) -> Any:
        return next(json.loads(text) for attributes, text in self.raw["script"] if attributes.get("id") == name)
