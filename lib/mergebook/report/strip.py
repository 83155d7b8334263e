"""The figure of a chapter's verdicts: a strip per claim, with a line at the claimed value."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mergebook.claims import FAILS, HOLDS, INCONCLUSIVE, Chapter
from mergebook.report.numbers import MINUS
from mergebook.report.style import BLACK, BLUE, GREEN, GREY, VERMILION, book_style
from mergebook.report.verdicts import PRINTED, limit, sources, value

REACH = 10.0  # points to either side of the claimed value that the figure shows
WIDE, NARROW = (9.5, 0.62), (4.1, 0.85)  # inches: width, and height of a claim
BELOW_CLAIM = (0.02, 0.38)  # of a claim's height: where its numbers lie if it stands above them
ON_THE_AXIS = ("percent", "points")  # forms of numbers that percentage points can measure
# Where the words stand that other numbers are given in: on the side of their verdict.
SIDES = {HOLDS: (0.3, "left"), FAILS: (-0.3, "right"), INCONCLUSIVE: (0, "center")}
GLYPHS = {"D": "◆", "o": "●", "s": "■", "^": "▲"}


@book_style()
def strip_figure(chapter: Chapter, *, narrow: bool = False) -> Figure:
    """Draw a strip per claim: how far the deciding number is on the claimed side, by source.

    Parameters
    ----------
    chapter : Chapter
    narrow : bool, default False
        For a phone: claims stand above their strips, not beside them.

    Returns
    -------
    Figure
        One axis in percentage points with a line at the claimed value; to its right the claim is
        met. Dots with intervals: the paper's own numbers, and each committed run. What lies
        outside of the axis is drawn at its end as a triangle. Numbers that are no percentages
        are written on the side of their verdict.
    """
    runs = sources(sorted({claim.notebook for claim in chapter.values() if claim.notebook}))
    printed = {judgement.claim.key: judgement for judgement in chapter.judge_printed()}
    looks = {
        PRINTED: (BLACK, "D"),
        **dict(zip(runs, ((BLUE, "o"), (VERMILION, "s"), (GREEN, "^")), strict=False)),
    }
    width, height = NARROW if narrow else WIDE
    size = (width, height * len(chapter) + 1.4)
    fig, ax = plt.subplots(figsize=size, layout="constrained")
    low, high = BELOW_CLAIM if narrow else (-0.22, 0.22)  # where a claim's sources lie
    for y, (key, claim) in enumerate(chapter.items()):
        rows = {PRINTED: printed.get(key)}
        for title, frame in runs.items():
            part = frame[(frame["key"] == key) & frame["estimate"].notna()]
            rows[title] = part.iloc[0] if len(part) else None
        places = y + np.linspace(low, high, len(rows))
        for at, (title, row) in zip(places, rows.items(), strict=True):
            if row is not None:
                _draw(ax, at, row, *looks[title])
        if narrow:
            ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
            words = _wrapped(claim.statement, 56)
            ax.text(-REACH, y - 0.44, words, va="top", fontsize=8.5, bbox=ground)
        if y:
            ax.axhline(y - 0.5, color="#E4E4E4", lw=0.8)
    _axes(ax, [] if narrow else [_wrapped(claim.statement) for claim in chapter.values()])
    ax.set_ylim(len(chapter) - 0.5, -0.5)
    handles = [
        Line2D([], [], ls="", marker=marker, c=colour, ms=7, label=title)
        for title, (colour, marker) in looks.items()
    ]
    spacing = {"columnspacing": 0.8, "handletextpad": 0.1, "fontsize": 8} if narrow else {}
    fig.legend(handles=handles, loc="outside upper center", ncols=len(handles), **spacing)
    return fig


def _draw(ax: Axes, at: float, row: Any, colour: str, marker: str) -> None:
    """Draw what one source says of a claim, at a height."""
    if row.form not in ON_THE_AXIS:
        x, side = SIDES[row.verdict]
        words = f"{GLYPHS[marker]} {value(row)} (claimed {limit(row)})"
        ax.text(x, at, words, color=colour, ha=side, va="center", fontsize=8)
        return
    points = [min(max(100 * x, -REACH), REACH) for x in (row.low, row.estimate, row.high)]
    outside = abs(100 * row.estimate) > REACH
    ax.plot([points[0], points[2]], [at, at], c=colour, lw=2, alpha=0.6)
    shape = (">" if row.estimate > 0 else "<") if outside else marker
    ax.plot(points[1], at, shape, c=colour, ms=7)


def _axes(ax: Axes, claims: list[str]) -> None:
    """Label the axes; the line is where a claim is just met."""
    ax.axvline(0, color=GREY, lw=1.6, zorder=0)
    ax.set_xlim(-1.06 * REACH, 1.06 * REACH)
    ax.set_yticks(range(len(claims)), claims)
    ax.grid(axis="y", visible=False)
    ticks = [-10, -5, 0, 5, 10]
    labels = [str(t).replace("-", MINUS) if t else "claimed\nvalue" for t in ticks]
    ax.set_xticks(ticks, labels)
    ax.set_xlabel("Percentage points on the claimed side\n(right: claim met)")


def _wrapped(text: str, width: int = 52) -> str:
    return textwrap.fill(text, width, break_on_hyphens=False)
