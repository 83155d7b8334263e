"""What starts slowly is loaded by the commands that need it, and by no other."""

import json
import subprocess
import sys

import pytest
import torch

import mergebook as mb
from mergebook.cli import declarations, main
from mergebook.weights import save_checkpoint

SLOW = ("IPython", "matplotlib", "numpy", "open_clip", "pandas", "papermill", "scipy", "seaborn",
        "sklearn", "torch", "torchvision")  # fmt: skip
LOADED = """
import json, sys
{}
print()
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""
RUN = """
from mergebook.cli import main
assert main({!r}) == 0
"""


def loaded(code):
    """Those of the slow packages that a fresh process has loaded after some code."""
    done = subprocess.run([sys.executable, "-c", LOADED.format(code)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return set(SLOW) & set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def merging(tmp_path):
    """A merge of two small files that needs no images."""
    command = ["merge", "--method", "ties", "--out", str(tmp_path / "out.safetensors")]
    for name in ("--base", "a", "b"):
        path = save_checkpoint({"w": torch.randn(3, 4)}, tmp_path / f"{name}.safetensors")
        command += [name, str(path)] if name == "--base" else ["--expert", f"{name}={path}"]
    return command


def test_the_package_loads_nothing_slow():
    assert loaded("import mergebook") == set()
    assert loaded("import mergebook.cli") == set()


@pytest.mark.parametrize("command", [["list"], ["methods"], ["describe", "ties"]])
def test_what_only_names_things_loads_nothing_slow(command, root, monkeypatch):
    monkeypatch.chdir(root)
    assert loaded(RUN.format(command)) == set()


def test_a_merge_of_files_loads_torch_and_nothing_else_that_is_slow(merging):
    assert loaded(RUN.format(merging)) <= {"torch", "numpy"}
    assert loaded(RUN.format(["inspect", merging[-1].partition("=")[2]])) <= {"torch", "numpy"}


def test_all_methods_load_torch_and_nothing_else_that_is_slow():
    assert loaded("import mergebook; mergebook.list_methods()") <= {"torch", "numpy"}


def test_declarations_are_those_of_the_registry():
    code = """if True:
        import sys
        from mergebook.cli.declarations import declared_methods
        from dataclasses import fields
        def facts(method):
            names = {field.name for field in fields(method)} - {"function", "start"}
            return {name: str(getattr(method, name)) for name in names}
        listed = [facts(method) for method in declared_methods()]
        assert "torch" not in sys.modules
        import mergebook as mb
        real = [facts(mb.get_method(name)) for name in mb.list_methods()]
        assert listed == real
        from mergebook import registry
        assert registry.get_method("ties") is mb.get_method("ties")
        assert mb.get_method("ties").function.__globals__["Tensor"] is sys.modules["torch"].Tensor
        print(len(real))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr, done.stdout.strip()) == ("", str(len(mb.list_methods())))


def test_a_declaration_that_computes_is_read_with_what_it_computes(tmp_path):
    (tmp_path / "computing.py").write_text("import torch\nSCALE = 2 * torch.tensor(3)\n")
    code = f"""if True:
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        from mergebook.cli import declarations
        def read():
            import computing
            return int(computing.SCALE)
        declarations._all = read
        assert declarations.declared_methods() == 6
    """
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "misuse", ["str(thing)", "thing + 1", "2 * thing", "bool(thing < 1)", "float(thing)"]
)
def test_a_stand_in_has_no_value(misuse):
    thing = declarations._Module("torch").tensor
    assert issubclass(type("Own", (thing,), {}), thing)
    assert thing.no_grad()(main) is main
    with pytest.raises(TypeError):
        eval(misuse)
