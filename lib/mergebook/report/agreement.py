"""Claims of all chapters by where they hold: on drawings, on real images, on texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pandas as pd
from IPython.display import HTML

from mergebook.claims import FAILS, HOLDS, NOT_TESTABLE, Chapter, list_chapters, load_claims
from mergebook.errors import ReportError
from mergebook.report.measured import RUNS
from mergebook.report.numbers import EMPTY
from mergebook.report.tables import folded, html_table
from mergebook.report.verdicts import cell, limit, note, sources

DRAWN, REAL, TEXTS = RUNS["full"], RUNS["real14"], RUNS["text8"]
EVERYWHERE, NOWHERE = "Holds on images and on texts", "Holds neither on images nor on texts"
IMAGES_ONLY, TEXTS_ONLY = "Holds on images, not on texts", "Holds on texts, not on images"
OPEN = "Undecided: some interval has both sides, or images disagree"
GROUPS = (EVERYWHERE, NOWHERE, IMAGES_ONLY, TEXTS_ONLY, OPEN)


def group(images: Iterable[str], texts: str) -> str | None:
    """Where a claim holds.

    Parameters
    ----------
    images : iterable of str
        Its verdicts on drawings and on real images.
    texts : str
        Its verdict on texts.

    Returns
    -------
    str or None
        One of :data:`GROUPS`; None if it cannot be judged on both sorts. Images decide if one
        of the two runs on them decides and the other does not say the opposite.
    """
    there = {verdict for verdict in images if verdict != NOT_TESTABLE}
    if not there or texts == NOT_TESTABLE:
        return None
    decided = there & {HOLDS, FAILS}
    if len(decided) != 1 or texts not in (HOLDS, FAILS):
        return OPEN
    return {
        (HOLDS, HOLDS): EVERYWHERE,
        (FAILS, FAILS): NOWHERE,
        (HOLDS, FAILS): IMAGES_ONLY,
        (FAILS, HOLDS): TEXTS_ONLY,
    }[decided.pop(), texts]


def _judged(chapter: Chapter) -> dict[str, tuple[str, Mapping[str, pd.Series]]]:
    """Key of each claim that can be compared -> its group, and its row in each run."""
    pages = sorted({claim.notebook for claim in chapter.values() if claim.notebook})
    runs, found = sources(pages), {}
    for claim in chapter.values():
        parts = {title: frame[frame["key"] == claim.key] for title, frame in runs.items()}
        rows = {title: part.iloc[0] for title, part in parts.items() if len(part)}
        verdicts = {title: row.verdict for title, row in rows.items()}
        images = [verdicts.get(title, NOT_TESTABLE) for title in (DRAWN, REAL)]
        where = group(images, verdicts.get(TEXTS, NOT_TESTABLE))
        if where is not None and not claim.untested:
            found[claim.key] = where, rows
    return found


def _claimed(rows: Mapping[str, pd.Series]) -> str:
    """What a claim says, in numbers."""
    return next((limit(row) for row in rows.values() if limit(row) != EMPTY), "")


def agreement_tables(root: str = "..") -> list[HTML]:
    """Return how many claims of each chapter hold where, and a table of the claims of each group.

    Parameters
    ----------
    root : str, default ".."
        Of the built book, seen from the page that shows the tables.

    Returns
    -------
    list of HTML
        The counts; the claims on which images and texts disagree; and, folded away, the others.

    Raises
    ------
    ReportError
        If no claim was judged both on images and on texts.
    """
    chapters = [load_claims(name) for name in list_chapters()]
    judged = {chapter.name: _judged(chapter) for chapter in chapters}
    if not any(judged.values()):
        raise ReportError("no claim was judged both on images and on texts")
    counts = pd.DataFrame(
        {
            chapter.authors: {
                where: sum(found == where for found, _ in judged[chapter.name].values())
                for where in GROUPS
            }
            | {"Cannot be compared": len(chapter.values()) - len(judged[chapter.name])}
            for chapter in chapters
        }
    )
    counts["All"] = counts.sum(axis=1)
    table = counts.astype(str).rename_axis("Claims")
    pieces = [html_table(table, caption="Claims by where they hold, for each chapter's paper")]
    for where in (IMAGES_ONLY, TEXTS_ONLY, EVERYWHERE, NOWHERE, OPEN):
        lines, below, sections, links = {}, {}, {}, {}
        for chapter in chapters:
            for key, (found, rows) in judged[chapter.name].items():
                if found == where:
                    claim, claimed = chapter[key], _claimed(rows)
                    lines[claim.statement] = {
                        title: cell(rows[title], claimed) if title in rows else EMPTY
                        for title in (DRAWN, REAL, TEXTS)
                    }
                    below[claim.statement] = note(claim, claimed)
                    sections[claim.statement] = f"{chapter.authors} and relatives"
                    links[claim.statement] = f"{root}/executed/{claim.notebook}.html"
        if not lines:
            continue
        frame = pd.DataFrame(lines, dtype=object).T.rename_axis("Claim")
        shown = html_table(
            frame, caption=where, words=True, links=links, notes=below, sections=sections
        )
        differ = where in (IMAGES_ONLY, TEXTS_ONLY)
        pieces.append(shown if differ else folded(f"{where} ({len(lines)})", [shown]))
    return pieces
