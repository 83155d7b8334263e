"""Claims as functions: each yields what was measured beside what the paper says it should be.

A claim's function takes :class:`Numbers`, which answer alike for this build, where they carry
bootstrap draws, and for what the paper prints, where they carry the error of reading it. So there
is one formula for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pkgutil import iter_modules
from types import SimpleNamespace

from mergebook.errors import ReportError, unknown
from mergebook.uncertainty import Estimate

HOLDS = "holds"
FAILS = "does not hold"
INCONCLUSIVE = "inconclusive"
NOT_TESTABLE = "not testable at this scale"
OURS = "ours"  # where a claim is made that is not the paper's

ENCODERS = {
    "ViT-B-32": "ViT-B/32",
    "ViT-B-16": "ViT-B/16",
    "ViT-L-14": "ViT-L/14",
}


def verdict(estimate: float, low: float, high: float) -> str:
    """Verdict on "the statistic is positive".

    Parameters
    ----------
    estimate : float
        The statistic itself.
    low, high : float
        Bounds of its interval.

    Returns
    -------
    str
        ``"holds"`` if the interval lies above zero, ``"does not hold"`` if it lies below,
        ``"inconclusive"`` if it contains zero.

    Raises
    ------
    ReportError
        If a number is not finite, or the bounds are in the wrong order.
    """
    if not all(map(math.isfinite, (estimate, low, high))):
        raise ReportError(f"no verdict on estimate {estimate}, interval [{low}, {high}]")
    if low > high:
        raise ReportError(f"interval [{low}, {high}] has its bounds in the wrong order")
    if low > 0:
        return HOLDS
    return FAILS if high < 0 else INCONCLUSIVE


@dataclass(frozen=True)
class Setting:
    """One setting that numbers are of: an encoder and a number of tasks.

    Attributes
    ----------
    num_tasks : int
    encoder : str
        Name of the backbone; in words only where a source has several.
    smaller : bool
        Whether the encoder is the smaller one of its kind.
    tasks : str
        What tasks are called in words.
    """

    num_tasks: int
    encoder: str = ""
    smaller: bool = True
    tasks: str = "tasks"

    def __str__(self) -> str:
        name = ENCODERS.get(self.encoder, self.encoder)
        return (
            f"{name}, {self.num_tasks} {self.tasks}" if name else f"{self.num_tasks} {self.tasks}"
        )


class Numbers(SimpleNamespace):
    """What claims are judged on: a source's settings, and a function for each kind of number.

    Parameters
    ----------
    settings : iterable of Setting
        In order of size, one encoder after the other.
    **functions : callable
        Such as ``normalised(method, setting) -> Estimate``; each chapter says which its claims
        ask for. A claim can only be judged on numbers that have its functions.
    """

    def __init__(self, settings: Iterable[Setting], **functions: object):
        super().__init__(settings=tuple(settings), **functions)

    def __getattr__(self, name: str) -> object:
        raise AttributeError(
            f"these numbers have no {name!r}, for which a claim asks; they have "
            f"{', '.join(vars(self))}. Give Numbers(...) another function: {name}=..."
        )

    @property
    def ends(self) -> list[tuple[Setting, Setting]]:
        """For each encoder with several sizes, the settings of the smallest and the largest."""
        encoders: dict[str, list[Setting]] = {}
        for setting in self.settings:
            encoders.setdefault(setting.encoder, []).append(setting)
        return [(found[0], found[-1]) for found in encoders.values() if len(found) > 1]


@dataclass(frozen=True)
class Part:
    """One comparison of a claim.

    Attributes
    ----------
    what : str
        What was measured, in plain words.
    value : Estimate
    claimed : float
        What the claim says it is above, or below.
    above : bool
    form : str
        How the value is shown, see :func:`mergebook.report.numbers.shown`.
    """

    what: str
    value: Estimate
    claimed: float
    above: bool
    form: str

    @property
    def margin(self) -> Estimate:
        """How far the value is on the claimed side; positive where the claim is met."""
        return self.value - self.claimed if self.above else self.claimed - self.value


def above(claimed: float, value: Estimate, what: str, form: str = "percent") -> Part:
    """Yield this where a claim says that `value` is larger than `claimed`."""
    return Part(what, value, claimed, True, form)


def below(claimed: float, value: Estimate, what: str, form: str = "percent") -> Part:
    """Yield this where a claim says that `value` is smaller than `claimed`."""
    return Part(what, value, claimed, False, form)


Formula = Callable[[Numbers], Iterator[Part]]


@dataclass(frozen=True)
class Claim:
    """A statement, where it is made, and the function that puts it in numbers.

    Attributes
    ----------
    key : str
        Name of the function.
    statement : str
        The claim in one sentence.
    where : str
        Where the paper makes it; :data:`OURS` for a question of this book.
    source : str
        Paper and place, as tables show it.
    formula : callable
        Yields a :class:`Part` for each comparison.
    notebook : str
        The notebook that tests it, e.g. ``"tall_masks/main_table"``; empty if none can.
    needs : str
        What a run must have so that the formula yields something.
    untested : str
        Why no notebook tests it.
    printed : str
        Which of the paper's printed numbers it can be judged on; empty if on none.
    """

    key: str
    statement: str
    where: str
    source: str
    formula: Formula
    notebook: str = ""
    needs: str = ""
    untested: str = ""
    printed: str = ""

    def judge(self, numbers: Numbers) -> Judgement:
        """Judge the claim by all its comparisons.

        It holds only if all of them hold, does not hold if any of them does not, and is
        inconclusive otherwise. With many comparisons "does not hold" is reached by chance more
        often than a single interval suggests; "holds" is not.

        Returns
        -------
        Judgement
            Of the weakest comparison: among those that decide the verdict, the one whose
            interval starts lowest.

        Raises
        ------
        ReportError
            If the formula yields nothing, and the claim does not say what it needs.
        """
        parts = [Judgement.of(self, part) for part in self.formula(numbers)]
        if not parts and self.needs:
            return Judgement(self, verdict=NOT_TESTABLE, what=f"needs {self.needs}")
        if not parts:
            raise ReportError(
                f"claim {self.key!r}: nothing to judge. Its function yields nothing for "
                f"{', '.join(map(str, numbers.settings)) or 'no setting'}; "
                "if it should not, let the claim say why: needs=..."
            )
        found = {part.verdict for part in parts}
        overall = next(word for word in (FAILS, INCONCLUSIVE, HOLDS) if word in found)
        weakest = min((p for p in parts if p.verdict == overall), key=lambda part: part.low)
        return replace(weakest, parts=tuple(parts))


@dataclass(frozen=True)
class Judgement:
    """A claim with its deciding comparison and the verdict; NaN where nothing was compared.

    Attributes
    ----------
    claim : Claim
    verdict : str
    what : str
        What the deciding comparison measured, or why there is none.
    measured, measured_low, measured_high, claimed : float
        Measured value with its interval, and what the claim says it is above or below.
    relation : {">", "<"}
    form : str
        How these are shown.
    estimate, low, high : float
        How far the measured value is on the claimed side, with its interval.
    parts : tuple of Judgement
        One for each comparison.
    """

    claim: Claim
    verdict: str
    what: str
    measured: float = math.nan
    measured_low: float = math.nan
    measured_high: float = math.nan
    relation: str = ">"
    claimed: float = math.nan
    form: str = "percent"
    estimate: float = math.nan
    low: float = math.nan
    high: float = math.nan
    parts: tuple[Judgement, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, claim: Claim, part: Part) -> Judgement:
        """Judge one comparison."""
        low, high = part.margin.interval
        return cls(
            claim,
            verdict(part.margin.value, low, high),
            part.what,
            part.value.value,
            *part.value.interval,
            ">" if part.above else "<",
            part.claimed,
            part.form,
            part.margin.value,
            low,
            high,
        )


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
        page: str = "",
        needs: str = "",
        untested: str = "",
        printed: str | None = None,
    ) -> Callable[[Formula], Claim]:
        """Register a function as a claim; parameters are the attributes of :class:`Claim`.

        Parameters
        ----------
        statement, where, needs, untested : str
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
            source = where if where == OURS else f"{self.authors}, {where}"
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

    names = {module.name for module in iter_modules(papers.__path__)}
    return tuple(sorted(names - {"claims"}))


def load_claims(chapter: str) -> Chapter:
    """Return the claims of a chapter, from ``mergebook/papers/<chapter>.py``.

    Raises
    ------
    ReportError
        If there is no such chapter (lists all).
    """
    if chapter not in list_chapters():
        raise ReportError(unknown("chapter", chapter, list_chapters()))
    return import_module(f"mergebook.papers.{chapter}").CHAPTER
