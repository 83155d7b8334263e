"""Sphinx extension: links of a generated page lead to what it was generated from.

The book shows ``executed/<chapter>/<name>.ipynb`` and ``executed/methods/<family>/<name>.md``,
which git ignores; the repository holds ``notebooks/<chapter>/<name>.ipynb`` and the module that
defines the method. Without this, the buttons that launch or edit such a page would point at a file
that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.registry import get_method, list_methods
from mergebook.report.methods import FOLDER, source_of

EXECUTED, SOURCES = "executed/", "notebooks/"
LISTS = "lib/mergebook/report/methods.py"  # writes the pages of the families


def _buttons(group: list[dict]) -> Iterator[dict]:
    for button in group:
        yield from _buttons(button["buttons"]) if "buttons" in button else [button]


def _source(pagename: str) -> tuple[str, str]:
    """File that a page is rendered from, and the one in the repository that it comes from."""
    if not pagename.startswith(f"{FOLDER}/"):
        return f"{pagename}.ipynb", f"{SOURCES}{pagename.removeprefix(EXECUTED)}.ipynb"
    name = pagename.rpartition("/")[2]
    return f"{pagename}.md", source_of(get_method(name)) if name in list_methods() else LISTS


def link_to_sources(app, pagename, templatename, context, doctree) -> None:
    """Rewrite links to a file of the repository; the page's own download stays as it is."""
    if not pagename.startswith(EXECUTED):
        return
    shown, source = _source(pagename)
    for button in _buttons(context["header_buttons"]):
        if button.get("url", "").startswith("https://"):
            button["url"] = button["url"].replace(f"/{shown}", f"/{source}")


def setup(app) -> dict:
    """Register with Sphinx, after the theme (priority 501) has made its buttons."""
    app.connect("html-page-context", link_to_sources, priority=502)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
