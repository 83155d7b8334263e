"""Write the verdicts on the claims of a chapter: list_verdicts.py CHAPTER FILE."""

import sys
from pathlib import Path

from mergebook.report import verdicts_page

chapter, page = sys.argv[1:]
Path(page).write_text(verdicts_page(chapter), encoding="utf-8")
