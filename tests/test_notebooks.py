"""The notebooks: all follow one template, and each one's outputs follow its parameters."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml

from mergebook.execution import execute
from mergebook.notebooks import find_notebooks
from mergebook.suites import load_suite
from mergebook.training import default_recipe, finetune_experts

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = find_notebooks(ROOT)
MAX_FUNCTION_LINES = 5
# Notebooks that measure nothing have no seed; what else changes their outputs.
OTHERWISE = {"tall_masks/reported_numbers": {"num_tasks": [8], "language_tasks": [7]}}

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)


def code(notebook):
    return [cell["source"] for cell in notebook.cells if cell["cell_type"] == "code"]


def test_the_main_table_is_among_them():
    assert "tall_masks/main_table" in NOTEBOOKS


@each_notebook
def test_template(notebook):
    assert notebook.title
    tagged = [cell for cell in notebook.cells if "parameters" in cell["metadata"].get("tags", ())]
    assert len(tagged) == 1, "one cell is tagged `parameters`"
    assert "seed" in notebook.parameters or notebook.name in OTHERWISE
    kernel = json.loads(notebook.path.read_text(encoding="utf-8"))["metadata"]["kernelspec"]
    assert kernel["name"] == "python3"


@each_notebook
def test_the_command_for_a_rerun_changes_something(notebook):
    commands = re.findall(r"`mergebook run (\S+) --set (\w+)=(\S+)`", notebook.cells[0]["source"])
    assert len(commands) == 1, "the first cell says how to run the notebook again"
    name, parameter, value = commands[0]
    assert name == notebook.name
    assert parameter in notebook.resolve({parameter: value})


@each_notebook
def test_no_outputs_are_stored(notebook):
    for cell in notebook.cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            assert cell["execution_count"] is None


@each_notebook
def test_parameters_are_explained(notebook):
    assert [name for name, each in notebook.parameters.items() if not each.doc] == []


@each_notebook
def test_functions_are_short(notebook):
    for source in code(notebook):
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, node.name


@each_notebook
def test_every_parameter_is_used(notebook):
    used = {
        node.id
        for source in code(notebook)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    assert set(notebook.parameters) <= used


@each_notebook
def test_defaults_are_those_of_the_mini_profile(notebook):
    profile = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text(encoding="utf-8"))
    assert notebook.in_profile(profile) == {}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_parameter_of_a_profile_is_some_notebooks(path):
    profile = yaml.safe_load(path.read_text(encoding="utf-8"))
    sets = [profile.get("parameters", {}), *profile.get("variants", [])]
    known = {name for notebook in NOTEBOOKS.values() for name in notebook.parameters}
    assert {name for values in sets for name in values} <= known
    assert set(profile.get("notebooks", {})) <= set(NOTEBOOKS)
    for notebook in NOTEBOOKS.values():
        for variant in profile.get("variants", [{}]):
            notebook.in_profile(profile, variant)  # refuses values of another type


def outputs(path):
    """What a reader sees of an executed notebook: its outputs, without the inputs."""
    cells = nbformat.read(path, as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.fixture(scope="module")
def rerun(smoke_project, tmp_path_factory):
    """Execute a notebook in the smoke profile, with some parameters changed."""
    profile = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))

    def run(notebook, **changes):
        values = notebook.resolve(notebook.in_profile(profile) | changes)
        folder = tmp_path_factory.mktemp("rerun")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MERGEBOOK_CHECKPOINTS", str(smoke_project / "checkpoints"))
            for need in notebook.experts(values):
                suite, recipe = load_suite("mini", need["num_tasks"]), default_recipe(need["steps"])
                finetune_experts(suite, need["backbone"], need["seed"], recipe=recipe)
            execute(notebook, values, folder / "executed.ipynb", folder / "results")
        return folder

    return run


@each_notebook
def test_outputs_follow_the_parameters(notebook, smoke_project, rerun):
    shown = outputs(smoke_project / "executed" / f"{notebook.name}.ipynb")
    assert shown, "the notebook shows something"
    changes = OTHERWISE.get(notebook.name, {"seed": 1})
    assert outputs(rerun(notebook, **changes) / "executed.ipynb") != shown


@each_notebook
def test_the_smoke_run_is_clean(notebook, smoke_project):
    for output in outputs(smoke_project / "executed" / f"{notebook.name}.ipynb"):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


def test_the_main_table_follows_size_and_backbone(rerun):
    notebook = NOTEBOOKS["tall_masks/main_table"]
    folder = rerun(notebook, num_tasks=14, backbone="mini-large", steps=5)
    results = folder / "results" / notebook.name
    table = pd.read_csv(results / "per_task.csv")
    assert set(table["num_tasks"]) == {14}
    assert set(table["backbone"]) == {"mini-large"}
    assert table["task"].nunique() == 14
    text = json.dumps(outputs(folder / "executed.ipynb"))
    assert "Main table, 14 tasks" in text
    assert "Main table, 8 tasks" not in text
