"""The pipeline re-runs what depends on a change, and nothing else.

Each test works on a copy of the project with small notebooks in which everything is built; it
changes one file and asks Snakemake what it would run.
"""

import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.util.matching import Matcher

from mergebook.report.reported import COLUMNS

COPIED = ("workflow", "config", "lib")
# In place of fine-tuning, which has its own tests.
TRAINING = """
from mergebook.paths import checkpoints_dir


def default_recipe(steps, backbone):
    return steps


def finetune_experts(suite, backbone, seed, jobs, recipe):
    folder = checkpoints_dir() / suite.name / backbone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(f"{seed} {recipe}")
    return folder
"""
MERGES, PLOTS = "chapter/merges", "chapter/plots"


def test_what_tools_leave_behind_is_not_in_the_book(root):
    excluded = Matcher(yaml.safe_load((root / "_config.yml").read_text())["exclude_patterns"])
    for folder in (".pytest_cache", ".venv", ".snakemake", "_build", "runs"):
        assert excluded(folder), folder
    assert excluded("executed/tall_masks/.running-abc"), "of a run that was interrupted"
    assert not excluded("book") and not excluded("executed")
    assert not excluded("executed/tall_masks/main_table.ipynb")


def write_notebook(path, parameters):
    cells = [
        new_markdown_cell("# A notebook"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell("print(size)"),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)


def snakemake(folder, *options):
    command = [sys.executable, "-m", "snakemake", *options]
    library = os.environ | {"PYTHONPATH": str(folder / "lib")}
    run = subprocess.run(command, cwd=folder, env=library, capture_output=True, text=True)
    return run.returncode, run.stdout + run.stderr


def planned(folder, *options):
    """Jobs of a dry run by the first word of their message; a notebook by the name of its run."""
    status, output = snakemake(folder, "--dry-run", *options)
    assert status == 0, output
    jobs = re.findall(r"^Job \d+: (\w+): (\S+)", output, re.MULTILINE)
    return {what if kind == "Notebook" else kind.lower() for kind, what in jobs}


@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    """A copy of the project in which all is built."""
    folder = tmp_path_factory.mktemp("workflow") / "project"
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / name, folder / name, ignore=ignored)
    shutil.copytree(root / "data" / "reported", folder / "data" / "reported")
    (folder / "data" / "reported" / "table.csv").write_text(",".join(COLUMNS) + "\n")
    write_notebook(folder / f"notebooks/{MERGES}.ipynb", 'backbone = "mini-small"\nsize = 1')
    write_notebook(folder / f"notebooks/{PLOTS}.ipynb", "size = 2")
    config = {"title": "A book", "execute": {"execute_notebooks": "off"}}
    (folder / "_config.yml").write_text(yaml.safe_dump(config | {"only_build_toc_files": True}))
    (folder / "book").mkdir()
    (folder / "book" / "index.md").write_text("# A book\n")
    chapters = [{"file": f"executed/{name}"} for name in (MERGES, PLOTS)]
    toc = {"format": "jb-book", "root": "book/index", "chapters": chapters}
    (folder / "_toc.yml").write_text(yaml.safe_dump(toc))
    (folder / "lib/mergebook/training/__init__.py").write_text(TRAINING)
    status, output = snakemake(folder)
    assert status == 0, output
    return folder


@pytest.fixture
def change(built):
    """Append text to a file of the project, or write it anew; all is as before after the test."""
    before = {}

    def edit(path, text, *, anew=False):
        before[path] = (built / path).read_text() if (built / path).exists() else None
        (built / path).parent.mkdir(parents=True, exist_ok=True)
        (built / path).write_text(text if anew else (before[path] or "") + text)

    yield edit
    for path, text in before.items():
        (built / path).unlink() if text is None else (built / path).write_text(text)


def test_the_build_is_whole(built):
    assert (built / "_build/html/index.html").is_file()
    assert (built / f"results/{PLOTS}").is_dir()
    assert (built / "_build/generated/pipeline.svg").read_text().startswith("<?xml")


