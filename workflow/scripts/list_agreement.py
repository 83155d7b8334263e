"""Write which claims hold on images, on texts, on both, on neither: list_agreement.py PAGE."""

import sys
from pathlib import Path

from mergebook.errors import MergebookError
from mergebook.report import agreement_tables


def write(page: str) -> None:
    tables = "\n".join(table.data for table in agreement_tables())
    block = f'```{{raw}} html\n<div class="full-width">\n{tables}\n</div>\n```\n'
    Path(page).write_text(block, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: list_agreement.py PAGE")
    try:
        write(sys.argv[1])
    except MergebookError as error:
        sys.exit(f"mergebook: {error}")
