"""Sphinx extension: leave out the scripts of Thebe, which Jupyter Book adds to every page.

The book has no live cells. Besides, the theme's version adds its constants twice, which the browser
reports as an error.
"""

from __future__ import annotations


def _is_thebe(script) -> bool:
    text = f"{script.filename or ''} {script.attributes.get('body', '')}"
    return "thebe" in text.lower()


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Remove Thebe's scripts from the page."""
    context["script_files"] = [s for s in context["script_files"] if not _is_thebe(s)]


def setup(app) -> dict:
    """Register with Sphinx, after extensions (priority 500) have added their scripts."""
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
