"""A chapter that was started from the template: its notebook runs and its verdicts are drawn."""

import json
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
    "lib/mergebook/papers/toy.py",
    "book/toy/index.md",
    "notebooks/toy/main_table.ipynb",
}
# Of the template, but for the claims' module's variable of that name.
WORDS = ("CHAPTER(?!\\.claim|\\.printed| =)", "TITLE", "PAPER", "AUTHORS", "PAGE", "HEADING")
PLACEHOLDER = re.compile(rf"\b(?:{'|'.join(WORDS)})\b")
EXECUTE = """
from pathlib import Path
from mergebook.execution import execute
from mergebook.notebooks import find_notebooks

notebook = find_notebooks()["toy/main_table"]
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


def check_chapter(name):
    return python(SCRIPTS / "check_chapter.py", name)


def draw_verdicts(name):
    return python(SCRIPTS / "draw_verdicts.py", name, "page.md", "wide.png", "narrow.png")


def edit(path, change):
    path.write_text(change(path.read_text()))


def written(project):
    """Files of a chapter that are in the project."""
    return {file for file in FILES if (project / file).is_file()}


def test_the_template_is_a_chapter_that_runs(project, smoke_project, monkeypatch):
    run = new_chapter("toy", "CART: around the average", "choi2024cart")
    assert run.returncode == 0, run.stderr
    assert written(project) == FILES
    for file in FILES:
        left = PLACEHOLDER.search((project / file).read_text())
        assert not left, (file, left)
    parts = yaml.safe_load((project / "_toc.yml").read_text())["parts"]
    assert parts[-2]["caption"] == "CART: around the average"
    assert parts[-2]["chapters"][0]["sections"] == [{"file": "executed/toy/main_table"}]
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(smoke_project / "checkpoints"))
    run = python("-c", EXECUTE)
    assert run.returncode == 0, run.stderr
    claims = pd.read_csv(project / "results/toy/main_table/claims.csv")
    assert claims["key"].tolist() == ["better"]
    assert claims["source"].tolist() == ["Choi et al. 2024, main table"]
    run = draw_verdicts("toy")
    assert run.returncode == 0, run.stderr
    page = (project / "page.md").read_text()
    assert "This build" in page, "no run is committed"
    assert claims["verdict"].item() in page
    assert "Choi et al. 2024, main table" in page
    assert "needs what the book does not have" in page
    assert (project / "wide.png").read_bytes().startswith(b"\x89PNG")


def test_a_chapter_is_not_overwritten(project):
    (project / "book/toy").mkdir()
    (project / "book/toy/index.md").write_text("mine")
    contents = (project / "_toc.yml").read_text()
    run = new_chapter("toy", "CART", "choi2024cart")
    assert run.returncode == 1
    assert "book/toy/index.md exists" in run.stderr
    assert written(project) == {"book/toy/index.md"}
    assert (project / "_toc.yml").read_text() == contents


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("Cart!", "CART", "choi2024cart"), "'Cart!' is no name of a chapter"),
        (("lambda", "CART", "choi2024cart"), "'lambda' is no name of a chapter"),
        (("methods", "CART", "choi2024cart"), "the build has a folder of that name"),
        (("toy", "CART", "nobody1900"), "references.bib: unknown entry 'nobody1900'"),
        (("toy", "CART", "choi2024carts"), "did you mean 'choi2024cart'?"),
        (("toy", "CART", "2406.99999"), "eprint        = {2406.99999}"),
        (("toy", "CART"), "a chapter takes NAME TITLE PAPER, a page NAME/PAGE TITLE"),
        (("toy/rank", "Rank"), "unknown chapter 'toy'"),
    ],
)
def test_bad_words_are_named(project, words, message):
    run = new_chapter(*words)
    assert run.returncode != 0
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert written(project) == set()


def test_outside_of_the_environment_the_message_says_how_to_enter_it(project):
    # Neither -I nor -S finds installed packages or PYTHONPATH.
    run = python("-I", "-S", SCRIPTS / "new_chapter.py", "toy", "CART", "choi2024cart")
    assert run.returncode == 1
    assert "source .venv/bin/activate" in run.stderr
    assert written(project) == set()


@pytest.fixture
def chapter(project):
    """A project with a chapter from the template; the paper is named by its arXiv number."""
    run = new_chapter("toy", "CART", "2412.12153")
    assert run.returncode == 0, run.stderr
    assert "check_chapter.py toy" in run.stdout, "it says what comes next"
    return project


def test_a_paper_may_be_named_by_its_arxiv_number(chapter):
    claims = (chapter / "lib/mergebook/papers/toy.py").read_text()
    assert 'paper="choi2024cart", authors="Choi et al. 2024"' in claims


def test_a_further_page_follows_in_the_contents(chapter):
    run = new_chapter("toy/rank", 'What is a "rank"?')
    assert run.returncode == 0, run.stderr
    path = chapter / "notebooks/toy/rank.ipynb"
    text = path.read_text()
    assert not PLACEHOLDER.search(text)
    assert json.loads(text)["cells"][0]["source"][0] == '# What is a "rank"?\n'
    assert 'report.Page(\\"toy/rank\\"' in text
    part = yaml.safe_load((chapter / "_toc.yml").read_text())["parts"][-2]["chapters"][0]
    assert [each["file"] for each in part["sections"]] == [
        "executed/toy/main_table",
        "executed/toy/rank",
    ]
    path.write_text("mine")
    assert "rank.ipynb exists" in new_chapter("toy/rank", "Rank").stderr
    assert path.read_text() == "mine"


def test_the_check_lists_what_is_left_until_nothing_is(chapter):
    run = check_chapter("toy")
    assert run.returncode == 1
    for place in ("papers/toy.py:16", "book/toy/index.md:3", "main_table.ipynb, cell 1"):
        assert f"{place}: write: " in run.stdout
    for file in FILES:
        edit(chapter / file, lambda text: text.replace("TO WRITE", "Written"))
    run = check_chapter("toy")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "make smoke" in run.stdout
    assert "keep_run.py full toy/main_table" in run.stdout


def test_pages_claims_and_contents_must_know_each_other(chapter):
    claims = chapter / "lib/mergebook/papers/toy.py"
    edit(claims, lambda text: text.replace('page="main_table"', 'page="tabel"'))
    edit(chapter / "_toc.yml", lambda text: re.sub(".*executed/toy/main_table\n", "", text))
    homeless = "claim 'better' names the page 'tabel', but there is no notebooks/toy/tabel.ipynb"
    found = check_chapter("toy").stdout
    assert homeless in found
    assert 'main_table.ipynb: shows verdicts, but no claim has page="main_table"' in found
    assert "_toc.yml: no line `- file: executed/toy/main_table`" in found
    run = draw_verdicts("toy")
    assert run.returncode == 1
    assert homeless in run.stderr
    assert not (chapter / "page.md").exists()


def test_the_chapters_of_the_book_are_written(monkeypatch):
    monkeypatch.chdir(ROOT)
    for index in ROOT.glob("book/*/index.md"):
        run = check_chapter(index.parent.name)
        assert run.returncode == 0, run.stdout + run.stderr
