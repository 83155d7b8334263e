"""Figures in a notebook, with an alternative text that reaches the built page."""

from __future__ import annotations

import base64
import io
from html import escape

import matplotlib.pyplot as plt
from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.errors import ReportError

DOTS_PER_INCH = 100  # CSS pixels per inch of figure; the image itself has twice as many


def show(fig: Figure, *, alt: str, name: str, caption: str = "") -> HTML:
    """Embed a figure in a notebook, with an alternative text that reaches the built page.

    MyST-NB drops what it does not know about an image output, so the image is embedded as HTML.
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

    Returns
    -------
    IPython.display.HTML
        Twice the resolution of the screen it is drawn for, never wider than the page.

    Raises
    ------
    ReportError
        If the alternative text is empty.
    """
    if not alt.strip():
        raise ReportError(f"figure {name!r} has no alternative text")
    buffer = io.BytesIO()
    fig.savefig(
        buffer, format="png", dpi=2 * DOTS_PER_INCH, facecolor="white", metadata={"Software": None}
    )
    plt.close(fig)
    data = base64.b64encode(buffer.getvalue()).decode()
    width = round(fig.get_figwidth() * DOTS_PER_INCH)
    text = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return HTML(
        f'<figure id="fig-{escape(name)}" class="mergebook" style="margin: 1em 0">'
        f'<img src="data:image/png;base64,{data}" alt="{escape(alt)}" width="{width}" '
        f'style="max-width: 100%; height: auto; background: white">{text}</figure>'
    )
