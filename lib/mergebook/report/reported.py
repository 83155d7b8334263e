"""The papers' own numbers, read from ``data/reported``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from zlib import crc32

import numpy as np
import pandas as pd

from mergebook import paths
from mergebook.errors import ReportError, unknown
from mergebook.uncertainty import Estimate

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
        Indexed by method in the paper's order, with columns ``accuracy``, ``normalised``
        (fractions), ``storage_gigabit`` (NaN where the paper prints none) and ``storage_bound``
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
    metrics = ["accuracy_percent", "normalised_accuracy_percent", "storage_gigabit"]
    values, bounds = (
        frame.pivot(index="method", columns="metric", values=column).reindex(columns=metrics)
        for column in ("value", "bound")
    )
    return pd.DataFrame(
        {
            "accuracy": values["accuracy_percent"] / 100,
            "normalised": values["normalised_accuracy_percent"] / 100,
            "storage_gigabit": values["storage_gigabit"],
            "storage_bound": bounds["storage_gigabit"],
        }
    ).loc[frame["method"].unique()]


def reported_results(
    backbone: str = "ViT-B-32", table: str = "tall_masks_main", sizes: Iterable[int] | None = None
) -> pd.DataFrame:
    """Return a paper's main table for one backbone, as tidy as our own results.

    Parameters
    ----------
    backbone, table : str
        See :func:`reported_main_table`.
    sizes : iterable of int, optional
        Numbers of tasks; all that the table has by default.

    Returns
    -------
    DataFrame
        ``num_tasks``, ``method``, ``accuracy``, ``normalised`` (fractions), ``storage_gigabit``.
    """
    known = reported_sizes(backbone, table)
    frames = [
        reported_main_table(backbone, size, table).reset_index().assign(num_tasks=size)
        for size in known
        if sizes is None or size in sizes
    ]
    return pd.concat(frames, ignore_index=True)


def rows_with(frame: pd.DataFrame, row: Mapping[str, object]) -> pd.DataFrame:
    """Return the rows of a table that have some values, column -> value."""
    for column, value in row.items():
        frame = frame[frame[column] == value]
    return frame


def near(frame: pd.DataFrame, row: Mapping[str, object]) -> str:
    """Say what each condition on a row could have been, with the others as they are."""
    hints = []
    for column in row:
        rest = {key: value for key, value in row.items() if key != column}
        values = sorted({str(value) for value in rows_with(frame, rest)[column]})
        if values:
            hints.append(f"{column} among {', '.join(values[:12])}")
    return f"; with the rest as asked, {' or '.join(hints)}" if hints else ""


def reported_estimate(table: str, *, draws: int = 1000, **where: object) -> Estimate:
    """One number of a paper, as exact as it can be read.

    Parameters
    ----------
    table : str
        Name of the table for `reported`.
    draws : int
        Number of draws of the reading error. Two estimates of the same number share them, those
        of different numbers are independent.
    **where : object
        Values of columns that single out one row, e.g. ``method="tall_ta", num_tasks=8``.

    Returns
    -------
    Estimate
        A fraction where the metric is in per cent, else in the metric's unit. Its interval says
        how exactly the number can be read, half a unit of the last printed digit or the
        digitised point's `uncertainty` to either side; it says nothing about what the paper's
        authors would find with other experts or images, for which no numbers are given.

    Raises
    ------
    ReportError
        If the table lacks a column of `where`, not exactly one row matches, or the number is a
        lower bound.
    """
    frame = reported(table)
    for column in where:
        if column not in frame:
            raise ReportError(f"{table}: {unknown('column', column, frame.columns)}")
    match = rows_with(frame, where)
    asked = ", ".join(f"{column}={value!r}" for column, value in where.items())
    if len(match) != 1:
        hint = "" if len(match) else near(frame, where)
        raise ReportError(f"{table}: {len(match)} rows with {asked}, expected one{hint}")
    row = match.iloc[0]
    if row["bound"] != "=":
        raise ReportError(f"{table}: the number with {asked} is only a bound, {row['bound']}")
    peers = frame.loc[(frame["metric"] == row["metric"]) & (frame["bound"] == "="), "value"]
    last_digit = min(Decimal(str(value)).normalize().as_tuple().exponent for value in peers)
    half = 0.5 * 10.0**last_digit if pd.isna(row["uncertainty"]) else row["uncertainty"]
    errors = np.random.default_rng([crc32(table.encode()), match.index[0]]).uniform(-1, 1, draws)
    scale = 0.01 if row["metric"].endswith("_percent") else 1.0
    return Estimate(scale * row["value"], scale * (row["value"] + half * errors))
