"""Sphinx extension for a book of one page: other pages are published ones, numbers the run's."""

from __future__ import annotations

import os
import re
from posixpath import normpath
from urllib.parse import urljoin

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.transforms.post_transforms import SphinxPostTransform

from mergebook.errors import ReportError
from mergebook.paths import project_dir
from mergebook.rendering.book import Book
from mergebook.report.numbers import Number
from mergebook.report.queries import Run

PAGE = "index.html"
FOLDERS = ("_static", "_images", "_downloads", "_sources", "_sphinx_design_static")
# Links of a page that are neither addresses nor anchors nor lead to the page's own files.
LINK = re.compile(rf'(<a\b[^>]*?\shref=")(?![a-z]+:|#|/|{"|".join(FOLDERS)})([^"]+)')


class PageBuilder(StandaloneHTMLBuilder):
    """Sphinx's builder of HTML, for one page that lies beside its files."""

    def get_target_uri(self, docname: str, typ: str | None = None) -> str:
        """Address of a page."""
        return PAGE if docname == self.config.root_doc else super().get_target_uri(docname, typ)

    def get_outfilename(self, pagename: str) -> str:
        """File of a page."""
        if pagename == self.config.root_doc:
            return os.path.join(self.outdir, PAGE)
        return super().get_outfilename(pagename)


class LinksToTheBook(SphinxPostTransform):
    """Resolve links to pages that are not part of this build, before MyST drops them."""

    default_priority = 8

    def run(self, **kwargs: object) -> None:
        """Replace such links by links to the published book, or by their text without one."""
        book = self.config.rerun_book
        for node in list(self.document.findall(pending_xref)):
            if node["reftype"] not in ("myst", "doc"):
                continue
            path, _, anchor = node["reftarget"].partition("#")
            anchor = node.get("reftargetid") or anchor
            if node.get("refdomain") != "doc":
                path = _place(self.env.docname, path)
            page = re.sub(r"\.(md|ipynb)$", "", path)
            name = book.name(page)
            if page == book.page or name is None:
                continue
            text = node.astext() if node["refexplicit"] else name
            link = nodes.inline(text, text)
            if book.base:
                address = book.address(page) + (f"#{anchor}" if anchor else "")
                link = nodes.reference(text, text, internal=False, refuri=address)
            node.replace_self(link)


def _say_what_was_run(app, doctree) -> None:
    """Put below the page's title which parameters were changed, and where the book shows it."""
    text = nodes.paragraph("", "Executed with ")
    changed = [f"{name} = {value!r}" for name, value in app.config.rerun_values.items()]
    for number, each in enumerate(changed):
        text += [nodes.Text(", " if number else ""), nodes.literal(each, each)]
    text += nodes.Text("." if changed else "the notebook's own parameters.")
    if published := app.config.rerun_book.published:
        link = nodes.reference("", "the book’s page", internal=False, refuri=published)
        text += [nodes.Text(" The published run is on "), link, nodes.Text(".")]
    note = nodes.admonition("", nodes.title("", "Your rerun"), text, classes=["note"])
    title = next(iter(doctree.findall(nodes.title)))
    title.parent.insert(title.parent.index(title) + 1, note)


def _place(page: str, target: str) -> str:
    """Return the name of a page that another names, by the path from it or from the root."""
    start = "" if target.startswith("/") else page.rpartition("/")[0]
    return normpath(f"{start}/{target}").lstrip("/")


def _lead_to_the_book(app, pagename, templatename, context, doctree) -> None:
    """Let links in tables, which are HTML already, lead to the book, too; none to a search."""
    hasdoc = context["hasdoc"]
    context["hasdoc"] = lambda name: name != "search" and hasdoc(name)
    book = app.config.rerun_book
    context["pageurl"] = book.published or None  # the canonical page is the book's
    here = book.address(book.page)
    if here and "body" in context:
        context["body"] = LINK.sub(lambda m: m[1] + urljoin(here, m[2]), context["body"])


class ThisRun(Run):
    """The numbers of the rerun, for prose; a dash where it has none."""

    def __call__(self, *query: object, **conditions: object) -> Number | str:
        """Return one number, see `mergebook.report.queries.Run`."""
        try:
            return super().__call__(*query, **conditions)
        except ReportError:
            return Number(float("nan"))


def _configure(app, config) -> None:
    config.rerun_book = Book(project_dir(), config.root_doc)
    if "here" in config.myst_substitutions:
        config.myst_substitutions = {**config.myst_substitutions, "here": ThisRun()}


def setup(app: Sphinx) -> dict:
    """Register with Sphinx, after the project's own extensions."""
    app.add_config_value("rerun_book", None, "")
    app.add_config_value("rerun_values", {}, "")
    app.add_builder(PageBuilder, override=True)
    app.add_post_transform(LinksToTheBook)
    app.connect("config-inited", _configure, priority=900)
    app.connect("doctree-read", _say_what_was_run)
    app.connect("html-page-context", _lead_to_the_book, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
