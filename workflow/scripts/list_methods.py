"""Write the table of methods and a page for each: list_methods.py TABLE FOLDER."""

import sys
from pathlib import Path

from mergebook.report.methods import methods_table, write_pages

table, folder = map(Path, sys.argv[1:])
table.write_text(methods_table(), encoding="utf-8")
write_pages(folder)
