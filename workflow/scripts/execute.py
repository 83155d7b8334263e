"""Execute one notebook for the book (called by Snakemake, which provides `snakemake`)."""

import sys
from pathlib import Path

from mergebook.errors import MergebookError
from mergebook.execution import execute
from mergebook.notebooks import get_notebook

notebook = get_notebook(snakemake.params.name)
executed = Path(snakemake.output.executed)
results = Path(str(snakemake.output.results).removesuffix(notebook.name))
try:
    execute(notebook, snakemake.params.values, executed, results)
except MergebookError as error:
    sys.exit(f"mergebook: {error}")
