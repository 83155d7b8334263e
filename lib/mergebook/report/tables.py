"""Tables that keep reported and measured numbers apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import groupby

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup, escape

from mergebook.errors import ReportError, unknown
from mergebook.registry import get_method
from mergebook.report.arranged import PAPER_NAMES
from mergebook.report.numbers import EMPTY, shown
from mergebook.report.reported import reported_main_table, reported_sizes

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
SUITES = {"mini", "clip"}  # whose tasks are the papers', or stand for them one by one
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
    columns = {
        "Accuracy, %": list(map(partial(shown, form="cell"), part["accuracy"])),
        "Normalised, %": list(map(partial(shown, form="cell"), part["normalised"])),
        "Storage": [sign + text for sign, text in zip(signs, storage, strict=True)],
        "Storage, % of experts": [s + text for s, text in zip(signs, relative, strict=True)],
    }
    return {name: texts for name, texts in columns.items() if set(texts) != {EMPTY}}


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
        reported, measured at mini scale, measured at paper scale, without a column that would be
        empty. The first is left out for a size that the paper's table lacks and for other tasks
        than its own or their counterparts (by a column ``suite``, if there is one), the last unless
        there are results with ``scale == "paper"``.

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
    own = "suite" not in results or set(results["suite"]) <= SUITES
    printed = own and num_tasks in reported_sizes(reported_backbone, table)
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
    notes: Mapping[str, Markup] | None = None,
    sections: Mapping[str, str] | None = None,
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
    notes : mapping of str to Markup, optional
        Row label -> small print below it.
    sections : mapping of str to str, optional
        Row label -> heading that stands above the first of its rows. Rows of one section follow
        each other.

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
    body, section = "", None
    for label, row in zip(frame.index, frame.itertuples(index=False, name=None), strict=True):
        heading = (sections or {}).get(str(label))
        if heading and heading != section:
            body += (
                f'<tr><th scope="rowgroup" colspan="{1 + len(row)}">{escape(heading)}</th></tr>\n'
            )
            section = heading
        cells = [f"<td{s}>{_content(v)}</td>" for v, s in zip(row, start, strict=True)]
        name, address = escape(str(label)), (links or {}).get(str(label))
        name = Markup('<a href="{}">{}</a>').format(address, name) if address else name
        if small := (notes or {}).get(str(label)):
            name += Markup("<br><small>{}</small>").format(small)
        body += f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>\n'
    kind = "mergebook" + " words" * words + " sortable" * sortable
    # tabindex: a region that scrolls must be reachable by keyboard
    return HTML(
        f'<div class="mergebook-scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table class="{kind}"><caption>{escape(caption)}</caption>\n'
        f"<thead>{head}</thead>\n<tbody>\n{body}</tbody></table></div>"
    )
