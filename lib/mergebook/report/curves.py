"""Lines, bars and dots of a chapter: panels for each source, the reported one last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mergebook.registry import list_methods
from mergebook.report.panels import Frames, by_facet, grid, legend_below, names_in
from mergebook.report.style import (
    BLACK,
    PAGE_WIDTH,
    MethodStyle,
    book_style,
    method_styles,
    task_title,
)


def _dashes(styles: Mapping[str, MethodStyle]) -> dict[str, str]:
    """Kind of line for each name: what is drawn beside methods and is none is dotted."""
    methods = set(list_methods()) & styles.keys()
    return {name: ":" if methods and name not in methods else "-" for name in styles}


@book_style()
def curve_figure(
    frames: Frames,
    *,
    x: str,
    y: str = "accuracy",
    by: str = "method",
    facet: str | None = None,
    xlabel: str,
    ylabel: str,
    unit: float = 100,
    xunit: float = 1,
    log: bool = False,
    share: bool = True,
) -> Figure:
    """Draw lines with intervals, one panel for each source and key.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table with the columns `x`, `y`, `by`, `facet`, and, for a band, ``<y>_low`` and
        ``<y>_high``.
    x, y, by : str
        Names of the columns; each value of `by` is one line. Methods have their own style.
    facet : str, optional
        Column whose values are a source's panels, in the order of the source that has most.
    xlabel, ylabel : str
        Labels of the axes.
    unit, xunit : float, default 100 and 1
        What a number of 1 is drawn as: 100 shows fractions in per cent, 1 leaves them.
    log : bool, default False
        Whether the horizontal axis is logarithmic.
    share : bool, default True
        Whether the panels of a source share their vertical axis, those of a key the horizontal.

    Raises
    ------
    ReportError
        If there is no panel, or a table lacks the column `facet`.
    """
    panels = by_facet(frames, facet)
    fig, cells = grid(panels, 2.9, xlabel, ylabel, share=share)
    styles = method_styles(names_in(panels, by))
    dashes, handles = _dashes(styles), {}
    for ax, frame in cells:
        for name in map(str, frame[by].unique()):
            part = frame[frame[by].astype(str) == name].sort_values(x)
            colour, marker = styles[name]
            [handles[name]] = ax.plot(
                xunit * part[x], unit * part[y], c=colour, ls=dashes[name], marker=marker, ms=5
            )
            if f"{y}_low" in part:
                low, high = unit * part[f"{y}_low"], unit * part[f"{y}_high"]
                ax.fill_between(xunit * part[x], low, high, color=colour, alpha=0.18, lw=0)
        if (frame[y] < 0).any():
            ax.axhline(0, color="#444444", lw=0.8)
        if log:
            _log_ticks(ax, sorted((xunit * frame[x]).unique()))
        elif pd.api.types.is_integer_dtype(frame[x]):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_below(fig, handles, handles.values())
    return fig


def _log_ticks(ax: Axes, values: Sequence[float]) -> None:
    """Scale an axis logarithmically and label it at what was measured, ten values at most.

    The labels stand apart by at least a ninth of the axis; the last value has one.
    """
    ax.set_xscale("log")
    apart, some = (values[-1] / values[0]) ** (1 / 9), [values[0]]
    for value in values:
        if value >= 0.999 * apart * some[-1]:
            some.append(value)
    some = [*(value for value in some if value * apart <= values[-1]), values[-1]]
    ax.set_xticks(some, [f"{value:.3g}" if value < 1000 else f"{value:g}" for value in some])
    ax.minorticks_off()


@book_style()
def bar_figure(
    frames: Frames,
    *,
    x: str,
    y: str = "share",
    by: str = "method",
    facet: str | None = None,
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw groups of bars: as :func:`curve_figure`, one bar for each value of `x` and of `by`."""
    panels = by_facet(frames, facet)
    fig, cells = grid(panels, 2.7, xlabel, ylabel)
    styles = method_styles(names_in(panels, by))
    handles = {}
    for ax, frame in cells:
        values = list(frame[x].unique())
        names = list(map(str, frame[by].unique()))
        for place, name in enumerate(names):
            part = frame[frame[by].astype(str) == name].set_index(x)[y].reindex(values)
            at = np.arange(len(values)) + (place - (len(names) - 1) / 2) * 0.8 / len(names)
            handles[name] = ax.bar(at, 100 * part, 0.8 / len(names), color=styles[name].colour)
        every = max(1, len(values) // 10)
        ax.set_xticks(range(0, len(values), every), values[::every])
        if max(map(len, map(str, values))) > 4:
            ax.tick_params(axis="x", labelrotation=40)
        ax.grid(axis="x", visible=False)
    legend_below(fig, handles, handles.values())
    return fig


@book_style()
def dot_figure(
    frames: Frames,
    *,
    y: str = "accuracy",
    by: str = "method",
    facet: str | None = None,
    xlabel: str = "Accuracy, %",
) -> Figure:
    """Draw a dot per method on a line per task, the tasks of a panel sorted by their mean.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table with the columns ``task``, `by`, `y` (a fraction) and `facet`. A method
        that lacks a task has no dot there. The panels share one horizontal axis.
    y, by, facet : str
        Names of the columns.
    xlabel : str
        Label of the horizontal axis.
    """
    panels = by_facet(frames, facet)
    fig, cells = grid(
        panels, lambda frame: 0.7 + 0.21 * frame["task"].nunique(), xlabel, share=False, sharex=True
    )
    styles = method_styles(names_in(panels, by))
    handles = {}
    for ax, frame in cells:
        wide = 100 * frame.pivot_table(index="task", columns=by, values=y, sort=False)
        wide = wide.loc[wide.mean(axis=1).sort_values().index]
        at = np.arange(len(wide))
        ax.hlines(at, wide.min(axis=1), wide.max(axis=1), color="#BBBBBB", lw=1, zorder=1)
        for name in map(str, frame[by].unique()):
            colour, marker = styles[name]
            handles[name] = ax.scatter(wide[name], at, s=34, c=colour, marker=marker, zorder=2)
        ax.set_yticks(at, list(map(task_title, wide.index)))
        ax.grid(axis="y", visible=False)
    legend_below(fig, handles, handles.values())
    return fig


@book_style()
def rank_figure(
    frames: Frames,
    *,
    y: str,
    x: str = "normalised",
    by: str = "method",
    facet: str | None = None,
    xlabel: str = "Normalised accuracy, %",
) -> Figure:
    """Draw a row per variant with its interval, best on top.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table with the columns `y` (names of the rows), `x` (a fraction), ``<x>_low``,
        ``<x>_high``, `by` and `facet`.
    y, x, by, facet : str
        Names of the columns; each value of `by` has its own marker.
    xlabel : str
        Label of the horizontal axis.
    """
    panels = by_facet(frames, facet)
    fig, cells = grid(
        panels, lambda frame: 0.8 + 0.3 * frame[y].nunique(), xlabel, share=False, sharex=True
    )
    styles, handles = method_styles(names_in(panels, by)), {}
    for ax, frame in cells:
        order = frame.groupby(y)[x].mean().sort_values().index
        names = list(map(str, frame[by].unique()))
        for place, name in enumerate(names):
            part = frame[frame[by].astype(str) == name].set_index(y).reindex(order)
            at = np.arange(len(order)) + 0.22 * (place - (len(names) - 1) / 2)
            low, high = part[x] - part[f"{x}_low"], part[f"{x}_high"] - part[x]
            colour, marker = styles[name]
            handles[name] = ax.errorbar(
                100 * part[x], at, xerr=100 * np.stack([low, high]), fmt=marker, c=colour, ms=6
            )
        ax.set_yticks(range(len(order)), order)
        ax.grid(axis="y", visible=False)
    if len(handles) > 1:
        legend_below(fig, handles, handles.values())
    return fig


@book_style()
def path_figure(
    points: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str = "method",
    marks: Mapping[str, Mapping[str, float]],
    xlabel: str,
    ylabel: str,
) -> Figure:
    """Draw paths in a plane, and named points among them.

    Parameters
    ----------
    points : DataFrame
        Columns `x`, `y` and `by`; a path follows the order of its rows.
    x, y, by : str
        Names of the columns; each value of `by` is a path. Methods have their own style.
    marks : mapping of str to mapping
        Name of a point -> its `x` and `y`.
    xlabel, ylabel : str
        Labels of the axes.
    """
    fig, ax = plt.subplots(figsize=(PAGE_WIDTH, 3.6), layout="constrained")
    styles = method_styles(map(str, points[by].unique()))
    handles = {}
    for name, (colour, marker) in styles.items():
        part = points[points[by].astype(str) == name]
        [handles[name]] = ax.plot(part[x], part[y], c=colour, marker=marker, ms=5)
    for name, place in marks.items():
        ax.plot(place[x], place[y], "o", ms=11, mfc="none", mec=BLACK, mew=1.4)
        ax.annotate(name, (place[x], place[y]), (9, -13), textcoords="offset points")
    ax.set(xlabel=xlabel, ylabel=ylabel)
    legend_below(fig, handles, handles.values())
    return fig
