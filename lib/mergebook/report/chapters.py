"""What the chapters on single papers share: the list of claims with the verdicts of every run."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML

from mergebook.errors import ReportError
from mergebook.report.claims import NOT_TESTABLE, Claim, load_claims, reported_notebook, shown
from mergebook.report.measured import committed
from mergebook.report.results import load_results
from mergebook.report.tables import EMPTY, html_table

PAGES = "../../executed"  # the notebooks' pages, seen from a chapter's page
NOT_JUDGED = "not part of this run"
OURS = "ours"  # the source of a claim that is not the paper's
THIS_BUILD = "This build"
OWN_NUMBERS = "Paper's own numbers"


def _title(run: str, row: pd.Series) -> str:
    """Heading of a committed run's column: the run, and whose verdicts are shown."""
    return f"{run}: {row['backbone']}, experts {row['seed']}"


def verdict_text(claim: Claim, table: pd.DataFrame) -> str:
    """One claim's verdict in a notebook's table of claims, as text.

    Raises
    ------
    ReportError
        If the table has no row of the claim.
    """
    rows = table[table["key"] == claim.key]
    if rows.empty:
        raise ReportError(f"{claim.notebook}: its claims do not include {claim.key!r}")
    row = rows.iloc[0]
    if row["verdict"] == NOT_TESTABLE:
        return f"{NOT_TESTABLE}: {row['compared']}"
    low, high = shown(row["low"], row["unit"]), shown(row["high"], row["unit"])
    estimate = f"{shown(row['estimate'], row['unit'])} {row['unit']}"
    return f"{row['verdict']}: {estimate} ({low} to {high})"


def verdict_over_sets(claim: Claim, table: pd.DataFrame) -> str:
    """A claim's verdict on the first set of experts, and how often each verdict occurs.

    Parameters
    ----------
    claim : Claim
    table : DataFrame
        Verdicts of one or several sets of experts, one after the other. Those of the first
        one's backbone are counted.

    Returns
    -------
    str
        That the claim is not part of the run, if the table does not have it: a run may be older.
    """
    rows = table[table["key"] == claim.key]
    if rows.empty:
        return NOT_JUDGED
    text = verdict_text(claim, rows)
    rows = rows[rows["backbone"] == rows["backbone"].iloc[0]]
    found = rows.loc[rows["verdict"] != NOT_TESTABLE, "verdict"]
    if len(found) < 2:
        return text
    counts = ", ".join(f"{word} {number}" for word, number in found.value_counts().items())
    return f"{text}; over {len(found)} sets of experts: {counts}"


def verdicts_of_chapter(
    chapter: str, built: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Verdicts on a chapter's claims: on the paper's numbers, of this build, of committed runs.

    Parameters
    ----------
    chapter : str
        Such as ``"tall_masks"``.
    built : mapping of notebook to DataFrame, optional
        Tables of claims of this build; read from the results folder if not given.

    Returns
    -------
    DataFrame
        Texts, indexed by the claims' statements: source, the verdict on the paper's own numbers
        where a notebook judges these, this build, committed runs.

    Raises
    ------
    ReportError
        If a notebook of this build has not been run, or does not judge a claim that is its own.
    """
    claims = load_claims(chapter)
    notebooks = sorted({claim.notebook for claim in claims.values() if claim.notebook})
    own = reported_notebook(chapter)
    if built is None:
        names = notebooks + [own] * bool(own)
        built = {name: load_results(name, "claims") for name in names}
    runs: dict[str, dict[str, pd.DataFrame]] = {}
    for notebook in notebooks:
        for run, table in committed(notebook, "claims").items():
            runs.setdefault(_title(run, table.iloc[0]), {})[notebook] = table
    rows = {}
    for claim in claims.values():
        cells = {"Source": claim.source}
        if own:
            judged = claim.key in set(built[own]["key"])
            cells[OWN_NUMBERS] = verdict_text(claim, built[own]) if judged else EMPTY
        if claim.untested:
            cells |= dict.fromkeys([THIS_BUILD, *runs], f"{NOT_TESTABLE}: {claim.untested}")
        else:
            cells[THIS_BUILD] = verdict_text(claim, built[claim.notebook])
            for run, tables in runs.items():
                known = claim.notebook in tables
                cells[run] = (
                    verdict_over_sets(claim, tables[claim.notebook]) if known else NOT_JUDGED
                )
        rows[claim.statement] = cells
    return pd.DataFrame(rows).T.rename_axis("Claim")


def claims_of_runs(notebook: str) -> HTML:
    """Table of the verdicts of a notebook's committed runs.

    Parameters
    ----------
    notebook : str
        Such as ``"tall_masks/main_table"``.

    Returns
    -------
    IPython.display.HTML
        A row for each claim that the notebook judges, the paper's and its own, a column for each
        run, backbone and seed; a sentence where there is no run.
    """
    columns = {}
    for run, frame in committed(notebook, "claims").items():
        for backbone in frame["backbone"].unique():
            for _, part in frame[frame["backbone"] == backbone].groupby("seed"):
                columns[_title(run, part.iloc[0])] = part
    if not columns:
        return HTML("<p>No run of this notebook is committed.</p>")
    claims = [c for c in load_claims(notebook.split("/")[0]).values() if c.notebook == notebook]
    known = {claim.key for claim in claims}
    for row in pd.concat(columns.values()).drop_duplicates("key").itertuples():
        if row.key not in known and row.source == OURS:
            claims.append(Claim(row.key, row.statement, row.source, row.unit, notebook))
    texts = pd.DataFrame(
        {
            name: [
                verdict_text(claim, part) if claim.key in set(part["key"]) else NOT_JUDGED
                for claim in claims
            ]
            for name, part in columns.items()
        },
        index=pd.Index([claim.statement for claim in claims], name="Claim"),
    )
    return html_table(texts, caption="The same claims in the committed runs", words=True)


def verdicts_page(chapter: str) -> str:
    """The table of :func:`verdicts_of_chapter` as a piece of a page, claims linked to notebooks."""
    own = reported_notebook(chapter)
    pages = {claim.statement: claim.notebook or own for claim in load_claims(chapter).values()}
    links = {statement: f"{PAGES}/{page}.html" for statement, page in pages.items() if page}
    table = verdicts_of_chapter(chapter)
    html = html_table(table, caption="Claims of the paper and verdicts", words=True, links=links)
    return f'```{{raw}} html\n<div class="full-width">\n{html.data}\n</div>\n```\n'
