"""Claims of a paper and their computed verdicts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import yaml
from IPython.display import HTML

from mergebook.errors import ReportError, unknown
from mergebook.paths import data_dir
from mergebook.report.style import title_of
from mergebook.report.tables import EMPTY, folded, html_table
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
        Value of the statistic on the images as they are.
    low, high : float
        Bounds of its 95 % interval.

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
class Judgement:
    """A claim with its estimate, 95 % interval (NaN where there is none) and verdict.

    Where a claim was judged by several comparisons, `note` says which one the numbers are of, and
    `parts` has a judgement for each.
    """

    claim: Claim
    estimate: float
    low: float
    high: float
    verdict: str
    note: str = ""
    parts: tuple[Judgement, ...] = ()


@dataclass(frozen=True)
class Claim:
    """A statement of a paper, put as "this statistic is positive".

    Parameters
    ----------
    key : str
        Short name, unique on its page.
    statement : str
        The claim in one sentence.
    source : str
        Where the paper makes it.
    unit : str
        Unit of the statistic as shown; ``"points"`` shows a fraction in percentage points.
    notebook : str
        The notebook that tests it, e.g. ``"tall_masks/main_table"``; empty if none does.
    untested : str
        Why no notebook tests it.
    """

    key: str
    statement: str
    source: str
    unit: str = "points"
    notebook: str = ""
    untested: str = ""

    def judge(self, parts: Mapping[str, Estimate], missing: str = "") -> Judgement:
        """Judge the claim by one comparison or several.

        It holds only if all of them hold, does not hold if any of them does not, and is
        inconclusive otherwise. With many comparisons "does not hold" is reached by chance more
        often than a single interval suggests; "holds" is not.

        Parameters
        ----------
        parts : mapping of str to Estimate
            What is compared, in a few words, and the statistic that the claim says is positive.
        missing : str
            Why there may be no parts; the claim is then not testable.

        Returns
        -------
        Judgement
            With the numbers of the weakest comparison: among those that decide the verdict, the
            one whose interval starts lowest.

        Raises
        ------
        ReportError
            If there are no parts, and no reason for it.
        """
        if not parts and missing:
            return self.not_testable(missing)
        if not parts:
            raise ReportError(f"claim {self.key!r}: nothing to judge")
        judged = []
        for note, part in parts.items():
            low, high = part.interval
            word = verdict(part.value, low, high)
            judged.append(Judgement(self, part.value, low, high, word, note))
        found = {part.verdict for part in judged}
        overall = next(word for word in (FAILS, INCONCLUSIVE, HOLDS) if word in found)
        weakest = min((j for j in judged if j.verdict == overall), key=lambda part: part.low)
        return replace(weakest, parts=tuple(judged))

    def not_testable(self, reason: str) -> Judgement:
        """Record that the claim cannot be tested at this scale, and why."""
        return Judgement(self, math.nan, math.nan, math.nan, NOT_TESTABLE, reason)


def _described(chapter: str) -> tuple[Path, dict]:
    folder = data_dir() / "claims"
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if chapter not in files:
        raise ReportError(f"{folder}: {unknown('chapter', chapter, files)}")
    return files[chapter], yaml.safe_load(files[chapter].read_text(encoding="utf-8"))


def load_claims(chapter: str) -> dict[str, Claim]:
    """Read the claims that a chapter tests, from ``data/claims/<chapter>.yaml``.

    Parameters
    ----------
    chapter : str
        Such as ``"tall_masks"``.

    Returns
    -------
    dict of str to Claim
        By key, in the order of the chapter.

    Raises
    ------
    ReportError
        If there is no such chapter (lists all), or a claim has neither a notebook nor the reason
        why it is not tested.
    """
    path, described = _described(chapter)
    claims = {}
    for key, facts in described["claims"].items():
        facts = dict(facts)
        source = f"{described['name']}, {facts.pop('where')}"
        claims[key] = claim = Claim(key, source=source, **facts)
        if bool(claim.notebook) == bool(claim.untested):
            raise ReportError(f"{path}: claim {key!r} needs `notebook` or `untested`")
    return claims


def reported_notebook(chapter: str) -> str | None:
    """Name of the notebook that judges a chapter's claims on the paper's own numbers, if any.

    Raises
    ------
    ReportError
        If there is no such chapter (lists all).
    """
    return _described(chapter)[1].get("reported")


def verdicts(judgements: Iterable[Judgement], **where: object) -> pd.DataFrame:
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
        One row per claim: ``key``, ``statement``, ``source``, ``estimate``, ``low``, ``high``
        (as computed, not in points), ``unit``, ``verdict``, ``compared``, and those of `where`.
    """
    rows = [
        {
            "key": j.claim.key,
            "statement": j.claim.statement,
            "source": j.claim.source,
            "estimate": j.estimate,
            "low": j.low,
            "high": j.high,
            "unit": j.claim.unit,
            "verdict": j.verdict,
            "compared": j.note,
            **where,
        }
        for j in judgements
    ]
    return pd.DataFrame(rows)


def shown(value: float, unit: str) -> str:
    """A statistic as text, with its sign; what rounds to zero has none."""
    if math.isnan(value):
        return EMPTY
    text = f"{100 * value:+.1f}" if unit == "points" else f"{value:+.3g}"
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def readable(note: str) -> str:
    """What is compared, with methods' titles in place of their names, and minus signs."""
    words = re.sub(r"[a-z][a-z0-9_]*", lambda name: title_of(name[0]), note)
    return words.replace(" - ", " − ")


def _numbers(judgement: Judgement) -> dict[str, str]:
    """Estimate, interval and verdict as texts."""
    unit = judgement.claim.unit
    known = not math.isnan(judgement.estimate)
    interval = f"{shown(judgement.low, unit)} to {shown(judgement.high, unit)}"
    return {
        "Estimate": f"{shown(judgement.estimate, unit)} {unit}" if known else EMPTY,
        "95 % interval": interval if known else EMPTY,
        "Verdict": judgement.verdict,
    }


def claims_table(judgements: Iterable[Judgement], caption: str = "Claims and verdicts") -> HTML:
    """Table of claims: statement, source, estimate, 95 % interval, verdict.

    Below it, to be unfolded, every comparison of the claims that were judged by several.

    Parameters
    ----------
    judgements : iterable of Judgement
        One per claim, in the order of the page.
    caption : str
        Caption of the table.

    Returns
    -------
    IPython.display.HTML
        Shown by a notebook when it is a cell's last value.

    Raises
    ------
    ReportError
        If two judgements share a key.
    """
    judgements = list(judgements)
    keys = [judgement.claim.key for judgement in judgements]
    doubled = sorted({key for key in keys if keys.count(key) > 1})
    if doubled:
        raise ReportError(f"claims listed twice: {', '.join(doubled)}")
    rows = [
        {
            "Claim": j.claim.statement,
            "Source": j.claim.source,
            **_numbers(j),
            "Compared": readable(j.note),
        }
        for j in judgements
    ]
    table = html_table(pd.DataFrame(rows).set_index("Claim"), caption=caption, words=True)
    several = [judgement for judgement in judgements if len(judgement.parts) > 1]
    if not several:
        return table
    every = [
        html_table(
            pd.DataFrame(
                [{"Compared": readable(part.note), **_numbers(part)} for part in j.parts]
            ).set_index("Compared"),
            caption=j.claim.statement,
            words=True,
        )
        for j in several
    ]
    number = sum(len(judgement.parts) for judgement in several)
    return HTML(table.data + folded(f"All {number} comparisons behind these verdicts", every).data)
