"""Write and draw a chapter's verdicts, also for phones: draw_verdicts.py NAME PAGE WIDE NARROW."""

import sys
from pathlib import Path

from mergebook.report import chapter_verdicts
from mergebook.report.embed import DOTS

chapter, page, *paths = sys.argv[1:]
table, *figures = chapter_verdicts(chapter)
block = f'```{{raw}} html\n<div class="full-width">\n{table}\n</div>\n```\n'
Path(page).write_text(block, encoding="utf-8")
for path, figure in zip(paths, figures, strict=True):
    figure.savefig(path, dpi=DOTS, facecolor="white", metadata={"Software": None})
