"""A reader's rerun: what it writes and where, what it refuses, and what a failure leaves alone."""

import os
import subprocess
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mergebook.cli.notebooks
from mergebook.cli import main
from mergebook.errors import ExperimentError, ParameterError
from mergebook.execution import LONGEST_NAME, slug
from mergebook.notebooks import get_notebook
from mergebook.paths import OWN
from mergebook.report import load_results, save_results


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def contents(folder):
    return {file: (folder / file).read_bytes() for file in files(folder)}


def test_run_writes_notebook_page_and_results(notebook, tmp_path, capsys):
    settings = ["num_tasks=20", "scale=2", "label=b c", "scale_grid=1e-1,2"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    status, out, _ = run(capsys, "run", "chapter/small", *arguments, "--out", "here")
    here = tmp_path / "here"
    assert status == 0
    outputs = [file for file in files(here) if not file.startswith("page/")]
    assert outputs == ["results/chapter/small/table.csv", "small.ipynb"]
    table = (here / "results/chapter/small/table.csv").read_text()
    assert table == "[20];[0.1, 2.0];0;2.0;b c;True"
    assert "here/page/index.html" in out
    assert "[20]" in (here / "page/index.html").read_text(encoding="utf-8")
    assert (here / "page/_static/styles").is_dir()


def test_runs_with_other_parameters_go_to_other_folders(notebook, tmp_path, capsys):
    run(capsys, "run", "chapter/small", "--no-page")
    run(capsys, "run", "chapter/small", "--set", "seed=3", "--no-page")
    written = {path.parent.name for path in (tmp_path / "runs").rglob("small.ipynb")}
    assert written == {"defaults", "seed=3"}
    assert not list((tmp_path / "runs").rglob("*.html"))
    assert not (tmp_path / "results").exists(), "the book's results are not touched"


def test_the_executed_notebook_is_the_same_twice_and_names_no_folder(notebook, tmp_path, capsys):
    texts = []
    for folder in ("one", "two"):
        run(capsys, "run", "chapter/small", "--set", "seed=3", "--no-page", "--out", folder)
        texts.append((tmp_path / folder / "small.ipynb").read_text())
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    cells = nbformat.reads(texts[0], as_version=4).cells
    injected = [cell for cell in cells if "injected-parameters" in cell.metadata.tags]
    assert [cell.metadata.tags for cell in injected] == [["injected-parameters", "hide-input"]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=1.5", "'seed': '1.5' is not a whole number"),
        ("seed=true", "'seed': 'true' is not a whole number"),
        ("seed=", "'seed': '' is not a whole number"),
        ("seed=[1, 2]", "'seed': '[1, 2]' is not a whole number"),
        ("seed=2020-13-45", "'seed': '2020-13-45' is not a whole number"),
        ("seed=" + "9" * 5000, "'seed': '999"),
        ("num_tasks=8,a", "'num_tasks': '8,a' is not a list, each item a whole number"),
        ("num_tasks=[8", "'num_tasks': '[8' is not a list"),
        ("num_tasks=" + "[" * 100_000, "'num_tasks': '[[["),
        ("num_tasks=&a [*a, *a]", "'num_tasks': '&a [*a, *a]' is not a list"),
        ("scale=big", "'scale': 'big' is not a number"),
        ("scale=1e400", "'scale': '1e400' is not a number"),
        ("scale=.inf", "'scale': '.inf' is not a number"),
        ("plot=1", "'plot': '1' is not True or False"),
    ],
    ids=lambda text: text[:20],
)
def test_a_bad_value_is_refused_in_a_line(notebook, tmp_path, capsys, setting, message):
    status, _, err = run(capsys, "run", "chapter/small", "--set", setting)
    assert status == 2
    assert err.startswith(f"mergebook: chapter/small: parameter {message}")
    assert err.count("\n") == 1
    assert len(err) < 200
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sed=3", "unknown parameter 'sed'; did you mean 'seed'?"),
        ("seed", "--set takes NAME=VALUE, not 'seed'"),
    ],
)
def test_an_unknown_parameter_is_refused_with_the_list(
    notebook, tmp_path, capsys, setting, message
):
    status, _, err = run(capsys, "run", "chapter/small", "--set", setting)
    assert status == 2
    assert message in err
    assert "seed: int = 0" in err
    assert "num_tasks: list of int = [8, 14]  # suite sizes" in err
    assert not (tmp_path / "runs").exists()


