"""Tidy tables arranged as texts: methods by their titles, numbers in the form that readers see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import pandas as pd

from mergebook.report.numbers import EMPTY, between, shown
from mergebook.report.style import task_title, title_of

# Headings of the metrics of `data/reported`.
METRICS = {
    "accuracy_percent": "Accuracy, %",
    "normalised_accuracy_percent": "Normalised, %",
    "normalised_validation_accuracy_percent": "Normalised validation accuracy, %",
    "storage_gigabit": "Storage, gigabits",
    "storage_megabyte": "Storage, MB",
    "active_entries_percent": "Active, % of all stored weights",
}
PAPER_NAMES = {"ViT-B-32": "ViT-B/32", "ViT-B-16": "ViT-B/16", "ViT-L-14": "ViT-L/14"}


def _titled(values: Iterable[object], name: object) -> list[str]:
    """Labels of rows or columns: methods by their titles, numbers of tasks with the word."""
    if name == "num_tasks":
        return [f"{each} tasks" for each in values]
    if name == "metric":
        return [METRICS.get(str(each), str(each)) for each in values]
    if name == "backbone":
        return [PAPER_NAMES.get(str(each), str(each)) for each in values]
    if name == "task":
        return [task_title(each) for each in values]
    return [title_of(each) if name == "method" else str(each) for each in values]


def _heading(name: str) -> str:
    """Name of a column as a heading; a single letter is a symbol."""
    return name if len(name) == 1 else name.capitalize()


def grid(
    frame: pd.DataFrame,
    *,
    rows: str,
    columns: str | Sequence[str],
    value: str,
    form: str = "cell",
    label: str | None = None,
) -> pd.DataFrame:
    """Arrange one column of a tidy table as texts: rows down, columns across.

    Parameters
    ----------
    frame : DataFrame
        Where several rows fall into one cell, their mean is shown.
    rows : str
        Column whose values become the rows, in order of appearance.
    columns : str or sequence of str
        Column(s) whose values become the columns; all but the last group them.
    value : str
        Column to show.
    form : str, default "cell"
        See :func:`mergebook.report.numbers.shown`.
    label : str, optional
        Heading of the rows; `rows` with a capital by default.
    """
    names = [columns] if isinstance(columns, str) else list(columns)
    table = frame.pivot_table(index=rows, columns=names, values=value, sort=False)
    if len(names) > 1:  # what belongs to one group stands together
        places = [{each: n for n, each in enumerate(dict.fromkeys(level))} for level in
                  zip(*table.columns, strict=True)]  # fmt: skip
        order = sorted(table, key=lambda key: [p[k] for p, k in zip(places, key, strict=True)])
        table = table[order]
    texts = table.map(partial(shown, form=form))
    levels = [_titled(table.columns.get_level_values(name), name) for name in names]
    groups = [", ".join(above) for above in zip(*levels[:-1], strict=True)]
    texts.columns = pd.MultiIndex.from_arrays([groups, levels[-1]]) if groups else levels[0]
    texts.index = pd.Index(_titled(table.index, rows), name=label or _heading(rows))
    return texts


def listing(
    frame: pd.DataFrame,
    columns: Mapping[str, tuple[str, str]],
    *,
    index: str = "method",
    label: str | None = None,
) -> pd.DataFrame:
    """Show some columns of a tidy table as texts, a row for each of its rows.

    Parameters
    ----------
    frame : DataFrame
    columns : mapping of str to (str, str)
        Heading -> column and form. Where the table has ``<column>_low`` and ``<column>_high``, the
        interval follows.
    index : str, default "method"
        Column of the row labels; methods are shown by their titles.
    label : str, optional
        Heading of the rows; `index` with a capital by default.
    """
    texts = {}
    for heading, (column, form) in columns.items():
        cells = [v if isinstance(v, str) else shown(v, form) for v in frame[column]]
        if f"{column}_low" in frame:
            bounds = zip(frame[f"{column}_low"], frame[f"{column}_high"], strict=True)
            known = [EMPTY not in cell for cell in cells]
            pairs = zip(cells, bounds, known, strict=True)
            cells = [f"{c} ({between(*b, form)})" if k else c for c, b, k in pairs]
        texts[heading] = cells
    names = _titled(frame[index], index)
    return pd.DataFrame(texts, index=pd.Index(names, name=label or _heading(index)))


def by_source(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Set tables of texts side by side under the names of their sources.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Source -> texts with one level of columns; rows that one of them lacks are dashes there.
    """
    joined = pd.concat(tables, axis=1)
    return joined.fillna(EMPTY)
