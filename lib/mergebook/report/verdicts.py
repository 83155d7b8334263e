"""Verdicts on claims: the table that a reader understands at a glance."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping

import pandas as pd
from IPython.display import HTML
from markupsafe import Markup
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from mergebook.claims import (
    FAILS,
    HOLDS,
    INCONCLUSIVE,
    NOT_TESTABLE,
    Claim,
    Judgement,
)
from mergebook.errors import ReportError
from mergebook.paths import results_dir
from mergebook.report.measured import committed
from mergebook.report.numbers import EMPTY, FORMS, between, shown
from mergebook.report.tables import folded, html_table

PRINTED = "Paper prints"
HERE = "Your rerun"
BUILD = "This build"
COLUMNS = ("measured", "measured_low", "measured_high", "relation", "claimed", "form",
           "estimate", "low", "high", "verdict", "what")  # fmt: skip
# Class in the style sheet, which adds a mark and an edge, and colours them.
LOOKS = {
    HOLDS: "verdict-holds",
    FAILS: "verdict-fails",
    INCONCLUSIVE: "verdict-inconclusive",
    NOT_TESTABLE: "verdict-untestable",
}
Rows = Mapping[str, pd.DataFrame]


def judgement_rows(judgements: Iterable[Judgement], **where: object) -> pd.DataFrame:
    """Judgements as data, to be written to the results.

    Parameters
    ----------
    judgements : iterable of Judgement
        One per claim.
    **where : object
        What was measured, e.g. the backbone and the seed: a column for each.

    Returns
    -------
    DataFrame
        One row per claim: ``key``, ``statement``, ``source``, what was measured and claimed,
        how far it is on the claimed side (``estimate``, ``low``, ``high``; fractions), the
        verdict, ``what`` decided it, and those of `where`.
    """
    return pd.DataFrame(
        [
            {
                "key": each.claim.key,
                "statement": each.claim.statement,
                "source": each.claim.source,
                **{column: getattr(each, column) for column in COLUMNS},
                **where,
            }
            for each in judgements
        ]
    )


def badge(verdict: str) -> Markup:
    """Return a verdict as a word with its look."""
    return Markup('<span class="{}">{}</span>').format(LOOKS[verdict], verdict)


def _whole(value: float) -> int:
    """Digits that a claimed value needs."""
    return 0 if math.isclose(100 * value, round(100 * value), abs_tol=1e-9) else 1


def limit(row: pd.Series | Judgement) -> str:
    """Return what is claimed as text, such as ``"> 99 %"``."""
    if math.isnan(row.claimed):
        return EMPTY
    return f"{row.relation} {shown(row.claimed, row.form, _whole(row.claimed))}"


def value(row: pd.Series | Judgement) -> str:
    """Return what was measured as text; a difference has its sign."""
    form = "signed points" if row.form == "points" else row.form
    return shown(row.measured, form)


def _interval(row: pd.Series | Judgement, digits: int = 1) -> str:
    """Return an interval as text: empty for a count, with a digit more where a bound looks met."""
    low, high = row.measured_low, row.measured_high
    if low == high:
        return ""
    form = "cell" if row.form in FORMS else row.form
    alike = [
        shown(bound, form, digits) == shown(row.claimed, form, digits) for bound in (low, high)
    ]
    return between(low, high, form, digits + any(alike))


def cell(row: pd.Series | Judgement, claimed: str = "", interval: bool = True) -> Markup:
    """Return one source's answer to a claim: the value, its interval, the verdict, what decided it.

    Parameters
    ----------
    row : Series or Judgement
    claimed : str
        What the row of the table says is claimed; said again where another part decides.
    interval : bool
        Whether to show the interval.
    """
    if row.verdict == NOT_TESTABLE:
        return Markup("{}<br><small>{}</small>").format(badge(row.verdict), row.what)
    numbers = Markup("<b>{}</b>").format(value(row))
    if interval and _interval(row):
        numbers += Markup(" <small>({})</small>").format(_interval(row))
    own = f" (claimed {limit(row)})" if claimed and limit(row) != claimed else ""
    return Markup("{}<br>{}<br><small>{}{}</small>").format(
        numbers, badge(row.verdict), row.what, own
    )


def _others(rows: pd.DataFrame) -> Markup:
    """What other sets of experts and the other encoder say, in a few words."""
    first, notes = rows.iloc[0], []
    for backbone, part in rows.groupby("backbone", sort=False):
        testable = part[part["verdict"] != NOT_TESTABLE]
        if backbone == first["backbone"] and len(testable) > 1:
            same = int((testable["verdict"] == first["verdict"]).sum())
            notes.append(f"this verdict in {same} of {len(testable)} sets of experts")
        elif backbone != first["backbone"]:
            notes.append(f"{backbone}: {' / '.join(part['verdict'].unique())}")
    return Markup("<br><small>{}</small>").format("; ".join(notes)) if notes else Markup("")


def sources(notebooks: Iterable[str]) -> dict[str, pd.DataFrame]:
    """Return the verdicts of the committed runs of some notebooks, by the title of the run.

    Those of this build where none is committed, so that a new chapter has verdicts to show.
    """
    notebooks = list(notebooks)
    found: dict[str, list[pd.DataFrame]] = {}
    for notebook in notebooks:
        for title, frame in committed(notebook, "claims").items():
            found.setdefault(title, []).append(frame)
    here = [results_dir() / notebook / "claims.csv" for notebook in notebooks]
    if not found and any(path.is_file() for path in here):
        found[BUILD] = [pd.read_csv(path) for path in here if path.is_file()]
    return {title: pd.concat(frames, ignore_index=True) for title, frames in found.items()}


def verdict_table(
    claims: Iterable[Claim],
    printed: Mapping[str, Judgement],
    runs: Rows,
    *,
    caption: str,
    links: Mapping[str, str] | None = None,
    sections: Mapping[str, str] | None = None,
) -> HTML:
    """Table of claims: what is claimed, and what the paper prints and each run finds.

    Parameters
    ----------
    claims : iterable of Claim
    printed : mapping of str to Judgement
        The claims on the paper's own numbers, by key.
    runs : mapping of str to DataFrame
        Title -> rows of :func:`judgement_rows`. Of several sets of experts the first is shown,
        the others are counted.
    caption : str
    links : mapping of str to str, optional
        Statement -> address.
    sections : mapping of str to str, optional
        Statement -> heading above it, see :func:`mergebook.report.tables.html_table`.

    Raises
    ------
    ReportError
        If there is no claim.
    """
    table, below = {}, {}
    for claim in claims:
        found = {title: frame[frame["key"] == claim.key] for title, frame in runs.items()}
        rows = [printed.get(claim.key), *(f.iloc[0] for f in found.values() if len(f))]
        claimed = next((limit(row) for row in rows if row is not None and limit(row) != EMPTY), "")
        below[claim.statement] = note(claim, claimed)
        line: dict[str, object] = {}
        if printed:
            own = printed.get(claim.key)
            line[PRINTED] = cell(own, claimed, interval=False) if own else EMPTY
        for title, part in found.items():
            if claim.untested:
                line[title] = badge(NOT_TESTABLE)
            elif part.empty:
                line[title] = Markup("<small>{}</small>").format("not part of this run")
            else:
                line[title] = cell(part.iloc[0], claimed) + _others(part)
        table[claim.statement] = line
    if not table:
        raise ReportError("no claim to show")
    frame = pd.DataFrame(table, dtype=object).T.rename_axis("Claim")
    return html_table(
        frame, caption=caption, words=True, links=links, notes=below, sections=sections
    )


def note(claim: Claim, claimed: str) -> Markup:
    """Return what stands below a claim: what is claimed, where, and why it is not tested."""
    lines = [f"claimed {claimed}"] * bool(claimed) + [claim.source]
    lines += [f"not tested: {claim.untested}"] * bool(claim.untested)
    return Markup("<br>").join(lines)


def formula(claim: Claim) -> Markup:
    """Return a claim's function as highlighted code."""
    source = inspect.getsource(claim.formula)
    body = source[source.index("def ") :]
    style = HtmlFormatter(nowrap=True)
    code = Markup(highlight(body, PythonLexer(), style))  # the formatter escapes
    return Markup('<div class="highlight"><pre>{}</pre></div>').format(code)