def test_an_unknown_notebook_is_refused_with_the_list(notebook, capsys):
    status, _, err = run(capsys, "run", "chapter/smal")
    assert status == 2
    assert "did you mean 'chapter/small'?" in err


def test_a_failing_cell_is_shown_and_nothing_is_written(notebook, tmp_path, capsys):
    status, _, err = run(capsys, "run", "chapter/small", "--set", "seed=13")
    assert status == 2
    assert 'assert seed != 13, "an unlucky seed"' in err
    assert "AssertionError: an unlucky seed" in err
    assert not (tmp_path / "runs").exists()


def test_a_failing_cell_leaves_earlier_outputs_alone(notebook, tmp_path, capsys):
    run(capsys, "run", "chapter/small", "--no-page", "--out", "here")
    before = contents(tmp_path / "here")
    again = ("--set", "seed=13", "--out", "here", "--force")
    status, _, err = run(capsys, "run", "chapter/small", *again)
    assert status == 2
    assert "unlucky" in err
    assert contents(tmp_path / "here") == before


def test_a_parameter_must_be_a_literal(notebook):
    text = notebook.path.read_text().replace("seed = 0", "seed = max(0, 1)")
    notebook.path.write_text(text)
    with pytest.raises(Exception, match="'seed' is not a literal value"):
        _ = get_notebook("chapter/small").parameters
    notebook.path.write_text(text.replace("seed = max(0, 1)", "seed = None"))
    with pytest.raises(ExperimentError, match=r"parameter 'seed': None is no text, number"):
        _ = get_notebook("chapter/small").parameters


def test_profile_values_reach_the_notebooks_that_fit(notebook):
    profile = {"parameters": {"num_tasks": [8], "seed": [1, 2], "other": 1, "scale": 1}}
    assert notebook.in_profile(profile) == {"num_tasks": [8], "scale": 1.0}
    assert notebook.in_profile(profile, {"scale": 2}) == {"num_tasks": [8], "scale": 2.0}
    own = profile | {"notebooks": {"chapter/small": {"num_tasks": [8, 14], "label": "x"}}}
    assert notebook.in_profile(own) == {"scale": 1.0, "label": "x"}
    with pytest.raises(ParameterError, match="unknown parameter 'lable'"):
        notebook.in_profile({"notebooks": {"chapter/small": {"lable": "x"}}})


@pytest.mark.parametrize(
    "out",
    [".", "notebooks", "notebooks/chapter", "./lib/new", "results", "runs/../data", ".git", "link"],
)
def test_the_projects_own_folders_are_refused(notebook, tmp_path, capsys, out):
    (tmp_path / "results/chapter/small").mkdir(parents=True)
    (tmp_path / "results/chapter/small/table.csv").write_text("the book's")
    (tmp_path / "link").symlink_to(notebook.path.parent)
    before = contents(tmp_path)
    for force in ((), ("--force",)):
        status, _, err = run(capsys, "run", "chapter/small", "--out", out, *force)
        assert status == 2
        assert err.startswith(f"mergebook: {Path(out)} belongs to the project")
    assert contents(tmp_path) == before


def test_folders_that_variables_name_are_refused_too(notebook, tmp_path, monkeypatch, capsys):
    for name in ("CHECKPOINTS", "RESULTS"):
        monkeypatch.setenv(f"MERGEBOOK_{name}", str(tmp_path / f"my_{name}"))
        assert run(capsys, "run", "chapter/small", "--out", f"my_{name}/here")[0] == 2


def test_every_folder_of_the_repository_is_the_projects(root):
    listed = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    tops = {file.partition("/")[0] for file in listed.stdout.splitlines() if "/" in file}
    assert {top for top in tops if not top.startswith(".")} <= set(OWN)
    ignored = {line.strip("/") for line in (root / ".gitignore").read_text().splitlines()}
    made = {name for name in ignored if name.isidentifier()} - {"runs", "build", "dist"}
    assert made - {"__pycache__"} <= set(OWN)


