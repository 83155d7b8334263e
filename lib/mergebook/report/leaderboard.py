"""The leaderboard's tables and figures; seaborn and adjustText are imported where they draw."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mergebook.errors import ReportError, unknown
from mergebook.merged import Told
from mergebook.registry import get_method
from mergebook.report.board import BLOCKS, at, frontier, in_block, over_seeds, row_title
from mergebook.report.numbers import EMPTY, between, shown
from mergebook.report.page import HERE, RERUN
from mergebook.report.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    PAGE_WIDTH,
    VERMILION,
    book_style,
    title_of,
)
from mergebook.report.tables import folded, html_table

# A block's colour and marker, and how large it is drawn.
LOOKS: Mapping[Told, tuple[str, str, int]] = {
    "no": (BLUE, "o", 46),
    "yes": (VERMILION, "D", 44),
    "guessed": (GREEN, "^", 60),
}
LEGEND = {
    "no": "one model",
    "yes": "several models, task told",
    "guessed": "several models, task guessed",
}


def leaderboard_table(summary: pd.DataFrame, told: Told, *, num_tasks: int) -> pd.DataFrame:
    """Texts of one block of the leaderboard at one suite size, best first.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.evaluation.Comparison.summary`, for one or more seeds.
    told : {"no", "yes", "guessed"}
        Which block: methods that are told as much about an image's task.
    num_tasks : int
        Which suite size.

    Returns
    -------
    DataFrame
        One row per method, indexed by its title and, where its training was cut, what it had of
        it. Accuracies are those of the first seed with their bootstrap intervals, and beside them
        the mean over seeds. Empty if the block is.

    Raises
    ------
    ReportError
        If there are no results for the size, or there is no such block.
    """
    if told not in BLOCKS:
        raise ReportError(unknown("block", told, BLOCKS))
    first = at(summary, num_tasks).sort_values("normalised", ascending=False)
    seeds = over_seeds(summary[summary["num_tasks"] == num_tasks])
    many = int(seeds["seeds"].max())
    rows = {}
    for name in in_block(told, first.index):
        method, row, mean = get_method(name), first.loc[name], seeds.loc[name]
        spread = f"{shown(mean['mean'], 'cell')} ± {shown(mean['half'], 'cell')}"
        rows[row_title(name, row["params"])] = {
            "Normalised, %": shown(row["normalised"], "cell"),
            "95 % interval": between(row["normalised_low"], row["normalised_high"]),
            **({f"Over {many} seeds": spread if mean["seeds"] > 1 else EMPTY} if many > 1 else {}),
            "Storage, %": shown(row["share"], "cell"),
            "Task told": BLOCKS[told].told,
            "Needs": ", ".join(method.needs) or "weights",
            "Merging, s": shown(row["seconds"], ".2f"),
            "Inference, ×": shown(row["inference_ratio"], ".1f"),
            "Accuracy, %": shown(row["accuracy"], "cell"),
        }
    return pd.DataFrame(rows).T.rename_axis("Method")


def leaderboard_block(
    summary: pd.DataFrame, told: Told, *, num_tasks: int, what: str = "committed run"
) -> HTML:
    """Show one block of the leaderboard, methods linked to their pages.

    Parameters
    ----------
    summary, told, num_tasks
        As for :func:`leaderboard_table`.
    what : str, default "committed run"
        Whose numbers these are, for the caption.

    Returns
    -------
    IPython.display.HTML
        A sentence in place of a table if the block is empty.
    """
    table = leaderboard_table(summary, told, num_tasks=num_tasks)
    title, backbone = BLOCKS[told].title, summary["backbone"].iloc[0]
    if table.empty:
        return HTML(f"<p>{title}: no method.</p>")
    caption = f"{title}: {len(table)} methods, {num_tasks} tasks, {backbone}, {what}"
    part = at(summary, num_tasks)
    links = {
        row_title(name, part.loc[name, "params"]): f"../methods/{get_method(name).family}/{name}"
        ".html"
        for name in part.index
    }
    return html_table(table, caption=caption, sortable=True, links=links)


def leaderboard_blocks(
    summary: pd.DataFrame, *, num_tasks: int, what: str = "committed run"
) -> list[HTML]:
    """Show all blocks of the leaderboard, see :func:`leaderboard_block`."""
    return [leaderboard_block(summary, told, num_tasks=num_tasks, what=what) for told in BLOCKS]


def leaderboard_rerun(summary: pd.DataFrame, *, budget: float) -> HTML:
    """Show what a rerun gives, suite size by suite size: folded, except for who reruns it.

    Parameters
    ----------
    summary : DataFrame
        As for :func:`leaderboard_table`.
    budget : float
        Share of the default training that its methods had.
    """
    what = f"this run, {budget:.0%} of the training"
    pieces = [
        piece
        for size in sorted(summary["num_tasks"].unique())
        for piece in leaderboard_blocks(summary, num_tasks=size, what=what)
    ]
    unfolded = bool(os.environ.get(RERUN))
    return folded(f"{HERE}: {what}", pieces, unfolded=unfolded, kind="rerun")


@book_style()
def frontier_figure(summary: pd.DataFrame, *, num_tasks: int) -> Figure:
    """Accuracy against storage at one suite size, the best of each block named.

    Parameters
    ----------
    summary : DataFrame
        Rows of :meth:`mergebook.evaluation.Comparison.summary`; the first seed is drawn.
    num_tasks : int
        Which suite size.

    Returns
    -------
    Figure
        Storage is the share of the experts', on a logarithmic axis. Colours and markers are the
        blocks. Named are the methods that no other of their block beats in both; a line joins them.
    """
    part = at(summary, num_tasks)
    share, reached = 100 * part["share"], 100 * part["normalised"]
    fig, ax = plt.subplots(figsize=(PAGE_WIDTH, 5.2), layout="constrained")
    named: dict[str, tuple[float, float]] = {}
    for told, (colour, marker, size) in LOOKS.items():
        names = in_block(told, part.index)
        ax.scatter(
            share[names], reached[names], s=size, c=colour, marker=marker, edgecolors="white",
            linewidths=0.7, zorder=3,
        )  # fmt: skip
        best = frontier(part.loc[names])
        ax.plot(share[best], reached[best], c=colour, lw=1, alpha=0.6, zorder=2)
        named |= {name: (share[name], reached[name]) for name in best}
    ax.set_xscale("log")
    ticks = [t for t in (2, 5, 10, 20, 50, 100, 200) if 0.8 * share.min() < t < 1.3 * share.max()]
    ax.set_xticks(ticks, [f"{t} %" for t in ticks])
    ax.minorticks_off()
    _name_points(ax, named, pd.DataFrame({"share": share, "reached": reached}))
    ax.set_xlabel(f"Storage, share of what the {num_tasks} experts take")
    ax.set_ylabel("Accuracy, % of the experts'")
    handles = [
        Line2D([], [], ls="", marker=marker, c=colour, ms=8, label=LEGEND[told])
        for told, (colour, marker, _) in LOOKS.items()
        if in_block(told, part.index)
    ]
    fig.legend(handles=handles, loc="outside lower center", ncols=3)
    return fig


def _name_points(ax: Axes, points: Mapping[str, tuple[float, float]], among: pd.DataFrame) -> None:
    """Write methods' titles where they hide neither each other nor any point of the figure."""
    from adjustText import adjust_text

    texts = [
        ax.text(1.06 * x, y, get_method(name).title, fontsize=10, va="center", zorder=4)
        for name, (x, y) in points.items()
    ]
    ax.figure.draw_without_rendering()  # from now on, points are where they will be
    adjust_text(
        texts,
        x=among["share"].to_numpy(),
        y=among["reached"].to_numpy(),
        target_x=[x for x, _ in points.values()],
        target_y=[y for _, y in points.values()],
        ax=ax,
        expand=(1.15, 1.5),
        max_move=(20, 20),
        arrowprops={"arrowstyle": "-", "lw": 0.6, "color": GREY, "shrinkB": 4},
    )


@book_style()
def search_figure(curves: pd.DataFrame, parameter: str = "scale") -> Figure:
    """Validation accuracy against one parameter, a panel for each method that was searched over it.

    Parameters
    ----------
    curves : DataFrame
        What :meth:`mergebook.evaluation.Comparison.curves` returns, of one suite size and seed.
    parameter : str, default "scale"
        Methods whose grid has other parameters as well show their best over those.

    Raises
    ------
    ReportError
        If no method was searched over this parameter.
    """
    import seaborn as sns

    points = curves["point"].map(json.loads).map(lambda point: point.get(parameter))
    frame = curves.assign(value=points).dropna(subset="value")
    if frame.empty:
        raise ReportError(f"no method was searched over {parameter!r}")
    means = frame.groupby(["method", "point", "value"], sort=False)["normalised"].mean()
    lines = 100 * means.groupby(["method", "value"]).max().reset_index(level="value", drop=False)
    lines["value"] /= 100
    lines = lines.reset_index().assign(Method=lambda table: table["method"].map(title_of))
    grid = sns.relplot(
        lines, x="value", y="normalised", col="Method", col_wrap=3, kind="line", marker="o",
        color=BLUE, height=2.0, aspect=PAGE_WIDTH / 3 / 2.0, facet_kws={"sharex": False},
    )  # fmt: skip
    for title, ax in grid.axes_dict.items():
        line = lines[lines["Method"] == title]
        best = line.loc[line["normalised"].idxmax()]
        ax.scatter(
            best["value"], best["normalised"], s=90, facecolors="none", edgecolors=BLACK, zorder=4
        )
    grid.set_titles("{col_name}")
    grid.set_axis_labels(parameter, "validation, %")
    return grid.figure
