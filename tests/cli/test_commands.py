"""The command line: what it prints, what it refuses, and that a failure leaves nothing behind."""

import re
import subprocess
import sys

import pytest

import mergebook as mb
from mergebook.cli import main
from mergebook.notebooks import find_notebooks


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_version(capsys):
    assert run(capsys, "--version")[:2] == (0, f"mergebook {mb.__version__}\n")


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
    assert "did you mean 'ties'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experts", "--suite", "clip"], "unknown suite 'clip'"),
        (["experts", "--backbone", "huge"], "huge"),
        (["experts", "--num-tasks", "0"], "argument --num-tasks: '0' is not a whole number from 1"),
        (["experts", "--num-tasks", "8", "--steps", "0"], "argument --steps: '0' is not a whole"),
        (["experts", "--jobs", "-1"], "argument --jobs: '-1' is not a whole number from 1 to"),
        (["experts", "--seed", "9" * 5000], "argument --seed: '9"),
        (["experts", "--seed", "1e3"], "argument --seed: '1e3' is not a whole number from 0 to"),
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