def test_what_exists_is_replaced_by_force_only(notebook, tmp_path, capsys):
    again = ("run", "chapter/small", "--no-page", "--out", "here")
    assert run(capsys, *again)[0] == 0
    before = contents(tmp_path / "here")
    status, _, err = run(capsys, *again, "--set", "seed=3")
    assert (status, contents(tmp_path / "here")) == (2, before)
    assert err == "mergebook: here/small.ipynb exists; choose another folder, or --force\n"
    assert run(capsys, *again, "--set", "seed=3", "--force")[0] == 0
    assert contents(tmp_path / "here") != before


@pytest.mark.parametrize("mine", ["page/mine.txt", "results/chapter/small/mine.csv"])
def test_not_even_force_replaces_what_no_run_made(notebook, tmp_path, capsys, mine):
    (tmp_path / "here" / mine).parent.mkdir(parents=True)
    (tmp_path / "here" / mine).write_text("mine")
    status, _, err = run(capsys, "run", "chapter/small", "--out", "here", "--force")
    assert status == 2
    assert "exists; choose another folder\n" in err
    assert files(tmp_path / "here") == [mine]


def test_a_file_in_place_of_the_folder_is_refused(notebook, tmp_path, capsys):
    (tmp_path / "here").write_text("mine")
    status, _, err = run(capsys, "run", "chapter/small", "--out", "here", "--force")
    assert (status, err) == (2, "mergebook: here is not a folder\n")


def test_without_the_engine_there_is_a_hint_and_a_way(notebook, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(mergebook.cli.notebooks, "find_spec", lambda name: None)
    status, _, err = run(capsys, "run", "chapter/small")
    assert status == 2
    assert err.count("\n") == 1
    assert "pip install 'mergebook[dev]', or add --no-page" in err
    assert not (tmp_path / "runs").exists()
    assert run(capsys, "run", "chapter/small", "--no-page")[0] == 0


def test_a_page_that_cannot_be_made_keeps_the_run(notebook, tmp_path, capsys):
    (tmp_path / "_config.yml").write_text("sphinx: {extra_extensions: [no_such_extension]}\n")
    status, out, err = run(capsys, "run", "chapter/small", "--out", "here")
    assert status == 2
    assert "no_such_extension" in err
    assert "here/small.ipynb" in out
    assert files(tmp_path / "here") == ["results/chapter/small/table.csv", "small.ipynb"]


TEXTS = st.text("ab1_.-,=+/ é", max_size=150)
VALUES = st.one_of(
    st.integers(), st.booleans(), st.floats(allow_nan=False), TEXTS,
    st.lists(st.sampled_from(["a", "b", "a+b", ""]), max_size=4),
    st.integers(0, 60).map(lambda n: list(range(n))),
)  # fmt: skip
RUNS = st.dictionaries(st.sampled_from(["a", "b", "label", "num_tasks"]), VALUES, max_size=4)


@given(RUNS, RUNS)
def test_other_parameters_give_another_folder(one, other):
    names = {slug(one), slug(other)}
    assert len(names) == 2 or repr(one) == repr(other)
    for name in names:
        assert 0 < len(os.fsencode(name)) <= LONGEST_NAME
        assert "/" not in name and name not in (".", "..")


def test_folders_tell_the_parameters():
    assert slug({}) == "defaults"
    assert slug({"num_tasks": [8, 14], "seed": 3}) == "num_tasks=8+14,seed=3"
    long = {"scale_grid": [n / 100 for n in range(100)]}
    assert slug(long).startswith("scale_grid=0.0+0.01+0.02")


def test_a_notebook_run_by_hand_leaves_the_books_results_alone(notebook, tmp_path, monkeypatch):
    frame = pd.DataFrame({"a": [1]})
    monkeypatch.setenv("MERGEBOOK_RESULTS", str(tmp_path / "results"))
    save_results(frame, "chapter/small", "table")
    monkeypatch.delenv("MERGEBOOK_RESULTS")
    path = save_results(2 * frame, "chapter/small", "table")
    assert path.relative_to(tmp_path) == Path("runs/by-hand/results/chapter/small/table.csv")
    assert load_results("chapter/small", "table")["a"].tolist() == [1]
