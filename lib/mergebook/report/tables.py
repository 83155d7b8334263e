"""Tables that keep reported and measured numbers apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup, escape

from mergebook.errors import ReportError, unknown
from mergebook.registry import get_method
from mergebook.report.numbers import EMPTY, between, shown
from mergebook.report.reported import reported_main_table, reported_sizes
from mergebook.report.style import task_title, title_of

RESULT_COLUMNS = (
    "scale",
    "backbone",
    "num_tasks",
    "seed",
    "method",
    "task",
    "accuracy",
    "normalised",
    "storage_gigabit",
)
# Headings of the metrics of `data/reported`.
METRICS = {
    "accuracy_percent": "Accuracy, %",
    "normalised_accuracy_percent": "Normalised, %",
    "normalised_validation_accuracy_percent": "Normalised validation accuracy, %",
    "storage_gigabit": "Storage, gigabits",
    "active_entries_percent": "Active, % of all stored weights",
}
PAPER_NAMES = {"ViT-B-32": "ViT-B/32", "ViT-B-16": "ViT-B/16", "ViT-L-14": "ViT-L/14"}
# The backbone of the papers that a mini backbone stands for.
COUNTERPARTS = {"mini-small": "ViT-B-32", "mini-large": "ViT-L-14"}


def summarise(results: pd.DataFrame, *, scale: str, backbone: str, num_tasks: int) -> pd.DataFrame:
    """Mean over tasks and seeds of one part of the results.

    Parameters
    ----------
    results : DataFrame
        Tidy results with the columns `RESULT_COLUMNS`.
    scale : {"mini", "paper"}
        Which experiments.
    backbone : str
        Which backbone.
    num_tasks : int
        Which suite size.

    Returns
    -------
    DataFrame
        Indexed by method, in order of first appearance, with columns ``accuracy``,
        ``normalised`` (fractions), ``storage_gigabit`` and ``relative_storage`` (share of the
        storage of the fine-tuned models; NaN if these are not among the results). Empty if
        nothing matches.

    Raises
    ------
    ReportError
        If a column is missing, or a method lacks some of the tasks that another one has.
    """
    missing = [column for column in RESULT_COLUMNS if column not in results]
    if missing:
        raise ReportError(f"results have no column {', '.join(missing)}")
    part = results[
        (results["scale"] == scale)
        & (results["backbone"] == backbone)
        & (results["num_tasks"] == num_tasks)
    ]
    tasks = part.groupby("method")["task"].nunique()
    short = tasks[tasks < part["task"].nunique()]
    if len(short):
        raise ReportError(f"results of {', '.join(short.index)} at {num_tasks} tasks lack tasks")
    means = part.groupby("method", sort=False)[["accuracy", "normalised", "storage_gigabit"]].mean()
    return with_relative_storage(means)


def with_relative_storage(means: pd.DataFrame) -> pd.DataFrame:
    """Add a column ``relative_storage``: the share of the fine-tuned models' storage.

    Parameters
    ----------
    means : DataFrame
        Indexed by method, with a column ``storage_gigabit``.

    Returns
    -------
    DataFrame
        NaN throughout if ``"fine_tuned"`` is not among the methods.
    """
    reference = means["storage_gigabit"].get("fine_tuned", float("nan"))
    return means.assign(relative_storage=means["storage_gigabit"] / reference)


def _storage(gigabit: float) -> str:
    if pd.isna(gigabit):
        return EMPTY
    return f"{gigabit:.1f} Gbit" if gigabit >= 1 else f"{1000 * gigabit:.1f} Mbit"


def _columns(part: pd.DataFrame, methods: list[str], bounds: pd.Series | None = None) -> dict:
    part = part.reindex(methods)
    signs = [""] * len(methods)
    if bounds is not None:
        signs = [">" if b == ">" else "" for b in bounds.reindex(methods)]
    storage = map(_storage, part["storage_gigabit"])
    relative = map(partial(shown, form="cell"), part["relative_storage"])
    return {
        "Accuracy, %": list(map(partial(shown, form="cell"), part["accuracy"])),
        "Normalised, %": list(map(partial(shown, form="cell"), part["normalised"])),
        "Storage": [sign + text for sign, text in zip(signs, storage, strict=True)],
        "Storage, % of experts": [s + text for s, text in zip(signs, relative, strict=True)],
    }


def side_by_side(
    results: pd.DataFrame,
    *,
    backbone: str = "mini-small",
    num_tasks: int = 8,
    reported_backbone: str | None = None,
    table: str = "tall_masks_main",
) -> pd.DataFrame:
    """Set reported and measured numbers of one suite size apart, in their own column groups.

    Parameters
    ----------
    results : DataFrame
        Tidy results with the columns `RESULT_COLUMNS`.
    backbone : str
        Backbone measured at mini scale.
    num_tasks : int
        Suite size.
    reported_backbone : str
        Backbone of the paper, also the one expected at paper scale. Default: ViT-B-32 for
        mini-small, ViT-L-14 for mini-large.
    table : str
        The paper's table, see `reported`.

    Returns
    -------
    DataFrame
        Texts ready to be shown by `html_table`: one row per method, columns in the three groups
        reported, measured at mini scale, measured at paper scale. The first is left out for a size
        that the paper's table lacks, the last unless there are results with ``scale == "paper"``.

    Raises
    ------
    ReportError
        If the results hold nothing for this backbone and size, or the paper has no such table.
    """
    reported_backbone = reported_backbone or COUNTERPARTS.get(backbone, backbone)
    mini = summarise(results, scale="mini", backbone=backbone, num_tasks=num_tasks)
    if mini.empty:
        here = results.loc[results["scale"] == "mini", ["backbone", "num_tasks"]]
        choices = [f"{b} with {t} tasks" for b, t in here.drop_duplicates().itertuples(index=False)]
        raise ReportError(unknown("result", f"{backbone} with {num_tasks} tasks", choices))
    printed = num_tasks in reported_sizes(reported_backbone, table)
    paper = (
        with_relative_storage(reported_main_table(reported_backbone, num_tasks, table))
        if printed
        else pd.DataFrame()
    )
    full = summarise(results, scale="paper", backbone=reported_backbone, num_tasks=num_tasks)
    methods = [*paper.index, *(m for m in mini.index if m not in paper.index)]
    paper_name = PAPER_NAMES.get(reported_backbone, reported_backbone)
    groups = {}
    if printed:
        bounds = paper["storage_bound"]
        groups[f"Reported (paper, {paper_name})"] = _columns(paper, methods, bounds)
    groups[f"Measured (mini scale, {backbone})"] = _columns(mini, methods)
    if not full.empty:
        groups[f"Measured (paper scale, {paper_name})"] = _columns(full, methods)
    return pd.DataFrame(
        {(group, name): texts for group, part in groups.items() for name, texts in part.items()},
        index=pd.Index([get_method(m).title for m in methods], name="Method"),
    )


def main_tables(results: pd.DataFrame, *, table: str = "tall_masks_main") -> dict:
    """Return the tables of :func:`side_by_side` for each backbone and size of some results.

    Returns
    -------
    dict of str to DataFrame
        By titles such as ``"mini-small, 8 tasks"``.
    """
    groups = results.groupby(["backbone", "num_tasks"], sort=False)
    return {
        f"{backbone}, {size} tasks": side_by_side(
            part, backbone=backbone, num_tasks=size, table=table
        )
        for (backbone, size), part in groups
    }


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


def folded(title: str, pieces: Iterable[HTML], *, unfolded: bool = False, kind: str = "") -> HTML:
    """Fold tables and figures away under a title that opens them.

    Parameters
    ----------
    title : str
        Shown in any case.
    pieces : iterable of IPython.display.HTML
        What `html_table` and `show` return.
    unfolded : bool, default False
        Whether they are shown at first.
    kind : {"", "rerun"}
        ``"rerun"`` for what a rerun gives, beside the committed numbers.
    """
    inner = "\n".join(piece.data for piece in pieces)
    classes = f"mergebook {kind}".strip()
    return HTML(
        f'<details class="{classes}"{" open" * unfolded}><summary>{escape(title)}</summary>\n'
        f"{inner}\n</details>"
    )


def _content(value: object) -> Markup:
    """A cell's content: text, unless it is markup already."""
    return escape(value if isinstance(value, str) else str(value))


