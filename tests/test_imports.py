"""The package's imports run one way: no module needs, in the end, itself."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mergebook

ROOT = Path(mergebook.__file__).parents[1]


def names(root: Path) -> dict[str, Path]:
    """Name of each module below a folder -> its file."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def ancestors(name: str) -> set[str]:
    """The packages that a module is in."""
    parts = name.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))}


def for_types_only(tree: ast.AST) -> set[ast.AST]:
    """Nodes that never run: what stands under `if TYPE_CHECKING:`."""
    blocks = (
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    return {node for block in blocks for line in block for node in ast.walk(line)}


def imported(name: str, modules: dict[str, Path]) -> set[str]:
    """Modules of the package that a module imports anywhere, inside functions too.

    Importing `a.b` runs `a` first; a package that the module itself is in is under way already.
    """
    tree, found = ast.parse(modules[name].read_text(encoding="utf-8")), set()
    for node in set(ast.walk(tree)) - for_types_only(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: relative import of {node.module}"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {node.module, *inside}
    found |= {package for each in found for package in ancestors(each)}
    return {each for each in found if each in modules} - {name} - ancestors(name)


def graph(root: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    modules = names(root)
    return {name: imported(name, modules) for name in modules}


def test_no_module_needs_itself():
    edges = graph(ROOT)
    assert len(edges) > 100
    assert "mergebook.towers.routers" in edges["mergebook.merged.routed"]  # inside a function
    TopologicalSorter(edges).prepare()


def test_a_circle_through_a_function_is_found(tmp_path):
    package = tmp_path / "pkg"
    package.mkdir()
    for name, text in {
        "__init__": "",
        "a": "from pkg import b",
        "b": "def later():\n    from pkg.c import x",
        "c": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import a",
    }.items():
        (package / f"{name}.py").write_text(text)
    TopologicalSorter(graph(tmp_path)).prepare()
    (package / "c.py").write_text("def x():\n    import pkg.a")
    with pytest.raises(CycleError):
        TopologicalSorter(graph(tmp_path)).prepare()
