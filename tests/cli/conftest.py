"""What the tests of the command line share: small input files, and a project with a notebook."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from commands import save, states
from mergebook.notebooks import Notebook, get_notebook

PARAMETERS = """\
num_tasks = [8, 14]  # suite sizes
scale_grid = [0.1, 0.5]
seed = 0
scale: float = 0.3
label = "a"
plot = True
"""
BODY = """\
from mergebook.paths import results_dir
folder = results_dir() / "chapter" / "small"
folder.mkdir(parents=True, exist_ok=True)
(folder / "table.csv").write_text(f"{num_tasks};{scale_grid};{seed};{scale};{label};{plot}")
assert seed != 13, "an unlucky seed"
print(num_tasks)
"""


@pytest.fixture
def notebook(tmp_path, monkeypatch) -> Notebook:
    """A small notebook in a project of its own, which is the working directory."""
    (tmp_path / "_config.yml").write_text("title: A small book\n")
    cells = [
        new_markdown_cell("# A small notebook\n\nText."),
        new_code_cell(PARAMETERS, metadata={"tags": ["parameters", "hide-input"]}),
        new_code_cell(BODY),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = tmp_path / "notebooks" / "chapter" / "small.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERGEBOOK_RESULTS", raising=False)
    return get_notebook("chapter/small")


@pytest.fixture
def inputs(tmp_path):
    return save(tmp_path, *states())


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "merged.safetensors"
