"""Write the table of a chapter's verdicts and draw them: draw_verdicts.py CHAPTER PAGE FIGURE."""

import sys
from pathlib import Path

from mergebook.errors import MergebookError
from mergebook.notebooks import find_notebooks
from mergebook.papers.claims import load_claims
from mergebook.report import chapter_verdicts
from mergebook.report.embed import DOTS


def draw(chapter: str, page: Path, figure: Path) -> None:
    # The table links each claim to its page, in HTML that no other check of links reads.
    homeless = load_claims(chapter).homeless(find_notebooks())
    if homeless:
        raise MergebookError(f"mergebook/papers/{chapter}.py: {'; '.join(homeless)}")
    table, drawn = chapter_verdicts(chapter)
    block = f'```{{raw}} html\n<div class="full-width">\n{table}\n</div>\n```\n'
    page.write_text(block, encoding="utf-8")
    drawn.savefig(figure, dpi=DOTS, facecolor="white", metadata={"Software": None})


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: draw_verdicts.py CHAPTER PAGE FIGURE")
    try:
        draw(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except MergebookError as error:
        sys.exit(f"mergebook: {error}")
