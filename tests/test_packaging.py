"""The package's metadata: complete, and the same in pyproject.toml and environment.yml."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version as installed_version

import pytest
import yaml
from packaging.requirements import Requirement

import mergebook

# Conda's name where it is not PyPI's.
CONDA = {
    "matplotlib": "matplotlib-base",
    "open-clip-torch": "open-clip-torch",
    "seaborn": "seaborn-base",
    "snakemake": "snakemake-minimal",
    "torch": "pytorch",
}
# PyPI's name of an imported module where it is not the module's.
DISTRIBUTION = {
    "IPython": "ipython",
    "PIL": "pillow",
    "open_clip": "open-clip-torch",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    # Jupyter Book brings the versions of these that it works with.
    "docutils": "jupyter-book",
    "sphinx": "jupyter-book",
}
# Parts of the library that an extra serves; nothing else imports them unasked.
OPTIONAL = {"rendering": "dev", "towers/minilm.py": "language"}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def ranges(requirements):
    parsed = [Requirement(text) for text in requirements]
    return {normal(requirement.name): requirement.specifier for requirement in parsed}


def test_environment_yml_has_the_same_ranges(root, project):
    extras = project["optional-dependencies"]
    wanted = ranges([*project["dependencies"], *extras["test"], *extras["dev"]])
    wanted = {CONDA.get(name, name): specifier for name, specifier in wanted.items()}
    wanted["python"] = Requirement(f"python{project['requires-python']}").specifier
    entries = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    by_pip = next(entry["pip"] for entry in entries if isinstance(entry, dict))
    assert "--editable ." in by_pip
    skipped = {"pip", "--editable ."}
    names = [entry for entry in [*entries, *by_pip] if isinstance(entry, str)]
    assert ranges(name for name in names if name not in skipped) == wanted


def test_every_import_of_the_library_is_a_dependency(root, project):
    package = root / "lib" / "mergebook"
    known = {*sys.stdlib_module_names, "mergebook"}
    for path in sorted(package.rglob("*.py")):
        own = path.relative_to(package)
        extra = OPTIONAL.get(own.as_posix()) or OPTIONAL.get(own.parts[0])
        wanted = project["optional-dependencies"][extra] if extra else []
        declared = set(ranges([*project["dependencies"], *wanted]))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for module in {name.partition(".")[0] for name in names} - known:
                name = normal(DISTRIBUTION.get(module, module))
                assert name in declared, f"{path} imports {module}, which is no dependency"


def test_torch_has_no_upper_bound_and_comes_with_torchvision(project):
    dependencies = ranges(project["dependencies"])
    for name in ("torch", "torchvision"):
        assert {specifier.operator for specifier in dependencies[name]} == {">="}


def test_jupyter_book_stays_below_2(project):
    specifier = ranges(project["optional-dependencies"]["dev"])["jupyter-book"]
    assert "2.0" not in specifier
    assert "1.0.4.post1" in specifier


def test_versions_agree(root, project):
    citation = yaml.safe_load((root / "CITATION.cff").read_text(encoding="utf-8"))
    versions = {project["version"], citation["version"], mergebook.__version__}
    assert versions == {installed_version("mergebook")}


def test_every_asset_is_packaged(root):
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = settings["setuptools"]["package-data"]["mergebook"]
    package = root / "lib" / "mergebook"
    packaged = {path for pattern in patterns for path in package.glob(pattern)}
    data = {path for path in package.rglob("*") if path.is_file() and path.suffix != ".py"}
    assert {path for path in data if "__pycache__" not in path.parts} == packaged
