"""The prose of an HTML page: headings and paragraphs, without code, tables and navigation."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

MIN_PARAGRAPH_CHARACTERS = 40


class Block(NamedTuple):
    """A heading or a paragraph on one line."""

    text: str
    is_heading: bool


def read_prose(page: Path) -> list[Block]:
    """The headings and the longer paragraphs of a page, in order."""
    parser = _ProseParser()
    parser.feed(page.read_text(encoding="utf-8", errors="replace"))
    return [block for block in parser.blocks if block.is_heading or len(block.text) > MIN_PARAGRAPH_CHARACTERS]


class _ProseParser(HTMLParser):
    """Collects what stands in `<p>` and `<h1>` to `<h3>` inside of `role="main"`."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[Block] = []
        self._open = ""
        self._parts: list[str] = []
        self._in_main = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_main = self._in_main or ("role", "main") in attrs
        if tag in ("p", "h1", "h2", "h3") and self._in_main:
            self._open, self._parts = tag, []
        if tag == "footer" or ("class", "sphinxsidebar") in attrs:
            self._in_main = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self._parts.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag != self._open:
            return
        text = " ".join("".join(self._parts).replace("¶", "").split())
        if text:
            self.blocks.append(Block(text, tag != "p"))
        self._open = ""
