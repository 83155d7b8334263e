"""The verdicts of a whole chapter, as its first page shows them: a table and a figure."""

from __future__ import annotations

from IPython.display import HTML
from matplotlib.figure import Figure

from mergebook.claims import Chapter, load_claims
from mergebook.notebooks import find_notebooks
from mergebook.report.strip import strip_figure
from mergebook.report.verdicts import sources, verdict_table


def chapter_table(chapter: Chapter) -> HTML:
    """Table of all of a chapter's claims, page by page: the paper's numbers and committed runs."""
    pages = sorted({claim.notebook for claim in chapter.values() if claim.notebook})
    notebooks, own = find_notebooks(), f"{chapter.name}/reported_numbers"
    rest = own if own in notebooks else ""  # a chapter need not have that page
    home = {claim.statement: claim.notebook or rest for claim in chapter.values()}
    order = list(dict.fromkeys(home.values()))
    printed = {judgement.claim.key: judgement for judgement in chapter.judge_printed()}
    return verdict_table(
        sorted(chapter.values(), key=lambda claim: order.index(home[claim.statement])),
        printed,
        sources(pages),
        caption="Claims and verdicts",
        links={claim: f"../../executed/{page}.html" for claim, page in home.items() if page},
        sections={
            claim: notebooks[page].title if page else "Not tested here"
            for claim, page in home.items()
        },
    )


def chapter_verdicts(name: str) -> tuple[str, Figure, Figure]:
    """Return the table of a chapter's verdicts as HTML, and its figure: for a page, for a phone.

    Parameters
    ----------
    name : str
        Of the chapter.
    """
    chapter = load_claims(name)
    return chapter_table(chapter).data, strip_figure(chapter), strip_figure(chapter, narrow=True)
