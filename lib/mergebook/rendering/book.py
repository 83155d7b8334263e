"""The book around the page of a rerun: its contents, its pages' titles and published addresses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import yaml

from mergebook.notebooks import find_notebooks


@dataclass(frozen=True)
class Book:
    """The book around the page: its contents, and where it is published.

    Attributes
    ----------
    root : Path
        The project's folder.
    page : str
        The page's name in the book.
    """

    root: Path
    page: str

    @cached_property
    def toc(self) -> dict:
        """The book's table of contents."""
        return _read_yaml(self.root / "_toc.yml")

    @cached_property
    def base(self) -> str:
        """Address of the published book, with a slash at its end; empty if there is none."""
        html = _read_yaml(self.root / "_config.yml").get("html") or {}
        address = html.get("baseurl") or ""
        return f"{address.rstrip('/')}/" if address else ""

    @property
    def published(self) -> str:
        """Address of the page in the published book; empty if it is not part of that."""
        return self.address(self.page) if self.page in _pages(self.toc) else ""

    def address(self, name: str) -> str:
        """Address of a page in the published book; empty if there is no such book."""
        return f"{self.base}{name}.html" if self.base else ""

    def name(self, page: str) -> str | None:
        """Text of a link to a page: its title, or its name if it is made by the pipeline.

        None if the book has no such page.
        """
        made = any(fnmatch(page, pattern) for pattern in _pages(self.toc, ("glob",)))
        return self.title(page) or (page.rpartition("/")[2] if made else None)

    def title(self, name: str) -> str | None:
        """First heading of a page's source; None if there is none."""
        if name.startswith("executed/"):
            notebook = find_notebooks(self.root).get(name.removeprefix("executed/"))
            return notebook.title if notebook else None
        path = self.root / f"{name}.md"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        return next((line[2:].strip() for line in lines if line.startswith("# ")), None)

    def contents(self) -> dict:
        """Contents of the one-page book: the page, and beside it links to the published chapters.

        The sections of a chapter are listed where the page is one of them.
        """
        parts = self.toc.get("parts") or [{"chapters": self.toc.get("chapters") or []}]
        parts = [
            part | {"chapters": list(self._links(part.get("chapters") or []))} for part in parts
        ]
        shown = [part for part in parts if self.base and part["chapters"]]
        return {"format": "jb-book", "root": self.page} | ({"parts": shown} if shown else {})

    def _links(self, entries: list[dict]) -> Iterator[dict]:
        for entry in entries:
            name = entry.get("file")
            title = entry.get("title") or (self.title(name) if name else None)
            if title:
                yield {"url": entry.get("url") or self.address(name), "title": title}
            sections = entry.get("sections") or []
            if self.page in _pages(entry):
                yield from self._links(sections)


def _read_yaml(path: Path) -> dict:
    return (yaml.safe_load(path.read_text(encoding="utf-8")) or {}) if path.is_file() else {}


def _pages(entries: object, keys: tuple[str, ...] = ("file", "root")) -> Iterator[str]:
    """Names of all pages (or patterns of names) at or below an entry of a table of contents."""
    if isinstance(entries, dict):
        yield from (entries[key] for key in keys if key in entries)
        entries = list(entries.values())
    for each in entries if isinstance(entries, list) else ():
        yield from _pages(each, keys)
