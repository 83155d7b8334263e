"""Lines, bars and radars of a chapter: measured panels above, reported ones below."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mergebook.errors import ReportError
from mergebook.registry import list_methods
from mergebook.report.style import (
    FALLBACK_COLOURS,
    FALLBACK_MARKERS,
    METHOD_STYLES,
    OTHER_COLOURS,
    MethodStyle,
    book_style,
    title_of,
)

MAX_COLUMNS = 3
Panels = Mapping[str, Mapping[object, pd.DataFrame]]


def _dashes(styles: Mapping[str, MethodStyle]) -> dict[str, str]:
    """Kind of line for each name: of methods in one colour, all but the first are dashed.

    What is drawn beside methods and is none, such as a control, is dotted.
    """
    first = {style.colour: name for name, style in reversed(styles.items())}
    kinds = {n: "-" if first[style.colour] == n else "--" for n, style in styles.items()}
    methods = set(list_methods()) & styles.keys()
    return {n: ":" if methods and n not in methods else kind for n, kind in kinds.items()}


def _styles(names: list[str]) -> dict[str, MethodStyle]:
    """A style for each line: a method's own where it has one, else the next that is free.

    What is no method has colours that no method has.
    """
    taken = {METHOD_STYLES[name].colour for name in names if name in METHOD_STYLES}
    free = [colour for colour in FALLBACK_COLOURS if colour not in taken] or FALLBACK_COLOURS
    methods = zip(cycle(free), cycle(FALLBACK_MARKERS), strict=False)
    others = zip(cycle(OTHER_COLOURS), cycle(FALLBACK_MARKERS), strict=False)
    known = list_methods()
    return {
        name: METHOD_STYLES.get(name) or MethodStyle(*next(methods if name in known else others))
        for name in names
    }


def _grid(
    panels: Panels,
    width: float,
    height: float,
    xlabel: str = "",
    ylabel: str = "",
    **kwargs: object,
) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """Figure with a row for each source and a column for each key, and what to draw where."""
    # The longest row settles the order of the columns.
    by_length = sorted(panels.values(), key=len, reverse=True)
    keys = list(dict.fromkeys(key for row in by_length for key in row))
    if not keys:
        raise ReportError("nothing to draw: there is no panel")
    rows = [(source, [(key, row.get(key)) for key in keys]) for source, row in panels.items()]
    if len(rows) == 1 and len(keys) > MAX_COLUMNS:  # a single long row goes on in the next
        [(source, line)] = rows
        rows = [(source, line[start : start + 2]) for start in range(0, len(line), 2)]
    columns = len(rows[0][1])
    fig, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(max(6.4, width * columns + 0.6), height * len(rows) + 0.8),
        squeeze=False,
        layout="constrained",
        **kwargs,
    )
    for ax in axes.flat:
        ax.set_axis_off()

    def cells() -> Iterator[tuple[Axes, pd.DataFrame]]:
        lowest = {}
        for (source, line), row in zip(rows, axes, strict=True):
            label = [source, ylabel] if len(keys) > 1 else [ylabel]
            for column, (ax, (key, frame)) in enumerate(zip(row, line, strict=False)):
                if frame is None:
                    continue
                ax.set_axis_on()
                ax.set_title(str(key) if len(keys) > 1 else source)
                yield ax, frame
                pad = 30 if ax.name == "polar" else None  # left of the spokes' names
                ax.set_ylabel("\n".join(filter(None, label)), labelpad=pad)
                label, lowest[column] = [], ax
        for ax in lowest.values():
            ax.set_xlabel(xlabel)

    return fig, cells()


def _series(frame: pd.DataFrame, by: str) -> list[str]:
    return list(map(str, frame[by].unique()))


@book_style()
def curve_figure(
    panels: Panels,
    *,
    x: str,
    y: str = "accuracy",
    by: str = "method",
    xlabel: str,
    ylabel: str,
    log: bool = False,
    share: bool = True,
) -> Figure:
    """Draw lines with intervals, one panel for each source (downwards) and key (to the right).

    Parameters
    ----------
    panels : mapping of str to mapping of key to DataFrame
        Source, e.g. ``"Measured, mini-small"``, then key, e.g. ``"8 tasks"``; keys come in the
        order of the longest row. A single row of many panels is broken. A frame has the
        columns `x`, `y` (a fraction, drawn in per cent), `by`, and, for a band, ``<y>_low`` and
        ``<y>_high``.
    x, y, by : str
        Names of the columns; each value of `by` is one line. Methods have their own style.
    xlabel, ylabel : str
        Labels of the axes.
    log : bool, default False
        Whether the horizontal axis is logarithmic.
    share : bool, default True
        Whether the panels of a row share their vertical axis, those of a column the horizontal.

    Raises
    ------
    ReportError
        If there is no panel.
    """
    shared = {"sharey": "row" if share else "none", "sharex": "col" if share else "none"}
    fig, cells = _grid(panels, 3.2, 2.7, xlabel, ylabel, **shared)
    lines = [
        name for row in panels.values() for frame in row.values() for name in _series(frame, by)
    ]
    styles = _styles(list(dict.fromkeys(lines)))
    dashes, handles = _dashes(styles), {}
    for ax, frame in cells:
        for name in _series(frame, by):
            part = frame[frame[by].astype(str) == name].sort_values(x)
            colour, marker = styles[name]
            [handles[name]] = ax.plot(
                part[x], 100 * part[y], c=colour, ls=dashes[name], marker=marker, ms=5
            )
            if f"{y}_low" in part:
                low, high = 100 * part[f"{y}_low"], 100 * part[f"{y}_high"]
                ax.fill_between(part[x], low, high, color=colour, alpha=0.18, lw=0)
        if (frame[y] < 0).any():
            ax.axhline(0, color="#444444", lw=0.8)
        ax.tick_params(axis="x", labelbottom=True)  # also above panels of the same column
        if log:
            ax.set_xscale("log")
        elif pd.api.types.is_integer_dtype(frame[x]):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    names = [title_of(name) for name in handles]
    fig.legend(handles.values(), names, loc="outside lower center", ncols=min(4, len(names)))
    return fig


@book_style()
def bar_figure(
    panels: Panels, *, x: str, y: str = "share", by: str = "method", xlabel: str, ylabel: str
) -> Figure:
    """Draw groups of bars: as :func:`curve_figure`, one bar for each value of `x` and of `by`."""
    fig, cells = _grid(panels, 3.2, 2.5, xlabel, ylabel, sharey="row")
    groups = [
        name for row in panels.values() for frame in row.values() for name in _series(frame, by)
    ]
    styles = _styles(list(dict.fromkeys(groups)))
    handles = {}
    for ax, frame in cells:
        values = list(frame[x].unique())
        names = _series(frame, by)
        for place, name in enumerate(names):
            part = frame[frame[by].astype(str) == name].set_index(x)[y].reindex(values)
            at = np.arange(len(values)) + (place - (len(names) - 1) / 2) * 0.8 / len(names)
            handles[name] = ax.bar(at, 100 * part, 0.8 / len(names), color=styles[name].colour)
        every = max(1, len(values) // 10)
        ax.set_xticks(range(0, len(values), every), values[::every])
        if max(map(len, map(str, values))) > 4:
            ax.tick_params(axis="x", labelrotation=40)
        ax.grid(axis="x", visible=False)
    names = [title_of(name) for name in handles]
    fig.legend(handles.values(), names, loc="outside lower center", ncols=min(4, len(names)))
    return fig


@book_style()
def radar_figure(panels: Panels, *, y: str = "accuracy") -> Figure:
    """Draw a radar per panel: one spoke per task, one line per method.

    Parameters
    ----------
    panels : mapping of str to mapping of key to DataFrame
        As for :func:`curve_figure`; columns ``task``, ``method``, `y` (a fraction). A method that
        lacks a task has a gap there.
    y : str, default "accuracy"
        Column to draw.
    """
    fig, cells = _grid(panels, 4.2, 4.0, subplot_kw={"projection": "polar"})
    lines = [
        n for row in panels.values() for frame in row.values() for n in _series(frame, "method")
    ]
    styles = _styles(list(dict.fromkeys(lines)))
    dashes, handles = _dashes(styles), {}
    for ax, frame in cells:
        whole = frame["method"].value_counts(sort=False).idxmax()  # settles the tasks' order
        known = frame.loc[frame["method"] == whole, "task"]
        tasks = list(dict.fromkeys([*known, *frame["task"]]))
        turn = 2 * np.pi * np.arange(len(tasks) + 1) / len(tasks)
        for name in _series(frame, "method"):
            part = 100 * frame[frame["method"] == name].set_index("task")[y].reindex(tasks)
            ring = [*part, part.iloc[0]]
            colour, marker = styles[name]
            [handles[name]] = ax.plot(
                turn, ring, c=colour, ls=dashes[name], marker=marker, ms=3, lw=1.4
            )
        ax.set_xticks(turn[:-1], [task.replace("_", " ") for task in tasks], fontsize=7)
        ax.tick_params(axis="x", pad=6)
        ax.set_ylim(0, 100)
        ax.set_yticks([25, 50, 75, 100], ["25", "50", "75", "100"], fontsize=7)
    names = [title_of(name) for name in handles]
    fig.legend(handles.values(), names, loc="outside lower center", ncols=min(3, len(names)))
    return fig
