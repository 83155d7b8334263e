"""Sphinx extension: BibTeX entries of the book and its chapters, for those who cite them.

``{book-entry}`` is made from ``CITATION.cff``, ``{chapter-entries}`` has an entry for each chapter
of ``_toc.yml``, with the title that its page has; ``:without:`` names parts to leave out.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import yaml
from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class Chapters(nodes.General, nodes.Element):
    """Stands for the chapters' entries until all titles are known."""


def entry(kind: str, key: str, fields: dict[str, str]) -> str:
    """Format a BibTeX entry, the values aligned."""
    width = max(map(len, fields))
    lines = ",\n".join(f"  {name:<{width}} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def facts(root: Path) -> dict[str, str]:
    """Fields that all entries share, from ``CITATION.cff``."""
    cited = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    return {
        "title": cited["title"],
        "author": " and ".join(f"{{{author['name']}}}" for author in cited["authors"]),
        "year": str(cited["date-released"])[:4],
        "note": f"Version {cited['version']}",
        "url": cited["url"],
    }


def chapters(root: Path, without: set[str]) -> list[str]:
    """Pages that open a chapter, in the order of ``_toc.yml``."""
    parts = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))["parts"]
    unknown = without - {part["caption"] for part in parts}
    if unknown:
        raise ValueError(f"_toc.yml has no part {', '.join(sorted(unknown))}")
    kept = [part for part in parts if part["caption"] not in without]
    return [chapter["file"] for part in kept for chapter in part["chapters"]]


def chapter_entry(page: str, title: str, book: dict[str, str]) -> str:
    """Entry of one chapter; its key is the folder of an index page, else the page's name."""
    path = PurePosixPath(page)
    name = path.parent.name if path.name == "index" else path.name
    fields = {"title": title, "booktitle": book["title"]}
    fields |= {key: book[key] for key in ("author", "year", "note")}
    return entry(
        "incollection", f"mergebook:{name}", fields | {"url": f"{book['url']}/{page}.html"}
    )


def _block(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="bibtex")


class BookEntry(SphinxDirective):
    """The book's entry."""

    def run(self) -> list[nodes.Node]:
        """Make it from ``CITATION.cff``."""
        root = Path(self.env.srcdir)
        self.env.note_dependency(str(root / "CITATION.cff"))
        return [_block(entry("misc", "mergebook", facts(root)))]


class ChapterEntries(SphinxDirective):
    """An entry for each chapter."""

    option_spec = {"without": str}

    def run(self) -> list[nodes.Node]:
        """Leave a node to be filled in."""
        names = {name.strip() for name in self.options.get("without", "").split(",")} - {""}
        try:
            pages = chapters(Path(self.env.srcdir), names)
        except ValueError as error:
            raise self.error(str(error)) from None
        return [Chapters(pages=pages)]


def fill_in(app, doctree, docname) -> None:
    """Replace the node by the entries, now that the titles are known."""
    for node in list(doctree.findall(Chapters)):
        book, titles = facts(Path(app.srcdir)), app.env.titles
        made = [
            chapter_entry(page, titles[page].astext(), book)
            for page in node["pages"]
            if page in titles
        ]
        node.replace_self(_block("\n\n".join(made)))


def setup(app) -> dict:
    """Register with Sphinx."""
    app.add_node(Chapters)
    app.add_directive("book-entry", BookEntry)
    app.add_directive("chapter-entries", ChapterEntries)
    app.connect("doctree-resolved", fill_in)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
