"""The claims of a chapter, registered one by one by its part of :mod:`mergebook.papers`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pkgutil import iter_modules

from mergebook.claims.judgement import NOT_TESTABLE, Claim, Formula, Judgement
from mergebook.claims.numbers import Numbers
from mergebook.errors import ReportError, unknown

OURS = "ours"  # where a claim is made that is not the paper's


class Chapter(dict):
    """A chapter's claims by key, in the order of its module.

    Parameters
    ----------
    name : str
        Of the chapter's folders, such as ``"tall_masks"``.
    paper : str
        Citation key.
    authors : str
        Authors and year, as tables name the source.
    """

    def __init__(self, name: str, paper: str, authors: str):
        super().__init__()
        self.name, self.paper, self.authors = name, paper, authors
        self._printed: Callable[..., Mapping[str, Numbers]] = dict

    def claim(
        self,
        statement: str,
        *,
        where: str,
        by: str = "",
        page: str = "",
        needs: str = "",
        untested: str = "",
        printed: str | None = None,
    ) -> Callable[[Formula], Claim]:
        """Register a function as a claim; parameters are the attributes of :class:`Claim`.

        Parameters
        ----------
        statement, where, needs, untested : str
        by : str, optional
            Authors and year of another paper that makes it; those of the chapter by default.
        page : str
            Notebook of the chapter that tests it.
        printed : str, optional
            Key of the printed numbers it is judged on; `page` by default, and none for a question
            of ours.

        Raises
        ------
        ReportError
            If the key is taken, or there is neither a page nor the reason why it is not tested.
        """
        if printed is None:
            printed = "" if where == OURS else page

        def register(formula: Formula) -> Claim:
            key = formula.__name__
            if key in self:
                raise ReportError(f"{self.name}: claim {key!r} is listed twice")
            if bool(page) == bool(untested):
                raise ReportError(f"{self.name}: claim {key!r} needs `page` or `untested`")
            source = where if where == OURS else f"{by or self.authors}, {where}"
            self[key] = Claim(
                key=key,
                statement=statement,
                where=where,
                source=source,
                formula=formula,
                notebook=page and f"{self.name}/{page}",
                needs=needs,
                untested=untested,
                printed=printed,
            )
            return self[key]

        return register

    def printed(self, numbers: Callable[..., Mapping[str, Numbers]]) -> Callable:
        """Register the function that returns the paper's own printed numbers, by page."""
        self._printed = numbers
        return numbers

    def homeless(self, notebooks: Iterable[str]) -> list[str]:
        """Say which claims name a page that is not among some notebooks."""
        known = set(notebooks)
        return [
            f"claim {claim.key!r} names the page {claim.notebook.rpartition('/')[2]!r}, "
            f"but there is no notebooks/{claim.notebook}.ipynb"
            for claim in self.values()
            if claim.notebook and claim.notebook not in known
        ]

    def of_page(self, notebook: str) -> list[Claim]:
        """Return the claims that a notebook tests."""
        return [claim for claim in self.values() if claim.notebook == notebook]

    def judge_printed(self, **choice: object) -> list[Judgement]:
        """Judge the claims on the paper's own numbers, as far as it prints what they need.

        Parameters
        ----------
        **choice
            Of the function that was registered with :meth:`printed`.
        """
        numbers = self._printed(**choice)
        judged = [c.judge(numbers[c.printed]) for c in self.values() if c.printed in numbers]
        return [judgement for judgement in judged if judgement.verdict != NOT_TESTABLE]


def list_chapters() -> tuple[str, ...]:
    """Names of the chapters that have claims, sorted."""
    from mergebook import papers

    return tuple(sorted(module.name for module in iter_modules(papers.__path__)))


def load_claims(chapter: str) -> Chapter:
    """Return the claims of a chapter, from what has its name in ``mergebook/papers``.

    Raises
    ------
    ReportError
        If there is no such chapter (lists all).
    """
    if chapter not in list_chapters():
        raise ReportError(unknown("chapter", chapter, list_chapters()))
    return import_module(f"mergebook.papers.{chapter}").CHAPTER