def test_nothing_is_planned_twice(built):
    assert planned(built) == set()


def test_a_touched_file_changes_nothing(built):
    for path in ("book/index.md", f"notebooks/{MERGES}.ipynb", "lib/mergebook/errors.py"):
        (built / path).touch()
    assert planned(built) == set()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("book/index.md", {"book"}),
        ("book/new_page.md", {"book"}),
        ("lib/mergebook/cli/merging.py", set()),
        ("lib/mergebook/methods/ties.py", {MERGES, PLOTS, "inserts", "book"}),
        ("lib/mergebook/methods/new.py", {MERGES, PLOTS, "inserts", "book"}),
        ("lib/mergebook/training/pretraining.py", {MERGES, PLOTS, "inserts", "book"}),
        ("lib/mergebook/training/finetuning.py", {"experts", MERGES, PLOTS, "inserts", "book"}),
        ("lib/mergebook/suites/base.py", {"experts", MERGES, PLOTS, "inserts", "book"}),
        ("data/reported/table.csv", {MERGES, PLOTS, "inserts", "book"}),
        ("data/measured/full/table.csv", {MERGES, PLOTS, "inserts", "book"}),
        ("data/reported/README.md", set()),
        ("lib/mergebook/papers/chapter.py", {MERGES, PLOTS, "book"}),
        ("lib/mergebook/papers/chapter/part.py", {MERGES, PLOTS, "book"}),
        ("lib/mergebook/papers/other.py", set()),
        ("lib/mergebook/papers/other/part.py", set()),
        ("README.md", set()),
    ],
)
def test_a_changed_file(built, change, path, expected):
    change(path, "\n# changed\n")
    assert planned(built) == expected


def test_a_changed_notebook(built, change):
    text = (built / f"notebooks/{PLOTS}.ipynb").read_text().replace("size = 2", "size = 3")
    change(f"notebooks/{PLOTS}.ipynb", text, anew=True)
    assert planned(built) == {PLOTS, "book"}


def test_a_changed_parameter(built, change):
    change("config/mini.yaml", f"\nnotebooks: {{{PLOTS}: {{size: 3}}}}\n")
    assert planned(built) == {PLOTS, "book"}


def test_a_parameter_equal_to_the_default_changes_nothing(built, change):
    change("config/mini.yaml", f"\nnotebooks: {{{PLOTS}: {{size: 2}}}}\n")
    assert planned(built) == set()


def test_a_new_notebook_needs_no_new_rule(built, change):
    write_notebook(built / "notebooks/other/new.ipynb", "size = 1")
    try:
        assert planned(built) == {"other/new", "book"}
    finally:
        shutil.rmtree(built / "notebooks/other")


def test_variants_are_runs_beside_the_pages(built, change):
    change("config/mini.yaml", "\nvariants: [{backbone: mini-large}]\n")
    run = f"variants/backbone=mini-large/{MERGES}"
    assert planned(built) == {"experts", run}


def test_an_unknown_profile_is_refused_with_the_list(built):
    status, output = snakemake(built, "--dry-run", "--config", "profile=big")
    assert status != 0
    assert "unknown profile 'big'. Choose from: full, language, mini, paper, smoke" in output


def test_the_paper_profile_says_what_is_missing(built):
    status, output = snakemake(built, "--config", "profile=paper")
    assert status != 0
    assert "unknown suite 'clip'" in output


def test_a_failing_notebook_shows_its_cell_and_keeps_the_book(built, change):
    text = (built / f"notebooks/{PLOTS}.ipynb").read_text()
    change(f"notebooks/{PLOTS}.ipynb", text.replace("print(size)", "print(sise)"), anew=True)
    executed = built / f"executed/{PLOTS}.ipynb"
    status, output = snakemake(built)
    assert status != 0
    assert "print(sise)" in output
    assert "NameError: name 'sise' is not defined" in output
    assert not executed.exists(), "an outdated result does not pass for a new one"
    assert (built / "_build/html/index.html").is_file()
