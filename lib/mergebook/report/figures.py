"""The book's figures: each function returns a matplotlib figure, for `embed.show` to embed.

seaborn takes a second to import, with all of scipy's statistics: only heat maps wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from mergebook.errors import ReportError
from mergebook.report.panels import Frames, by_facet, grid, legend_below, names_in
from mergebook.report.style import (
    PAGE_WIDTH,
    VERMILION,
    MethodStyle,
    book_style,
    method_styles,
    task_title,
    title_of,
)
from mergebook.report.tables import with_relative_storage

DODGE = 1.06  # methods of equal storage are drawn side by side, this factor apart


def _scatter(ax: Axes, part: pd.DataFrame, styles: Mapping[str, MethodStyle]) -> None:
    shares = 100 * part["relative_storage"]
    place = shares.groupby(shares.round(3)).cumcount()
    count = shares.groupby(shares.round(3)).transform("size")
    dodged = shares * DODGE ** (place - (count - 1) / 2)
    for method, share in dodged.items():
        colour, marker = styles[str(method)]
        ax.scatter(
            share,
            100 * part["accuracy"][method],
            s=150 if marker == "*" else 65,
            c=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.8,
            zorder=3,
        )
    ax.set_xscale("log")
    ticks = [t for t in (5, 10, 20, 50, 100) if t >= 0.9 * shares.min()]
    ax.set_xticks(ticks, [f"{t} %" for t in ticks])
    ax.minorticks_off()


@book_style()
def accuracy_vs_storage(frames: Frames) -> Figure:
    """Accuracy against storage, a panel for each source and suite size.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table with ``num_tasks``, ``method``, ``accuracy``, ``storage_gigabit``; means
        are taken over what else the rows differ in.

    Returns
    -------
    Figure
        Storage is the share of what the fine-tuned models together need, on a log axis. Methods
        of equal storage are drawn side by side.

    Raises
    ------
    ReportError
        If there is no table, or the fine-tuned models, which storage is measured against, are not
        among the methods.
    """
    panels = by_facet(frames, "num_tasks")
    fig, cells = grid(
        panels,
        3.0,
        "Storage, share of the experts'\n(equal values side by side)",
        "Mean accuracy, %",
    )
    styles = method_styles(names_in(panels, "method"))
    for ax, part in cells:
        means = part.groupby("method", sort=False)[["accuracy", "storage_gigabit"]].mean()
        if "fine_tuned" not in means.index:
            raise ReportError(f"{ax.get_title()}: no 'fine_tuned' to compare storage with")
        _scatter(ax, with_relative_storage(means), styles)
    handles = [Line2D([], [], ls="", marker=m, c=colour, ms=8) for colour, m in styles.values()]
    legend_below(fig, styles, handles)
    return fig


@book_style()
def per_task_heatmap(frames: Frames, *, value: str = "accuracy") -> Figure:
    """Heat map of one number per method and task, a panel for each source.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> tidy results; the largest suite size of each is drawn, means over seeds.
    value : {"accuracy", "normalised"}
        Which column, shown in per cent.

    Returns
    -------
    Figure
        Methods downwards, tasks to the right, both in order of appearance, and the mean of each
        row set apart at the right. The colours run from the lowest value, rounded down to a
        multiple of 10, to 100.

    Raises
    ------
    ReportError
        If there is nothing to draw.
    """
    tables = {}
    for source, frame in frames.items():
        part = frame[frame["num_tasks"] == frame["num_tasks"].max()]
        if part.empty:
            raise ReportError(f"{source}: no results for a heat map")
        cells = 100 * part.pivot_table(index="method", columns="task", values=value, sort=False)
        tables[source] = cells.rename(index=title_of, columns=task_title)
    heights = [1.2 + 0.36 * len(cells) for cells in tables.values()]
    fig, axes = plt.subplots(
        len(tables),
        3,
        width_ratios=(max(cells.shape[1] for cells in tables.values()), 1, 0.35),
        height_ratios=heights,
        figsize=(PAGE_WIDTH, sum(heights)),
        squeeze=False,
        layout="constrained",
    )
    import seaborn as sns

    look = {
        "cmap": "cividis",
        "vmin": 10 * np.floor(min(c.min(axis=None) for c in tables.values()) / 10),
        "vmax": 100,
        "annot": True,
        "fmt": ".0f",
        "annot_kws": {"fontsize": 8},
        "xticklabels": 1,
    }
    label = "Accuracy, %" if value == "accuracy" else "Normalised accuracy, %"
    for (left, right, bar), (source, cells) in zip(axes, tables.items(), strict=True):
        sns.heatmap(cells, ax=left, cbar=False, yticklabels=1, **look)
        mean = cells.mean(axis=1).to_frame("mean")
        scale = {"cbar_ax": bar, "cbar_kws": {"label": label}}
        sns.heatmap(mean, ax=right, yticklabels=False, **scale, **look)
        left.set_title(source)
        for ax in (left, right):
            ax.set(xlabel="", ylabel="")
            ax.set_xticks(ax.get_xticks(), ax.get_xticklabels(), rotation=40, ha="right")
            ax.tick_params(length=0)
    return fig


@book_style()
def heat_figure(
    frames: Frames,
    *,
    rows: str,
    columns: str,
    value: str,
    facet: str | None = None,
    xlabel: str,
    ylabel: str,
    label: str,
) -> Figure:
    """Heat map of one number over two parameters, a panel for each source and key.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table with the columns `rows`, `columns`, `value` (a fraction) and `facet`.
    rows, columns, value, facet : str
        Names of the columns; shares among `rows` and `columns` are shown in per cent.
    xlabel, ylabel, label : str
        Labels of the axes, and of the colours.

    Returns
    -------
    Figure
        One scale of colours for each source; the best cell of a panel has a frame.
    """
    import seaborn as sns

    panels = by_facet(frames, facet)
    fig, cells = grid(panels, lambda f: 1.1 + 0.27 * f[rows].nunique(), xlabel, ylabel, share=False)
    for ax, frame in cells:
        table = 100 * frame.pivot_table(index=rows, columns=columns, values=value).iloc[::-1]
        ticks = {"xticklabels": _ticks(table.columns), "yticklabels": _ticks(table.index)}
        look = {"cmap": "cividis", "annot": True, "fmt": ".0f", "annot_kws": {"fontsize": 8}}
        sns.heatmap(table, ax=ax, cbar_kws={"label": label}, **ticks, **look)
        row, column = np.unravel_index(np.nanargmax(table), table.shape)
        frame = Rectangle((column, row), 1, 1, fill=False, ec=VERMILION, lw=2.5, clip_on=False)
        ax.add_patch(frame)
        ax.set(xlabel="", ylabel="")
        ax.tick_params(length=0)
        if table.shape[1] > 8:
            ax.tick_params(axis="x", labelrotation=90)
    return fig


def _ticks(values: Iterable[float]) -> list[str]:
    """Labels of a parameter's values, in per cent where all of them are shares."""
    values = list(values)
    shares = max(values) <= 1
    return [f"{100 * value:g} %" if shares else f"{value:g}" for value in values]


