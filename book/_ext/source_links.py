"""Sphinx extension: links of an executed page lead to the notebook it was executed from.

The book shows ``executed/<chapter>/<name>.ipynb``, which git ignores; the repository holds
``notebooks/<chapter>/<name>.ipynb``. Without this, the buttons that launch or edit such a page
would point at a file that does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator

EXECUTED, SOURCES = "executed/", "notebooks/"


def _buttons(group: list[dict]) -> Iterator[dict]:
    for button in group:
        yield from _buttons(button["buttons"]) if "buttons" in button else [button]


def link_to_sources(app, pagename, templatename, context, doctree) -> None:
    """Rewrite links to a file of the repository; the page's own download stays as it is."""
    if not pagename.startswith(EXECUTED):
        return
    shown = f"/{pagename}.ipynb"
    source = f"/{SOURCES}{pagename.removeprefix(EXECUTED)}.ipynb"
    for button in _buttons(context["header_buttons"]):
        if button.get("url", "").startswith("https://"):
            button["url"] = button["url"].replace(shown, source)


def setup(app) -> dict:
    """Register with Sphinx, after the theme (priority 501) has made its buttons."""
    app.connect("html-page-context", link_to_sources, priority=502)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
