"""Write the table of a chapter's verdicts and draw them: draw_verdicts.py CHAPTER PAGE FIGURE."""

import sys
from pathlib import Path

from mergebook.report import chapter_verdicts
from mergebook.report.embed import DOTS

chapter, page, figure = sys.argv[1:]
table, drawn = chapter_verdicts(chapter)
block = f'```{{raw}} html\n<div class="full-width">\n{table}\n</div>\n```\n'
Path(page).write_text(block, encoding="utf-8")
drawn.savefig(figure, dpi=DOTS, facecolor="white", metadata={"Software": None})