@book_style()
def sample_sheet(images: NDArray[np.uint8], names: Sequence[str]) -> Figure:
    """Sheet of sample images, one column per class.

    Parameters
    ----------
    images : uint8 array, shape (R * C, H, W, 3)
        R rounds of one image of each class, as `Task.samples` returns them.
    names : sequence of str, length C
        Names of the classes.

    Returns
    -------
    Figure
        Pixels are drawn as squares, not smoothed.

    Raises
    ------
    ReportError
        If there are no images, or not as many for each name.
    """
    if not len(names) or not len(images) or len(images) % len(names):
        raise ReportError(f"{len(images)} images for {len(names)} names")
    columns, rounds, gap = len(names), len(images) // len(names), 2
    height, width = images.shape[1] + gap, images.shape[2] + gap
    sheet = np.full((rounds * height - gap, columns * width - gap, 3), 255, np.uint8)
    for n, image in enumerate(images):
        y, x = height * (n // columns), width * (n % columns)
        sheet[y : y + height - gap, x : x + width - gap] = image
    side = min(0.7, PAGE_WIDTH / columns)  # inches an image
    labels = [name.replace("_", " ") for name in names]
    crowded = max(map(len, labels)) * 0.075 > side
    below = 0.07 * max(map(len, labels)) * 0.7 + 0.2 if crowded else 0.3  # inches for the names
    fig, ax = plt.subplots(figsize=(side * columns, side * rounds + below), layout="constrained")
    ax.imshow(sheet, interpolation="nearest")
    turn = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if crowded else {}
    ax.set_xticks(width * np.arange(columns) + (width - gap) / 2, labels, fontsize=8, **turn)
    ax.set_yticks([])
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return fig
