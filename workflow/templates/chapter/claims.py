"""Claims of TITLE [PAPER], in the order of the chapter.

Numbers of a page answer with estimates: ``normalised(method, at)`` (accuracy over the experts').
"""

from __future__ import annotations

from collections.abc import Iterator

from mergebook.claims import Chapter, Numbers, Part, above

CHAPTER = Chapter("CHAPTER", paper="PAPER", authors="AUTHORS")


@CHAPTER.claim("The method is better than task arithmetic", where="main table", page="main_table")
def better(n: Numbers) -> Iterator[Part]:
    for at in n.settings:
        gain = n.normalised("ties", at) - n.normalised("task_arithmetic", at)
        yield above(0, gain, f"gain over task arithmetic, {at}", "points")


@CHAPTER.claim(
    "A claim that this book cannot test",
    where="abstract",
    untested="needs what the book does not have",
)
def elsewhere(n: Numbers) -> Iterator[Part]:
    yield from ()
