"""The figure of a chapter's verdicts: a strip per claim, with a line at the claimed value."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mergebook.claims import Chapter
from mergebook.report.numbers import MINUS
from mergebook.report.style import BLACK, BLUE, GREY, VERMILION, book_style
from mergebook.report.verdicts import PRINTED, sources

REACH = 10.0  # points to either side of the claimed value that the figure shows


@book_style()
def strip_figure(chapter: Chapter) -> Figure:
    """Draw a strip per claim: how far the deciding number is on the claimed side, by source.

    Parameters
    ----------
    chapter : Chapter

    Returns
    -------
    Figure
        One axis in percentage points with a line at the claimed value; to its right the claim is
        met. Dots with intervals: the paper's own numbers, and each committed run. What lies
        outside of the axis is drawn at its end as a triangle.
    """
    runs = sources(sorted({claim.notebook for claim in chapter.values() if claim.notebook}))
    printed = {judgement.claim.key: judgement for judgement in chapter.judge_printed()}
    names = list(chapter)
    fig, ax = plt.subplots(figsize=(9.5, 0.62 * len(names) + 1.4), layout="constrained")
    looks = {
        PRINTED: (BLACK, "D"),
        **dict(zip(runs, ((BLUE, "o"), (VERMILION, "s")), strict=False)),
    }
    for y, key in enumerate(names):
        rows = {PRINTED: printed.get(key)}
        for title, frame in runs.items():
            part = frame[(frame["key"] == key) & frame["estimate"].notna()]
            rows[title] = part.iloc[0] if len(part) else None
        for step, (title, row) in enumerate(rows.items()):
            if row is None:
                continue
            colour, marker = looks[title]
            at = y + 0.22 * (step - (len(rows) - 1) / 2)
            points = [min(max(100 * x, -REACH), REACH) for x in (row.low, row.estimate, row.high)]
            outside = abs(100 * row.estimate) > REACH
            ax.plot([points[0], points[2]], [at, at], c=colour, lw=2, alpha=0.6)
            shape = (">" if row.estimate > 0 else "<") if outside else marker
            ax.plot(points[1], at, shape, c=colour, ms=7, label=title if y == 0 else None)
    ax.axvline(0, color=GREY, lw=1.6)
    ax.axhspan(-1, -0.5, color="white")
    ax.set(xlim=(-1.06 * REACH, 1.06 * REACH), ylim=(len(names) - 0.5, -0.5))
    ax.set_yticks(range(len(names)), [_wrapped(chapter[key].statement) for key in names])
    for y in range(1, len(names)):
        ax.axhline(y - 0.5, color="#E4E4E4", lw=0.8)
    ax.grid(axis="y", visible=False)
    ticks = [-10, -5, 0, 5, 10]
    labels = [str(t).replace("-", MINUS) if t else "claimed\nvalue" for t in ticks]
    ax.set_xticks(ticks, labels)
    ax.set_xlabel("Percentage points on the claimed side (right: claim met)")
    handles, titles = ax.get_legend_handles_labels()
    fig.legend(handles, titles, loc="outside upper center", ncols=len(titles))
    return fig


def _wrapped(text: str, width: int = 52) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
