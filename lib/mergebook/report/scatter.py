"""Points of a plane in panels, coloured by class."""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mergebook.report.style import METHOD_COLOURS, PAGE_WIDTH, book_style


@book_style()
def scatter_figure(frame: pd.DataFrame, *, x: str, y: str, by: str, facet: str) -> Figure:
    """Draw points, a panel for each value of a column, two side by side.

    The panels share their axes, which have no ticks: only what lies near what means something.

    Parameters
    ----------
    frame : DataFrame
        Columns `x`, `y`, `by` and `facet`.
    x, y, by, facet : str
        Names of the columns; each value of `by` has a colour, as far as there are colours.
    """
    panels = list(frame[facet].unique())
    rows = -(-len(panels) // 2)
    fig, axes = plt.subplots(
        rows, 2, figsize=(PAGE_WIDTH, 2.5 * rows), sharex=True, sharey=True,
        layout="constrained", squeeze=False,
    )  # fmt: skip
    values = list(pd.unique(frame[by].sort_values()))
    colours = {each: METHOD_COLOURS[n % len(METHOD_COLOURS)] for n, each in enumerate(values)}
    for ax in axes.flat[len(panels) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, panels, strict=False):
        part = frame[frame[facet] == name]
        ax.scatter(part[x], part[y], s=14, c=part[by].map(colours), alpha=0.85, lw=0)
        ax.set_title(name)
        ax.set(xticks=[], yticks=[])
        ax.grid(visible=False)
    return fig
