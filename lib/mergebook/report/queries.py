"""Numbers in prose are queries: a page names the result file, the column and the row.

``{{ full("tall_masks/main_table/per_task", "normalised", mean=["task", "seed"],
method="tall_ta", backbone="mini-small", num_tasks=8) }}`` in a page is the number of that row.
A row that is missing, or not the only one, fails the build with file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pandas as pd

from mergebook import paths
from mergebook.errors import ReportError, unknown
from mergebook.registry import get_method
from mergebook.report.numbers import Number
from mergebook.report.reported import near, reported, rows_with


@lru_cache(maxsize=256)
def _read(path: Path, changed: int) -> pd.DataFrame:
    return pd.read_csv(path)


def ask(
    frame: pd.DataFrame,
    name: str,
    column: str,
    row: dict[str, object],
    mean: Iterable[str] = (),
) -> float | str:
    """Return one cell of a table, or a mean over the rows that differ in named columns.

    Parameters
    ----------
    frame : DataFrame
    name : str
        Of the table, for messages.
    column : str
        Which column.
    row : dict
        Column -> value, which single out the row.
    mean : iterable of str
        Columns over which to take the mean, such as ``["task", "seed"]``.

    Raises
    ------
    ReportError
        If a column is missing, no row matches, or more than one do that do not differ in `mean`
        alone; says what the conditions could have been.
    """
    mean = [mean] if isinstance(mean, str) else list(mean)
    for each in (column, *row, *mean):
        if each not in frame:
            raise ReportError(f"{name}: {unknown('column', each, map(str, frame.columns))}")
    found = rows_with(frame, row)
    asked = ", ".join(f"{key}={value!r}" for key, value in row.items()) or "any row"
    if found.empty:
        raise ReportError(f"{name}: no row with {asked}{near(frame, row)}")
    if mean:
        doubled = int(found.duplicated(mean).sum())
        if doubled:
            raise ReportError(
                f"{name}: {doubled} of {len(found)} rows with {asked} repeat {', '.join(mean)}"
            )
        return float(found[column].mean())
    if len(found) > 1:
        differ = [c for c in found if found[c].nunique(dropna=False) > 1 and c != column]
        raise ReportError(
            f"{name}: {len(found)} rows with {asked}, expected one; "
            f"they differ in {', '.join(differ) or 'nothing'}"
        )
    value = found[column].iloc[0]
    return value if isinstance(value, str) else float(value)


@dataclass(frozen=True)
class Run:
    """Answers queries of one run's result files.

    Parameters
    ----------
    folder : str
        Of the committed run, below ``data/measured``; empty for the results of this build.
    """

    folder: str = ""

    def __call__(
        self,
        table: str,
        column: str,
        form: str = "percent",
        /,  # a table may have columns of these names
        *,
        digits: int = 1,
        mean: Iterable[str] = (),
        **row: object,
    ) -> Number | str:
        """Return one number of the run.

        Parameters
        ----------
        table : str
            ``"<chapter>/<notebook>/<table>"``.
        column, mean, **row
            See :func:`ask`.
        form, digits
            See :func:`mergebook.report.numbers.shown`.

        Raises
        ------
        ReportError
            If there is no such table, or not exactly one such row.
        """
        root = paths.data_dir() / "measured" / self.folder if self.folder else paths.results_dir()
        path = root / f"{table}.csv"
        if not path.is_file():
            files = (file.relative_to(root) for file in sorted(root.rglob("*.csv")))
            near = unknown("table", table, (file.with_suffix("").as_posix() for file in files))
            raise ReportError(f"{self.folder or 'this build'}: {near}")
        frame = _read(path, path.stat().st_mtime_ns)
        value = ask(frame, f"{self.folder or 'this build'}, {table}", column, row, mean)
        return value if isinstance(value, str) else Number(value, form, digits)


@dataclass(frozen=True)
class Reported:
    """Answers queries of the papers' tables, ``data/reported``."""

    def __call__(
        self, table: str, metric: str, form: str = "percent", *, digits: int = 1, **row: object
    ) -> Number:
        """Return one number of a paper.

        Parameters
        ----------
        table, metric : str
            Of the file, such as ``"tall_masks_main"``, ``"accuracy_percent"``. Per cents become
            fractions.
        form, digits
            See :func:`mergebook.report.numbers.shown`.
        **row
            Column -> value, which single out the row.

        Raises
        ------
        ReportError
            If there is no such table, or not exactly one such row.
        """
        value = float(ask(reported(table), table, "value", {"metric": metric, **row}))
        return Number(value / 100 if metric.endswith("_percent") else value, form, digits)


RUNS = {"full": Run("full"), "real": Run("real14"), "text": Run("text8"), "here": Run()}


def table(
    name: str,
    column: str,
    *,
    methods: Iterable[str],
    columns: Mapping[str, Mapping[str, object]],
    form: str = "cell",
    mean: Iterable[str] = (),
    over: str = "",
    label: str = "Method",
) -> str:
    """Return a table of queries in Markdown: a row for each method, a column for each setting.

    Parameters
    ----------
    name, column, mean, form
        As `table`, `column`, `mean` and `form` of :class:`Run`.
    methods : iterable of str
        The rows, linked to the methods' pages.
    columns : mapping of str to mapping
        Heading -> name of the run as ``run``, and the conditions of its rows.
    over : str, optional
        Method by whose number each number is divided.
    label : str, default "Method"
        Heading of the rows.

    Raises
    ------
    ReportError
        As :class:`Run`; also if a run is unknown.
    """
    lines = [f"| {label} | {' | '.join(map(str, columns))} |", "| --- " * (len(columns) + 1) + "|"]
    for method in methods:
        cells = []
        for conditions in columns.values():
            row = {"method": method, **conditions}
            which = row.pop("run", "")
            if which not in RUNS:
                raise ReportError(unknown("run", which, RUNS))
            number = RUNS[which](name, column, form, mean=mean, **row)
            if over:
                number = number / RUNS[which](name, column, mean=mean, **row | {"method": over})
            cells.append(str(number))
        about = get_method(method)
        title = f"[{about.title}](/executed/methods/{about.family}/{method})"
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


# The names that pages use.
QUERIES = {**RUNS, "reported": Reported()}
