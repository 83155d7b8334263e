"""The book's figures: each function returns a matplotlib figure, for `embed.show` to embed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mergebook.errors import ReportError
from mergebook.report.panels import grid, legend_below
from mergebook.report.style import (
    PAGE_WIDTH,
    MethodStyle,
    book_style,
    method_styles,
    task_title,
    title_of,
)
from mergebook.report.tables import PAPER_NAMES, summarise, with_relative_storage

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
def accuracy_vs_storage(
    results: pd.DataFrame,
    reported: dict[int, pd.DataFrame] | None = None,
    *,
    backbone: str = "mini-small",
    reported_backbone: str = "ViT-B-32",
) -> Figure:
    """Accuracy against storage, a panel for each suite size, measured and reported.

    Parameters
    ----------
    results : DataFrame
        Tidy results; the mini-scale rows of `backbone` are drawn.
    reported : dict of int to DataFrame, optional
        Per number of tasks, what `reported_main_table` returns. Drawn in panels of its own.
    backbone : str
        Backbone of the measured panels.
    reported_backbone : str
        Backbone of the reported panels, for their titles.

    Returns
    -------
    Figure
        Storage is the share of what the fine-tuned models together need, on a log axis. Methods
        of equal storage are drawn side by side.

    Raises
    ------
    ReportError
        If there are no mini-scale results for the backbone, or the fine-tuned models, which
        storage is measured against, are not among them.
    """
    mine = results[(results["scale"] == "mini") & (results["backbone"] == backbone)]
    sizes = sorted(mine["num_tasks"].unique())
    if not sizes:
        raise ReportError(f"no mini-scale results for backbone {backbone!r}")
    panels = {
        f"Measured, {backbone}": {
            f"{size} tasks": summarise(results, scale="mini", backbone=backbone, num_tasks=size)
            for size in sizes
        }
    }
    if reported is not None:
        panels[f"Reported, {PAPER_NAMES.get(reported_backbone, reported_backbone)}"] = {
            f"{size} tasks": with_relative_storage(frame)
            for size, frame in reported.items()
            if size in sizes
        }
    for kind, row in panels.items():
        for size, part in row.items():
            if part["relative_storage"].isna().all():
                raise ReportError(f"{kind}, {size}: no 'fine_tuned' to compare storage with")
    fig, cells = grid(
        panels,
        3.0,
        "Storage, share of the experts'\n(equal values side by side)",
        "Mean accuracy, %",
    )
    drawn = [str(m) for row in panels.values() for part in row.values() for m in part.index]
    styles = method_styles(drawn)
    for ax, part in cells:
        _scatter(ax, part, styles)
    handles = [Line2D([], [], ls="", marker=m, c=colour, ms=8) for colour, m in styles.values()]
    legend_below(fig, styles, handles)
    return fig


@book_style()
def per_task_heatmap(
    results: pd.DataFrame,
    *,
    backbone: str = "mini-small",
    num_tasks: int = 8,
    value: str = "accuracy",
) -> Figure:
    """Heat map of one number per method and task.

    Parameters
    ----------
    results : DataFrame
        Tidy results at mini scale.
    backbone : str
        Which backbone.
    num_tasks : int
        Which suite size.
    value : {"accuracy", "normalised"}
        Which column; averaged over seeds and shown in per cent.

    Returns
    -------
    Figure
        Methods downwards, tasks to the right, both in order of appearance, and the mean of each
        row set apart at the right. The colours run from the lowest value, rounded down to a
        multiple of 10, to 100.

    Raises
    ------
    ReportError
        If there are no such results.
    """
    part = results[
        (results["scale"] == "mini")
        & (results["backbone"] == backbone)
        & (results["num_tasks"] == num_tasks)
    ]
    if part.empty:
        raise ReportError(f"no mini-scale results for {backbone!r} with {num_tasks} tasks")
    methods, tasks = list(part["method"].unique()), list(part["task"].unique())
    cells = 100 * part.pivot_table(index="method", columns="task", values=value, aggfunc="mean")
    cells = cells.loc[methods, tasks].rename(index=title_of, columns=task_title)
    size = (min(PAGE_WIDTH, 3.2 + 0.5 * len(tasks)), 1.4 + 0.36 * len(methods))
    fig, (left, right, bar) = plt.subplots(
        1, 3, width_ratios=(len(tasks), 1, 0.35), figsize=size, layout="constrained"
    )
    look = {
        "cmap": "cividis",
        "vmin": 10 * np.floor(cells.min(axis=None) / 10),
        "vmax": 100,
        "annot": True,
        "fmt": ".0f",
        "annot_kws": {"fontsize": 8},
        "xticklabels": 1,
    }
    sns.heatmap(cells, ax=left, cbar=False, yticklabels=1, **look)
    mean = cells.mean(axis=1).to_frame("mean")
    label = "Accuracy, %" if value == "accuracy" else "Normalised accuracy, %"
    sns.heatmap(mean, ax=right, cbar_ax=bar, yticklabels=False, cbar_kws={"label": label}, **look)
    for ax in (left, right):
        ax.set(xlabel="", ylabel="")
        ax.set_xticks(ax.get_xticks(), ax.get_xticklabels(), rotation=40, ha="right")
        ax.tick_params(length=0)
    return fig


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
