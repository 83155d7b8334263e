"""The papers' own numbers, read from ``data/reported``."""

from __future__ import annotations

import pandas as pd

from mergebook import paths
from mergebook.errors import ReportError, unknown

COLUMNS = (
    "paper",
    "table",
    "backbone",
    "num_tasks",
    "method",
    "metric",
    "value",
    "bound",
    "provenance",
    "uncertainty",
)


def reported(table: str) -> pd.DataFrame:
    """Read one table or figure of a paper, as printed.

    Parameters
    ----------
    table : str
        Stem of a file in ``data/reported``, e.g. ``"tall_masks_main"``.

    Returns
    -------
    DataFrame
        Tidy: one row per number, columns as described in ``data/reported/README.md``.

    Raises
    ------
    ReportError
        If there is no such table (the message lists those that exist), or a column is missing.
    """
    folder = paths.data_dir() / "reported"
    files = {path.stem: path for path in sorted(folder.glob("*.csv"))}
    if table not in files:
        raise ReportError(f"{folder}: {unknown('reported table', table, files)}")
    frame = pd.read_csv(files[table])
    missing = [column for column in COLUMNS if column not in frame]
    if missing:
        raise ReportError(f"{files[table]}: no column {', '.join(missing)}")
    return frame


def reported_sizes(backbone: str = "ViT-B-32", table: str = "tall_masks_main") -> list[int]:
    """Suite sizes for which a paper's main table has numbers.

    Parameters
    ----------
    backbone : str
        Backbone of the paper, by its open_clip name.
    table : str
        Name of the table for `reported`.

    Returns
    -------
    list of int
        Numbers of tasks, ascending.

    Raises
    ------
    ReportError
        If the table has no such backbone.
    """
    frame = reported(table)
    choices = frame["backbone"].unique()
    if backbone not in choices:
        raise ReportError(f"{table}: {unknown('backbone', backbone, choices)}")
    return sorted(frame.loc[frame["backbone"] == backbone, "num_tasks"].unique().tolist())


def reported_main_table(
    backbone: str = "ViT-B-32", num_tasks: int = 8, table: str = "tall_masks_main"
) -> pd.DataFrame:
    """One row per method of a paper's main table.

    Parameters
    ----------
    backbone : str
        Backbone of the paper, by its open_clip name.
    num_tasks : int
        Number of tasks merged.
    table : str
        Name of the table for `reported`.

    Returns
    -------
    DataFrame
        Indexed by method in the paper's order, with columns ``accuracy`` and ``normalised``
        (fractions; NaN where the paper prints none), ``storage_gigabit`` and ``storage_bound``
        (``"="``, or ``">"`` for a lower bound).

    Raises
    ------
    ReportError
        If the table has no such backbone or number of tasks.
    """
    sizes = reported_sizes(backbone, table)
    if num_tasks not in sizes:
        raise ReportError(f"{table}: {unknown('num_tasks', num_tasks, map(str, sizes))}")
    frame = reported(table)
    frame = frame[(frame["backbone"] == backbone) & (frame["num_tasks"] == num_tasks)]
    values = frame.pivot(index="method", columns="metric", values="value")
    bounds = frame.pivot(index="method", columns="metric", values="bound")
    return pd.DataFrame(
        {
            "accuracy": values["accuracy_percent"] / 100,
            "normalised": values["normalised_accuracy_percent"] / 100,
            "storage_gigabit": values["storage_gigabit"],
            "storage_bound": bounds["storage_gigabit"],
        }
    ).loc[frame["method"].unique()]
