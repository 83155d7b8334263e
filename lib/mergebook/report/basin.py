"""Figure of the accuracy between a base and its experts."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.errors import ReportError
from mergebook.report.embed import show
from mergebook.report.style import BLUE, GREY, PAGE_WIDTH, book_style, task_title

COLUMNS = 4


def show_lines(line: pd.DataFrame) -> HTML:
    """Show the panels of :func:`line_figure`, with caption and alternative text."""
    return show(
        line_figure(line),
        name="line",
        alt="Test accuracy of each task along the straight line from the base to its expert.",
        caption="Test accuracy along the line from the base (0) to each task's expert (1). Dotted: "
        "the straight line between both ends.",
    )


@book_style()
def line_figure(line: pd.DataFrame) -> Figure:
    """Draw the accuracy along the line from the base to each task's expert, one panel a task.

    Parameters
    ----------
    line : DataFrame
        Columns ``task``, ``alpha``, ``accuracy``, from :func:`mergebook.analysis.line_scan`.

    Returns
    -------
    Figure

    Raises
    ------
    ReportError
        If the table is empty.
    """
    tasks = list(dict.fromkeys(line["task"]))
    if not tasks:
        raise ReportError("no line to draw: the table is empty")
    rows = -(-len(tasks) // COLUMNS)
    fig, axes = plt.subplots(
        rows, min(COLUMNS, len(tasks)), figsize=(PAGE_WIDTH, 1.6 * rows + 0.5), squeeze=False,
        sharex=True, sharey=True, layout="constrained",
    )  # fmt: skip
    for ax in axes.flat[len(tasks) :]:
        ax.set_axis_off()
    for ax, task in zip(axes.flat, tasks, strict=False):
        part = line[line["task"] == task]
        ends = part["accuracy"].iloc[[0, -1]].to_numpy()
        ax.plot([0, 1], 100 * ends, ls=":", color=GREY, lw=1)
        ax.plot(part["alpha"], 100 * part["accuracy"], "o-", color=BLUE, ms=3, lw=1.5)
        ax.set_title(task_title(task), fontsize=9)
        ax.set(ylim=(0, 103), xticks=np.array([0, 0.5, 1]))
    fig.supxlabel("Position between base (0) and expert (1)", fontsize=10)
    fig.supylabel("Test accuracy, %", fontsize=10)
    return fig
