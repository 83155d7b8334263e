"""Panels of a figure: a grid that fills the page, with no more than two side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mergebook.errors import ReportError, unknown
from mergebook.report.style import MAX_COLUMNS, PAGE_WIDTH, title_of

WIDEST = 26  # letters of a title that fit above a panel
Frames = Mapping[str, pd.DataFrame]  # source, e.g. "Mini benchmark" -> its table
# Source -> key, e.g. "8 tasks" -> what is drawn in that panel.
Panels = Mapping[str, Mapping[object, pd.DataFrame]]


def by_facet(frames: Frames, facet: str | None) -> Panels:
    """Split each source's table by the values of a column, as panels are titled.

    Parameters
    ----------
    frames : mapping of str to DataFrame
        Source -> table.
    facet : str or None
        A column; its values become titles, ``"8 tasks"`` for ``num_tasks``. None: one panel.

    Raises
    ------
    ReportError
        If a table lacks the column.
    """
    if facet is None:
        return {source: {"": frame} for source, frame in frames.items()}
    for source, frame in frames.items():
        if facet not in frame:
            raise ReportError(f"{source}: {unknown('column', facet, map(str, frame.columns))}")
    words = "{} tasks" if facet == "num_tasks" else "{}"
    return {
        source: {words.format(v): part for v, part in frame.groupby(facet, sort=False)}
        for source, frame in frames.items()
    }


def grid(
    panels: Panels,
    height: float | Callable[[pd.DataFrame], float],
    xlabel: str = "",
    ylabel: str = "",
    *,
    share: bool = True,
    **kwargs: object,
) -> tuple[Figure, Iterator[tuple[Axes, pd.DataFrame]]]:
    """Make a figure with a panel for each source and key.

    Where it fits, sources go downwards and keys to the right; the other way round if there are
    more keys than columns, in rows of a key if sources share any; else each source takes as many
    rows as its keys need. Sources with one panel each, of different keys, fill the rows in turn.

    Parameters
    ----------
    panels : mapping of str to mapping of object to DataFrame
        Source -> key -> what is drawn; keys come in the order of the longest row.
    height : float or callable
        Inches of a row, or of a panel by what is drawn in it.
    xlabel, ylabel : str
        Labels of the axes: below the lowest panel of a column, at the left of each row.
    share : bool, default True
        Whether the panels of a source share their vertical axis, those of a key the horizontal.
    **kwargs : object
        Passed to ``matplotlib.pyplot.subplots``.

    Returns
    -------
    fig : Figure
    cells : iterator of (Axes, DataFrame)
        What to draw where; the panel has its title. Labels are set when it is used up.

    Raises
    ------
    ReportError
        If there is no panel.
    """
    by_length = sorted(panels.values(), key=len, reverse=True)
    keys = list(dict.fromkeys(key for row in by_length for key in row))
    if not keys:
        raise ReportError("nothing to draw: there is no panel")
    turned = len(keys) > MAX_COLUMNS and 1 < len(panels) <= MAX_COLUMNS
    shared = len(keys) < sum(map(len, panels.values()))
    single = len(panels) > MAX_COLUMNS and len(keys) > 1 and len(by_length[0]) == 1
    named = turned or single  # panels have their source in their title
    if single:
        every = [(source, key) for source, row in panels.items() for key in row]
        rows = [every[start : start + MAX_COLUMNS] for start in range(0, len(every), MAX_COLUMNS)]
    elif turned and shared:
        rows = [[(source, key) for source in panels] for key in keys]
    elif turned:
        each = ([(source, key) for key in row] for source, row in panels.items())
        rows = list(zip_longest(*each, fillvalue=(next(iter(panels)), None)))
    else:
        rows = [
            [(source, key) for key in keys[start : start + MAX_COLUMNS]]
            for source in panels
            for start in range(0, len(keys), MAX_COLUMNS)
        ]
    # A source may lack all keys of a row.
    rows = [row for row in rows if any(panels[s].get(key) is not None for s, key in row)]
    columns = max(map(len, rows))
    tall = height if callable(height) else lambda _: height
    heights = [
        max(tall(f) for s, key in row if (f := panels[s].get(key)) is not None) for row in rows
    ]
    if share and not single:
        # The panels of a source stand in a row, or in a column of a grid that was turned.
        kwargs |= {"sharey": "col" if turned else "row", "sharex": "row" if turned else "col"}
    fig, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(PAGE_WIDTH, sum(heights) + 0.8),
        height_ratios=heights,
        squeeze=False,
        layout="constrained",
        **kwargs,
    )
    for ax in axes.flat:
        ax.set_axis_off()

    def cells() -> Iterator[tuple[Axes, pd.DataFrame]]:
        lowest = {}
        for row, line in zip(rows, axes, strict=True):
            first = True
            for column, (ax, (source, key)) in enumerate(zip(line, row, strict=False)):
                frame = panels[source].get(key)
                if frame is None:
                    continue
                ax.set_axis_on()
                names = [source, str(key)] if named else [str(key) if len(keys) > 1 else source]
                title = ", ".join(filter(None, names))
                ax.set_title(title if len(title) <= WIDEST else "\n".join(names))
                yield ax, frame
                ax.tick_params(axis="both", labelbottom=True)  # also above panels of the column
                if first:
                    # In two lines, since a row may be low.
                    beside = [source.replace(" (", "\n(")] if len(keys) > 1 and not named else []
                    ax.set_ylabel("\n".join(filter(None, [*beside, ylabel])))
                first, lowest[column] = False, ax
        for ax in lowest.values():
            ax.set_xlabel(xlabel)

    return fig, cells()


def names_in(panels: Panels, by: str) -> list[str]:
    """Every value of a column, in order of appearance over all panels."""
    frames = [frame for row in panels.values() for frame in row.values()]
    return list(dict.fromkeys(str(name) for frame in frames for name in frame[by].unique()))


def legend_below(fig: Figure, names: Iterable[str], handles: Iterable[object]) -> None:
    """Put one legend for all panels under them, with methods' titles in place of their names."""
    titles = [title_of(name) for name in names]
    widest = max(map(len, titles))
    columns = max(1, min(4, len(titles), round(80 / (widest + 6))))
    fig.legend(list(handles), titles, loc="outside lower center", ncols=columns)
