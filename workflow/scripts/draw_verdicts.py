"""Write and draw a chapter's verdicts, also for phones: draw_verdicts.py NAME PAGE WIDE NARROW."""

import sys
from pathlib import Path

from mergebook.claims import load_claims
from mergebook.errors import MergebookError
from mergebook.notebooks import find_notebooks
from mergebook.report import chapter_verdicts
from mergebook.report.embed import DOTS


def draw(chapter: str, page: str, *paths: str) -> None:
    # The table links each claim to its page, in HTML that no other check of links reads.
    homeless = load_claims(chapter).homeless(find_notebooks())
    if homeless:
        raise MergebookError(f"mergebook.papers.{chapter}: {'; '.join(homeless)}")
    table, *figures = chapter_verdicts(chapter)
    block = f'```{{raw}} html\n<div class="full-width">\n{table}\n</div>\n```\n'
    Path(page).write_text(block, encoding="utf-8")
    for path, figure in zip(paths, figures, strict=True):
        figure.savefig(path, dpi=DOTS, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: draw_verdicts.py CHAPTER PAGE WIDE NARROW")
    try:
        draw(*sys.argv[1:])
    except MergebookError as error:
        sys.exit(f"mergebook: {error}")