def comparisons(judgements: Iterable[Judgement], title: str, *, reading: bool = False) -> HTML:
    """Fold away every comparison behind some verdicts, with the formula of each claim.

    Parameters
    ----------
    judgements : iterable of Judgement
    title : str
        Of what unfolds.
    reading : bool, default False
        Whether the intervals are errors of reading printed numbers, not 95 % intervals.
    """
    heading = "Can be read as" if reading else "95 % interval"
    pieces = []
    for each in judgements:
        pieces.append(HTML(Markup("<h4>{}</h4>").format(each.claim.statement)))
        pieces.append(HTML(formula(each.claim)))
        if each.verdict == NOT_TESTABLE:
            pieces.append(HTML(Markup("<p>{}: {}</p>").format(badge(each.verdict), each.what)))
            continue
        rows = {
            part.what: {
                "Claimed": limit(part),
                "Measured" if not reading else "Printed": value(part),
                heading: _interval(part, 2 if reading else 1) or EMPTY,
                "Verdict": badge(part.verdict),
            }
            for part in each.parts
        }
        frame = pd.DataFrame(rows, dtype=object).T.rename_axis("Compared")
        pieces.append(html_table(frame, caption=each.claim.statement, words=True))
    return folded(title, pieces)


def printed_table(judgements: Iterable[Judgement], *, caption: str) -> HTML:
    """Table of verdicts on a paper's own numbers, each by its deciding comparison."""
    rows = {
        each.claim.statement: {PRINTED: cell(each, limit(each), interval=False)}
        for each in judgements
    }
    below = {each.claim.statement: note(each.claim, limit(each)) for each in judgements}
    frame = pd.DataFrame(rows, dtype=object).T.rename_axis("Claim")
    return html_table(frame, caption=caption, words=True, notes=below)
