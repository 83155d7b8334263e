"""A chapter that was started from the template: its notebook runs and its verdicts are drawn."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow/scripts"
FILES = {
    "lib/mergebook/papers/cart.py",
    "book/cart/index.md",
    "notebooks/cart/main_table.ipynb",
}
EXECUTE = """
from pathlib import Path
from mergebook.execution import execute
from mergebook.notebooks import find_notebooks

notebook = find_notebooks()["cart/main_table"]
values = {"steps": 40, "test_size": 40, "validation_size": 20, "scale_grid": [0.3]}
execute(notebook, notebook.resolve(values), Path("run.ipynb"), Path("results"))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project with the library, the book's data and contents, and nothing else."""
    (tmp_path / "_config.yml").touch()
    shutil.copy(ROOT / "_toc.yml", tmp_path)
    (tmp_path / "data").mkdir()
    for folder in ("reported", "measured", "suites"):
        (tmp_path / "data" / folder).symlink_to(ROOT / "data" / folder)
    ignored = shutil.ignore_patterns("__pycache__", "assets")
    shutil.copytree(ROOT / "lib/mergebook", tmp_path / "lib/mergebook", ignore=ignored)
    (tmp_path / "lib/mergebook/assets").symlink_to(ROOT / "lib/mergebook/assets")
    (tmp_path / "book").mkdir()
    (tmp_path / "book/references.bib").symlink_to(ROOT / "book/references.bib")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    monkeypatch.delenv("MERGEBOOK_RESULTS", raising=False)
    return tmp_path


def python(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=os.environ)


def new_chapter(*words):
    return python(SCRIPTS / "new_chapter.py", *words)


def written(project):
    """Files of a chapter that are in the project."""
    return {file for file in FILES if (project / file).is_file()}


def test_the_template_is_a_chapter_that_runs(project, smoke_project, monkeypatch):
    run = new_chapter("cart", "CART: around the average", "choi2024cart")
    assert run.returncode == 0, run.stderr
    assert written(project) == FILES
    for file in FILES:
        left = re.search("CHAPTER(?!\\.claim| =)|TITLE|PAPER|AUTHORS", (project / file).read_text())
        assert not left, (file, left)
    parts = yaml.safe_load((project / "_toc.yml").read_text())["parts"]
    assert parts[-2]["caption"] == "CART: around the average"
    assert parts[-2]["chapters"][0]["sections"] == [{"file": "executed/cart/main_table"}]
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(smoke_project / "checkpoints"))
    run = python("-c", EXECUTE)
    assert run.returncode == 0, run.stderr
    claims = pd.read_csv(project / "results/cart/main_table/claims.csv")
    assert claims["key"].tolist() == ["better"]
    assert claims["source"].tolist() == ["Choi et al. 2024, main table"]
    run = python(SCRIPTS / "draw_verdicts.py", "cart", "page.md", "strip.png")
    assert run.returncode == 0, run.stderr
    page = (project / "page.md").read_text()
    assert "Choi et al. 2024, main table" in page
    assert "needs what the book does not have" in page
    assert (project / "strip.png").read_bytes().startswith(b"\x89PNG")


def test_a_chapter_is_not_overwritten(project):
    (project / "book/cart").mkdir()
    (project / "book/cart/index.md").write_text("mine")
    contents = (project / "_toc.yml").read_text()
    run = new_chapter("cart", "CART", "choi2024cart")
    assert run.returncode == 1
    assert "book/cart/index.md exists" in run.stderr
    assert written(project) == {"book/cart/index.md"}
    assert (project / "_toc.yml").read_text() == contents


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
