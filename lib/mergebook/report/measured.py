"""Results that are committed with the book: long runs that a build does not repeat."""

from __future__ import annotations

import pandas as pd

from mergebook import paths
from mergebook.errors import ReportError, unknown


def list_measured() -> tuple[str, ...]:
    """Names of the committed tables, such as ``"mini/leaderboard"``, sorted."""
    root = paths.data_dir() / "measured"
    return tuple(
        sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.csv"))
    )


def measured(name: str) -> pd.DataFrame:
    """Read a committed table of results.

    Parameters
    ----------
    name : str
        One of :func:`list_measured`. The README beside the file gives the command that made it.

    Raises
    ------
    ReportError
        If there is no such table.
    """
    if name not in list_measured():
        raise ReportError(unknown("measured table", name, list_measured()))
    return pd.read_csv(paths.data_dir() / "measured" / f"{name}.csv")
