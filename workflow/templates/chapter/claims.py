"""Claims of TITLE [PAPER], in the order of the chapter.

Numbers of a page answer with estimates: ``normalised(method, at)`` (accuracy over the experts').
"""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import Chapter, Numbers, Part, above
from mergebook.report.style import title_of as title

CHAPTER = Chapter("CHAPTER", paper="PAPER", authors="AUTHORS")


# TO WRITE: the paper's claims; `above` and `below` compare an estimate with what is claimed.
@CHAPTER.claim("The method is better than task arithmetic", where="main table", page="PAGE")
def better(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("ties", at) - n.normalised("task_arithmetic", at)
        yield above(0, gain, f"{title('ties')} beyond task arithmetic, {at}", "points")


# TO WRITE: what this book cannot test, and why; or remove it.
@CHAPTER.claim(
    "A claim that this book cannot test",
    where="abstract",
    untested="needs what the book does not have",
)
def elsewhere(n: Numbers) -> Iterator[Part]:
    yield from ()


@CHAPTER.printed
def printed_numbers() -> dict[str, Numbers]:
    """Return the paper's own numbers by page."""
    return {}  # TO WRITE: see "The paper's own numbers" in Write a chapter; or remove the function
