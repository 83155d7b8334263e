"""What the chapters on single papers share: the list of claims with the verdicts of every run."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from IPython.display import HTML

from mergebook.errors import ReportError
from mergebook.report.claims import NOT_TESTABLE, Claim, load_claims, shown
from mergebook.report.measured import committed
from mergebook.report.results import load_results
from mergebook.report.tables import html_table

PAGES = "../../executed"  # the notebooks' pages, seen from a chapter's page
NOT_JUDGED = "not part of this run"


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


def verdicts_of_chapter(
    chapter: str, built: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Verdicts on a chapter's claims, a column for this build and one for each committed run.

    Parameters
    ----------
    chapter : str
        Such as ``"tall_masks"``.
    built : mapping of notebook to DataFrame, optional
        Tables of claims of this build; read from the results folder if not given.

    Returns
    -------
    DataFrame
        Texts, indexed by the claims' statements: source, this build, committed runs.

    Raises
    ------
    ReportError
        If a notebook of this build has not been run, or does not judge a claim that is its own.
    """
    claims = load_claims(chapter)
    notebooks = sorted({claim.notebook for claim in claims.values() if claim.notebook})
    built = built or {name: load_results(name, "claims") for name in notebooks}
    runs: dict[str, dict[str, pd.DataFrame]] = {}
    for notebook in notebooks:
        for run, table in committed(notebook, "claims").items():
            runs.setdefault(run, {})[notebook] = table
    rows = {}
    for claim in claims.values():
        cells = {"Source": claim.source}
        for run, tables in {"This build": built, **runs}.items():
            if claim.untested:
                cells[run] = f"{NOT_TESTABLE}: {claim.untested}"
            elif claim.notebook in tables:
                cells[run] = verdict_text(claim, tables[claim.notebook])
            else:
                cells[run] = NOT_JUDGED
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
        A row for each claim that the notebook judges, a column for each run, backbone and seed; a
        sentence where there is no run.
    """
    columns = {}
    for run, frame in committed(notebook, "claims").items():
        for (backbone, seed), part in frame.groupby(["backbone", "seed"], sort=False):
            columns[f"{run}: {backbone}, experts {seed}"] = part
    if not columns:
        return HTML("<p>No run of this notebook is committed.</p>")
    claims = [c for c in load_claims(notebook.split("/")[0]).values() if c.notebook == notebook]
    texts = pd.DataFrame(
        {name: [verdict_text(claim, part) for claim in claims] for name, part in columns.items()},
        index=pd.Index([claim.statement for claim in claims], name="Claim"),
    )
    return html_table(texts, caption="The same claims in the committed runs", words=True)


def verdicts_page(chapter: str) -> str:
    """The table of :func:`verdicts_of_chapter` as a piece of a page, claims linked to notebooks."""
    links = {
        claim.statement: f"{PAGES}/{claim.notebook}.html"
        for claim in load_claims(chapter).values()
        if claim.notebook
    }
    table = verdicts_of_chapter(chapter)
    html = html_table(table, caption="Claims of the paper and verdicts", words=True, links=links)
    return f'```{{raw}} html\n<div class="full-width">\n{html.data}\n</div>\n```\n'
