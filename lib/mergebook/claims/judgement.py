"""A claim as a function that yields comparisons, and the verdict on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from mergebook.claims.numbers import Numbers
from mergebook.errors import ReportError
from mergebook.uncertainty import Estimate

HOLDS = "holds"
FAILS = "does not hold"
INCONCLUSIVE = "inconclusive"
NOT_TESTABLE = "not testable at this scale"


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
        Where the paper makes it; :data:`mergebook.claims.OURS` for a question of this book.
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
