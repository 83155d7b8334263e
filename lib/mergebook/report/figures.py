"""The book's figures: each function returns a matplotlib figure, for `embed.show` to embed."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from mergebook.errors import ReportError
from mergebook.registry import get_method
from mergebook.report.style import book_style, method_style
from mergebook.report.tables import PAPER_NAMES, summarise, with_relative_storage

DODGE = 1.06  # methods of equal storage are drawn side by side, this factor apart


def _scatter(ax: Axes, part: pd.DataFrame, title: str) -> None:
    shares = 100 * part["relative_storage"]
    place = shares.groupby(shares.round(3)).cumcount()
    count = shares.groupby(shares.round(3)).transform("size")
    dodged = shares * DODGE ** (place - (count - 1) / 2)
    for method, share in dodged.items():
        colour, marker = method_style(str(method))
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
    ax.set_title(title)
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
    """Accuracy against storage, one column per suite size; measured above, reported below.

    Parameters
    ----------
    results : DataFrame
        Tidy results; the mini-scale rows of `backbone` are drawn.
    reported : dict of int to DataFrame, optional
        Per number of tasks, what `reported_main_table` returns. Drawn in a row of its own.
    backbone : str
        Backbone of the measured row.
    reported_backbone : str
        Backbone of the reported row, for its title.

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
    rows = {
        f"Measured, {backbone}": {
            size: summarise(results, scale="mini", backbone=backbone, num_tasks=size)
            for size in sizes
        }
    }
    if reported is not None:
        rows[f"Reported, {PAPER_NAMES.get(reported_backbone, reported_backbone)}"] = {
            size: with_relative_storage(frame) for size, frame in reported.items() if size in sizes
        }
    fig, axes = plt.subplots(
        len(rows),
        len(sizes),
        figsize=(max(6.4, 3.2 * len(sizes) + 0.6), 3.0 * len(rows) + 1.0),
        squeeze=False,
        sharey="row",
        layout="constrained",
    )
    drawn: dict[str, None] = {}
    for line, (kind, parts) in zip(axes, rows.items(), strict=True):
        for ax, size in zip(line, sizes, strict=True):
            if size not in parts:
                ax.set_axis_off()
                continue
            if parts[size]["relative_storage"].isna().all():
                raise ReportError(f"{kind}, {size} tasks: no 'fine_tuned' to compare storage with")
            _scatter(ax, parts[size], f"{kind}, {size} tasks")
            drawn |= dict.fromkeys(map(str, parts[size].index))
        line[0].set_ylabel("Mean accuracy, %")
    for ax in axes[-1]:
        ax.set_xlabel("Storage, share of the experts'\n(equal values drawn side by side)")
    handles = [
        Line2D([], [], ls="", marker=method_style(m).marker, c=method_style(m).colour, ms=8)
        for m in drawn
    ]
    titles = [get_method(m).title for m in drawn]
    fig.legend(handles, titles, loc="outside lower center", ncols=min(4, 2 * len(sizes)))
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
    grid = 100 * part.pivot_table(index="method", columns="task", values=value, aggfunc="mean")
    grid = grid.loc[methods, tasks]
    fig, (left, right) = plt.subplots(
        1,
        2,
        width_ratios=(len(tasks), 1),
        figsize=(3.2 + 0.5 * len(tasks), 1.4 + 0.36 * len(methods)),
        layout="constrained",
    )
    lowest = 10 * np.floor(grid.min(axis=None) / 10)
    _heat(left, grid, [task.replace("_", " ") for task in tasks], lowest)
    image = _heat(right, grid.mean(axis=1).to_frame(), ["mean"], lowest)
    left.set_yticks(range(len(methods)), [get_method(m).title for m in methods])
    right.set_yticks([])
    title = "Accuracy, %" if value == "accuracy" else "Normalised accuracy, %"
    fig.colorbar(image, ax=(left, right), label=title, fraction=0.03, pad=0.02)
    return fig


def _heat(
    ax: Axes, cells: pd.DataFrame, labels: Sequence[str], lowest: float, highest: float = 100
) -> AxesImage:
    image = ax.imshow(cells, cmap="cividis", aspect="auto", vmin=lowest, vmax=highest)
    for (row, column), number in np.ndenumerate(cells):
        colour = "white" if number < (lowest + highest) / 2 else "black"
        ax.text(column, row, f"{number:.0f}", ha="center", va="center", fontsize=9, color=colour)
    ax.set_xticks(range(len(labels)), labels, rotation=40, ha="right")
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


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
    side = min(0.7, 8.4 / columns)  # inches an image
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
