"""Result files: what notebooks write and summary pages read."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from mergebook.errors import ReportError
from mergebook.paths import output_dir, results_dir


def save_results(frame: pd.DataFrame, notebook: str, name: str) -> Path:
    """Write a table to the results folder, whole or not at all.

    Parameters
    ----------
    frame : DataFrame
    notebook : str
        Which notebook made it, e.g. ``"tall_masks/main_table"``.
    name : str
        File name without extension.

    Returns
    -------
    Path
        ``<notebook>/<name>.csv`` in `mergebook.paths.output_dir`.

    Raises
    ------
    ReportError
        If the table is empty.
    """
    if frame.empty:
        raise ReportError(f"{notebook}: table {name!r} is empty")
    path = output_dir() / notebook / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        frame.to_csv(temporary, index=False, float_format="%.6g")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load_results(notebook: str, name: str) -> pd.DataFrame:
    """Read a table that a notebook wrote.

    Raises
    ------
    ReportError
        If there is none (names the notebook and the folder).
    """
    path = results_dir() / notebook / f"{name}.csv"
    if not path.is_file():
        raise ReportError(f"no results {path.name!r} of {notebook} in {results_dir()}: make book")
    return pd.read_csv(path)
