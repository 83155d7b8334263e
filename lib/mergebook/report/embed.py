"""Figures in a notebook, with an alternative text and a caption that reach the built page."""

from __future__ import annotations

import base64
import io
from html import escape

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.errors import ReportError, unknown

KINDS = ("hero", "thumbnail")
CSS_PIXELS = 100  # per inch of figure, as a browser shows it
DOTS = 240  # per inch of figure in the image: sharp on dense screens and in print


def show(fig: Figure, *, alt: str, name: str, caption: str = "", kind: str = "") -> HTML:
    """Show a figure in a notebook, with an alternative text that reaches the built page.

    MyST-NB drops what it does not know about an image output, so the figure is shown as HTML. In
    the notebook the image is part of it, so that the file can be moved and sent; the book writes
    it to a file of its own, loaded when a reader comes near (see ``book/_ext/image_files.py``).
    The figure is closed, which keeps the notebook from showing it twice.

    Parameters
    ----------
    fig : Figure
        What to show.
    alt : str
        What a reader who cannot see the figure should know: what is drawn, and what it shows.
    name : str
        Identifier on the page; links reach the figure as ``#fig-<name>``.
    caption : str
        Shown below the figure.
    kind : {"", "hero", "thumbnail"}, default ""
        ``"hero"`` fills the width at the top of a page, ``"thumbnail"`` stands beside the text.

    Returns
    -------
    IPython.display.HTML
        An image of 240 dots per inch, shown at 100 pixels per inch, never wider than the page.

    Raises
    ------
    ReportError
        If the alternative text is empty, or the kind is none of these.
    """
    if not alt.strip():
        raise ReportError(f"figure {name!r} has no alternative text")
    if kind and kind not in KINDS:
        raise ReportError(f"figure {name!r}: {unknown('kind', kind, KINDS)}")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=DOTS, facecolor="white", metadata={"Software": None})
    plt.close(fig)
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(inches * CSS_PIXELS) for inches in fig.get_size_inches())
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    kinds = f"mergebook {kind}".strip()
    return HTML(
        f'<figure id="fig-{escape(name)}" class="{kinds}">'
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" '
        f'width="{width}" height="{height}" loading="lazy" '
        f'style="max-width: 100%; height: auto; background: white">{text}</figure>'
    )
