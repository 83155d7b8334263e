"""A chapter that was started from the template: its notebook runs and its verdicts are listed."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mergebook.execution import execute
from mergebook.notebooks import find_notebooks
from mergebook.report import load_results, verdicts_page

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "workflow/scripts/new_chapter.py"
FILES = {"data/claims/cart.yaml", "book/cart/index.md", "notebooks/cart/main_table.ipynb"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the book's data and nothing else."""
    (tmp_path / "_config.yml").touch()
    for folder in ("reported", "measured", "suites"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / folder).symlink_to(ROOT / "data" / folder)
    (tmp_path / "book").mkdir()
    (tmp_path / "book/references.bib").symlink_to(ROOT / "book/references.bib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MERGEBOOK_RESULTS", raising=False)
    return tmp_path


def new_chapter(*words):
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True)


def written(project):
    """Files in the project that were not linked into it."""
    return {
        str(path.relative_to(project))
        for path in project.rglob("*")
        if path.is_file() and not any(part.is_symlink() for part in (path, *path.parents))
    } - {"_config.yml"}


def test_the_template_is_a_chapter_that_runs(project, smoke_project, monkeypatch):
    run = new_chapter("cart", "CART", "choi2024cart")
    assert run.returncode == 0, run.stderr
    assert written(project) == FILES
    assert "executed/cart/main_table" in run.stdout
    for file in FILES:
        left = re.search("CHAPTER|TITLE|PAPER|AUTHORS", (project / file).read_text())
        assert not left, file
    notebook = find_notebooks()["cart/main_table"]
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(smoke_project / "checkpoints"))
    values = {"steps": 40, "test_size": 40, "validation_size": 20, "scale_grid": [0.3]}
    execute(notebook, notebook.resolve(values), project / "run.ipynb", project / "results")
    assert load_results("cart/main_table", "claims")["key"].tolist() == ["better"]
    page = verdicts_page("cart")
    assert "Choi et al. 2024, main table" in page
    assert "not testable at this scale: needs what the book does not have" in page


def test_a_chapter_is_not_overwritten(project):
    (project / "book/cart").mkdir()
    (project / "book/cart/index.md").write_text("mine")
    run = new_chapter("cart", "CART", "choi2024cart")
    assert run.returncode == 1
    assert "book/cart/index.md exists" in run.stderr
    assert written(project) == {"book/cart/index.md"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Cart!", "CART", "choi2024cart"), "'Cart!' is no name of a chapter"),
        (("cart", "CART", "nobody1900"), "references.bib has no entry 'nobody1900'"),
    ],
)
def test_bad_words_are_named(project, words, message):
    run = new_chapter(*words)
    assert run.returncode == 1
    assert message in run.stderr
    assert written(project) == set()
