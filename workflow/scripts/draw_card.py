"""Draw the picture that other sites show beside a link to the book: ``book/_static/card.png``.

Run by hand when the book's name or look changes: python workflow/scripts/draw_card.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import PathPatch, Polygon
from matplotlib.path import Path as Curve

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 1200, 630  # pixels, as sites ask for
# The logo, in its own units: paths of the experts, and the one they merge into.
STRANDS = {"#0072B2": (14, 70), "#D55E00": (82, 70), "#E69F00": (48, None)}
MERGED = "#009E73"


def draw() -> plt.Figure:
    fig = plt.figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=100, facecolor="white")
    logo = fig.add_axes((0.05, 0.27, 0.36, 0.46))
    logo.set(xlim=(0, 200), ylim=(96, 0), aspect="equal")
    logo.set_axis_off()
    look = {"lw": 19, "capstyle": "round", "fill": False}
    for colour, (start, bend) in STRANDS.items():
        if bend is None:
            curve = Curve([(14, start), (122, 48)])
        else:
            points = [(14, start), (80, start), (bend, 48), (122, 48)]
            curve = Curve(points, [Curve.MOVETO, *[Curve.CURVE4] * 3])
        logo.add_patch(PathPatch(curve, edgecolor=colour, **look))
    logo.add_patch(PathPatch(Curve([(122, 48), (160, 48)]), edgecolor=MERGED, **look))
    logo.add_patch(Polygon([(158, 30), (190, 48), (158, 66)], color=MERGED))
    text = {"ha": "left", "va": "center", "family": "DejaVu Sans"}
    fig.text(0.45, 0.58, "A Companion to\nModel Merging", size=46, weight="bold", **text)
    words = (
        "Tables, figures and ablations of the papers,",
        "rerun by anyone: every number has its",
        "file, and every claim its verdict.",
    )
    fig.text(0.45, 0.31, "\n".join(words), size=21, color="#444444", linespacing=1.5, **text)
    return fig


if __name__ == "__main__":
    draw().savefig(ROOT / "book/_static/card.png", metadata={"Software": None})
