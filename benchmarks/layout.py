"""How the code of a notebook is laid out: what a reader sees of it, and how wide and long it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import nbformat

# Tags by which the book folds a cell's code away, or leaves it out.
HIDING = {"hide-input", "hide-cell", "remove-input", "remove-cell"}
MAX_WIDTH = 100


def code_cells(path: Path) -> list[Mapping[str, Any]]:
    """The code cells of a notebook."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_hidden(cell: Mapping[str, Any]) -> bool:
    """Whether a reader of the book does not see the cell's code at once."""
    return not HIDING.isdisjoint(cell["metadata"].get("tags", ()))


def hidden_share(cells: Iterable[Mapping[str, Any]]) -> float:
    """Share of the code's characters that the book hides; 0 for no code."""
    cells = list(cells)
    hidden = sum(len(cell["source"]) for cell in cells if is_hidden(cell))
    return hidden / max(1, sum(len(cell["source"]) for cell in cells))


def lines(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """All lines of code."""
    return [line for cell in cells for line in cell["source"].splitlines()]


def long_lines(cells: Iterable[Mapping[str, Any]]) -> list[str]:
    """Lines of code that do not fit into the page."""
    return [line for line in lines(cells) if len(line) > MAX_WIDTH]


def glue_calls(cells: Iterable[Mapping[str, Any]]) -> int:
    """Calls that hand a number to prose under a key."""
    return sum(len(re.findall(r"\bglue\(", cell["source"])) for cell in cells)
