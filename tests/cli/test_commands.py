"""The command line: what it prints, what it refuses, and that a failure leaves nothing behind."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import mergebook as mb
from mergebook.cli import main
from mergebook.errors import ParameterError
from mergebook.notebooks import Notebook, find_notebooks, get_notebook

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
    (tmp_path / "_config.yml").touch()
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


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert mb.__version__ in capsys.readouterr().out


def test_list_shows_titles_and_parameters(notebook, capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert "chapter/small: A small notebook" in out
    assert "num_tasks: list of int = [8, 14]  # suite sizes" in out
    assert "scale: float = 0.3" in out


def test_list_does_not_load_torch(notebook):
    code = """if True:
        import sys
        from mergebook.cli import main
        main(["list"])
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_list_without_notebooks_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "_config.yml").touch()
    monkeypatch.chdir(tmp_path)
    assert run(capsys, "list")[0] == 2


def test_run_writes_notebook_page_and_results(notebook, tmp_path, capsys):
    settings = ["num_tasks=20", "scale=2", "label=b c", "scale_grid=1e-1,2"]
    arguments = [part for setting in settings for part in ("--set", setting)]
    status, out, _ = run(capsys, "run", "chapter/small", *arguments, "--out", "here")
    here = tmp_path / "here"
    assert status == 0
    assert files(here) == ["results/chapter/small/table.csv", "small.html", "small.ipynb"]
    table = (here / "results/chapter/small/table.csv").read_text()
    assert table == "[20];[0.1, 2.0];0;2.0;b c;True"
    assert "here/small.html" in out
    assert "[20]" in (here / "small.html").read_text(encoding="utf-8")


def test_runs_with_other_parameters_go_to_other_folders(notebook, tmp_path, capsys):
    run(capsys, "run", "chapter/small")
    run(capsys, "run", "chapter/small", "--set", "seed=3")
    written = {path.parent.name for path in (tmp_path / "runs").rglob("*.html")}
    assert written == {"defaults", "seed=3"}
    assert not (tmp_path / "results").exists(), "the book's results are not touched"


def test_the_executed_notebook_is_the_same_twice_and_names_no_folder(notebook, tmp_path, capsys):
    texts = []
    for folder in ("one", "two"):
        run(capsys, "run", "chapter/small", "--set", "seed=3", "--out", folder)
        texts.append((tmp_path / folder / "small.ipynb").read_text())
    assert texts[0] == texts[1]
    assert str(tmp_path) not in texts[0]
    cells = nbformat.reads(texts[0], as_version=4).cells
    injected = [cell for cell in cells if "injected-parameters" in cell.metadata.tags]
    assert [cell.metadata.tags for cell in injected] == [["injected-parameters", "hide-input"]]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sed=3", "unknown parameter 'sed'; did you mean 'seed'?"),
        ("seed=1.5", "'seed' takes int, not '1.5'"),
        ("seed=true", "'seed' takes int, not 'true'"),
        ("seed=", "'seed' takes int, not ''"),
        ("seed=[1, 2]", "'seed' takes int, not '[1, 2]'"),
        ("num_tasks=8,a", "'num_tasks' takes list of int, not '8,a'"),
        ("num_tasks=[8", "'num_tasks' takes list of int, not '[8'"),
        ("scale=big", "'scale' takes float, not 'big'"),
        ("plot=1", "'plot' takes bool, not '1'"),
        ("seed", "--set takes NAME=VALUE, not 'seed'"),
    ],
)
def test_a_bad_parameter_is_refused_with_the_list(notebook, tmp_path, capsys, setting, message):
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
    run(capsys, "run", "chapter/small", "--out", "here")
    before = {path: (tmp_path / "here" / path).read_bytes() for path in files(tmp_path / "here")}
    assert run(capsys, "run", "chapter/small", "--set", "seed=13", "--out", "here")[0] == 2
    after = {path: (tmp_path / "here" / path).read_bytes() for path in files(tmp_path / "here")}
    assert before == after


def test_a_parameter_must_be_a_literal(notebook):
    text = notebook.path.read_text().replace("seed = 0", "seed = max(0, 1)")
    notebook.path.write_text(text)
    with pytest.raises(Exception, match="'seed' is not a literal value"):
        _ = get_notebook("chapter/small").parameters


def test_profile_values_reach_the_notebooks_that_fit(notebook):
    profile = {"parameters": {"num_tasks": [8], "seed": [1, 2], "other": 1, "scale": 1}}
    assert notebook.in_profile(profile) == {"num_tasks": [8], "scale": 1.0}
    assert notebook.in_profile(profile, {"scale": 2}) == {"num_tasks": [8], "scale": 2.0}
    own = profile | {"notebooks": {"chapter/small": {"num_tasks": [8, 14], "label": "x"}}}
    assert notebook.in_profile(own) == {"scale": 1.0, "label": "x"}
    with pytest.raises(ParameterError, match="unknown parameter 'lable'"):
        notebook.in_profile({"notebooks": {"chapter/small": {"lable": "x"}}})


def test_methods_lists_every_method(capsys):
    status, out, _ = run(capsys, "methods")
    assert status == 0
    assert {name for name in mb.list_methods() if f"{name} " in out} == set(mb.list_methods())
    assert "[None]" not in out  # common knowledge has no paper
    for name in mb.list_methods():
        method = mb.get_method(name)
        needs = f"{method.family}, needs {' and '.join(method.needs)}, "
        assert not method.needs or needs in out


def test_describe_says_each_parameter_once(capsys):
    for name in mb.list_methods():
        method = mb.get_method(name)
        _, out, _ = run(capsys, "describe", name)
        assert out.startswith(f"{name}: {method.title}")
        assert ":`" not in out
        for parameter in method.parameters:
            lines = re.findall(rf"^ *{parameter.name}\b( = |: | *$)", out, re.MULTILINE)
            assert lines == [" = "], parameter.name
        assert out.count("\nParameters\n") == bool(method.parameters)


def test_describe_a_method_and_a_notebook(capsys, monkeypatch, root):
    monkeypatch.chdir(root)
    _, out, _ = run(capsys, "describe", "ties")
    assert "yadav2023ties" in out
    assert "  density = 0.2, a number from 0 to 1\n      Kept share of the entries" in out
    name = next(iter(find_notebooks(root)))
    _, out, _ = run(capsys, "describe", name)
    assert out.startswith(f"{name}: ")
    status, _, err = run(capsys, "describe", "tie")
    assert status == 2
    assert "did you mean 'ties'?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experts", "--suite", "clip"], "unknown suite 'clip'"),
        (["experts", "--backbone", "huge"], "huge"),
        (["experts", "--num-tasks", "0"], "0"),
        (["experts", "--num-tasks", "8", "--steps", "0"], "steps"),
        (["pretrain", "huge"], "unknown mini backbone 'huge'"),
    ],
)
def test_bad_names_are_refused(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path))
    status, _, err = run(capsys, *arguments)
    assert status == 2
    assert message in err
    assert files(tmp_path) == []


def test_a_closed_pipe_is_no_error(root):
    command = f"{sys.executable} -m mergebook.cli describe ties | head -1; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert run.stdout.splitlines()[-1] == "0"
    assert run.stderr == ""
