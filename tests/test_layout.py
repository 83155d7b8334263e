"""The code of notebooks is laid out for readers: visible, of the page's width, formatted."""

import subprocess
import sys
from pathlib import Path

import pytest

from layout import MAX_WIDTH, code_cells, glue_calls, hidden_share, long_lines

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = {
    path.relative_to(ROOT).with_suffix("").as_posix(): path
    for folder in ("notebooks", "workflow/templates")
    for path in sorted((ROOT / folder).rglob("*.ipynb"))
}
MAX_LINES = 25
HIDDEN, HIDDEN_IN_ONE = 0.30, 0.45  # most of the code's characters, in all notebooks and in one


def unlike_the_formatter(path):
    """What `ruff format` would change in a notebook, as a diff."""
    options = ["--diff", "--isolated", f"--line-length={MAX_WIDTH}", "--target-version=py311"]
    command = [sys.executable, "-m", "ruff", "format", *options, path]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stderr
    return run.stdout


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_layout(name):
    cells = code_cells(NOTEBOOKS[name])
    lengths = [len(cell["source"].splitlines()) for cell in cells]
    assert max(lengths) <= MAX_LINES, "lines in a cell"
    assert long_lines(cells) == []
    assert hidden_share(cells) <= HIDDEN_IN_ONE
    assert glue_calls(cells) == 0, "numbers in prose are queries"
    assert unlike_the_formatter(NOTEBOOKS[name]) == ""


def test_most_code_is_visible():
    cells = [cell for path in NOTEBOOKS.values() for cell in code_cells(path)]
    assert hidden_share(cells) <= HIDDEN