def html_table(
    frame: pd.DataFrame,
    *,
    caption: str,
    words: bool = False,
    sortable: bool = False,
    links: Mapping[str, str] | None = None,
) -> HTML:
    """Show a table of texts: captioned, scrolling when wide, and clear to a screen reader.

    Written out by hand because pandas' Styler gives header cells no ``scope``, without which a
    screen reader cannot say which of the column groups a number belongs to.

    Parameters
    ----------
    frame : DataFrame
        Texts, or :class:`markupsafe.Markup` (in columns of type object); the columns may have one
        level or two (group, column).
    caption : str
        What the table shows; also its accessible name.
    words : bool
        Whether the cells hold words, which are aligned left, rather than numbers.
    sortable : bool
        Whether the built page lets readers sort and filter the rows.
    links : mapping of str to str, optional
        Row label -> address that it links to.

    Returns
    -------
    IPython.display.HTML
        With class ``mergebook``, which the book's style sheet knows.
    """
    corner = escape(str(frame.index.name or ""))
    grouped = frame.columns.nlevels > 1
    head, starts = "", {0}
    if grouped:
        head = f'<tr><th scope="col" rowspan="2">{corner}</th>'
        at = 0
        for group, members in groupby(frame.columns, key=lambda column: column[0]):
            width = len(list(members))
            starts.add(at)
            head += f'<th scope="colgroup" colspan="{width}" class="start">{escape(group)}</th>'
            at += width
        head += "</tr>"
    names = [column[-1] if grouped else column for column in frame.columns]
    start = [' class="start"' if grouped and i in starts else "" for i in range(len(names))]
    cells = [f'<th scope="col"{s}>{escape(str(n))}</th>' for n, s in zip(names, start, strict=True)]
    if not grouped:
        cells.insert(0, f'<th scope="col">{corner}</th>')
    head += f"<tr>{''.join(cells)}</tr>"
    body = ""
    for label, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        cells = [f"<td{s}>{_content(v)}</td>" for v, s in zip(row, start, strict=True)]
        name, address = escape(str(label)), (links or {}).get(str(label))
        name = f'<a href="{escape(address)}">{name}</a>' if address else name
        body += f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>\n'
    kind = "mergebook" + " words" * words + " sortable" * sortable
    # tabindex: a region that scrolls must be reachable by keyboard
    return HTML(
        f'<div class="mergebook-scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="{kind}"><caption>{escape(caption)}</caption>\n'
        f"<thead>{head}</thead>\n<tbody>\n{body}</tbody></table></div>"
    )
