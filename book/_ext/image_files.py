"""Sphinx extension: how pictures come to a page: as files, when needed, narrow ones on phones.

A notebook carries its figures inside its HTML outputs (`mergebook.report.show`). On a page this
would load all of them before the first one is seen. Here each image is written to ``_images``,
under a name made of its content, and the page refers to it.

A picture ``name.png`` with a ``name.narrow.png`` beside it is shown as the latter on a phone.
"""

from __future__ import annotations

import base64
import hashlib
import posixpath
import re
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.util.osutil import relative_uri

EAGER = re.compile(r"<img(?![^>]*\bloading=)")
PHONE = "(max-width: 600px)"
EMBEDDED = re.compile(r'src="data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/=\s]+)"')


def write_files(app, doctree, docname) -> None:
    """Write the images of a page's HTML outputs and refer to them; only where pages are HTML."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir, app.builder.imagedir)
    page = app.builder.get_target_uri(docname)

    def refer(found: re.Match) -> str:
        kind, data = found[1], base64.b64decode(found[2])
        name = f"{hashlib.sha256(data).hexdigest()[:16]}.{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / name).exists():
            (folder / name).write_bytes(data)
        return f'src="{relative_uri(page, posixpath.join(app.builder.imagedir, name))}"'

    for node in doctree.findall(nodes.raw):
        text = node.astext()
        if "html" in node.get("format", "").split() and "base64," in text:
            node.children = []
            node += nodes.Text(EMBEDDED.sub(refer, text))


def load_late(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Let every picture of a page be loaded when a reader comes near it."""
    if "body" in context:
        context["body"] = EAGER.sub('<img loading="lazy"', context["body"])


def offer_narrow(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Offer phones the narrow pictures that lie beside pictures of a page."""
    if app.builder.format != "html":
        return
    folder = Path(app.outdir, app.builder.imagedir)
    for source, (pages, name) in app.env.images.items():
        narrow = Path(app.srcdir, source).with_suffix(f".narrow{Path(source).suffix}")
        if pagename in pages and narrow.exists():
            other = Path(name).with_suffix(f".narrow{narrow.suffix}").name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(narrow, folder / other)
            shown = re.compile(rf'<img\b[^>]*\bsrc="([^"]*/){re.escape(name)}"[^>]*>')
            context["body"] = shown.sub(
                rf'<picture><source media="{PHONE}" srcset="\g<1>{other}">\g<0></picture>',
                context["body"],
            )


def setup(app) -> dict:
    """Register with Sphinx."""
    app.connect("doctree-resolved", write_files)
    app.connect("html-page-context", load_late)
    app.connect("html-page-context", offer_narrow)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
