"""Results that are committed with the book: long runs that a build does not repeat.

``data/measured/<run>/<notebook>/<table>.csv`` is what the notebook wrote to its results folder in
that run; the README of the run gives the command and the version.
"""

from __future__ import annotations

import pandas as pd

from mergebook import paths
from mergebook.errors import ReportError, unknown

# Titles of the runs, in the order in which pages show them.
RUNS = {
    "full": "Mini benchmark",
    "real14": "14 tasks of real images",
    "text8": "Real encoder, 8 text tasks",
}


def list_measured() -> tuple[str, ...]:
    """Names of the committed tables, ``"<run>/<notebook>/<table>"``, sorted."""
    root = paths.data_dir() / "measured"
    return tuple(
        sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.csv"))
    )


def measured(name: str) -> pd.DataFrame:
    """Read a committed table of results.

    Parameters
    ----------
    name : str
        One of :func:`list_measured`.

    Raises
    ------
    ReportError
        If there is no such table.
    """
    if name not in list_measured():
        raise ReportError(unknown("measured table", name, list_measured()))
    return pd.read_csv(paths.data_dir() / "measured" / f"{name}.csv")


def committed(notebook: str, table: str) -> dict[str, pd.DataFrame]:
    """Return a notebook's table from every committed run that has it, by the title of the run."""
    runs = {}
    for run in (*RUNS, *sorted({name.partition("/")[0] for name in list_measured()} - {*RUNS})):
        if f"{run}/{notebook}/{table}" in list_measured():
            runs[RUNS.get(run, run)] = measured(f"{run}/{notebook}/{table}")
    return runs
