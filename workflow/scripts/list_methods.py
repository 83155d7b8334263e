"""Write the methods' list, choice and pages: list_methods.py LIST CHOICE FOLDER."""

import sys
from pathlib import Path

from mergebook.report.choice import choice_page
from mergebook.report.methods import methods_list, write_pages

names, choice, folder = map(Path, sys.argv[1:])
names.write_text(methods_list(), encoding="utf-8")
choice.write_text(choice_page(), encoding="utf-8")
write_pages(folder)
