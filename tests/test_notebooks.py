"""The notebooks: all follow one template, and each one's outputs follow its parameters."""

import ast
import json
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from filelock import FileLock

from mergebook.execution import QUIET, environment, execute
from mergebook.notebooks import find_notebooks
from mergebook.suites import load_suite
from mergebook.training import default_recipe, finetune_experts

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = find_notebooks(ROOT)
# Notebooks that measure nothing have no seed; what else changes outputs that no seed changes.
OTHERWISE = {
    "tall_masks/reported_numbers": {"num_tasks": [8], "language_tasks": [7]},
    "cart/reported_numbers": {"num_tasks": [8]},
    "intervmerge/reported_numbers": {"backbones": ["ViT-B-32"]},
    "t_switch/reported_numbers": {"backbones": ["ViT-B-32"]},
    "t_switch/storage": {"seed": 1, "architecture": "ViT-L-14"},
}

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


def in_labels(node):
    """Expressions that only say what a value is: formatted strings, columns that repeat it."""
    if isinstance(node, ast.JoinedStr):
        yield node
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "assign":
        yield from (keyword.value for keyword in node.keywords)
    if isinstance(node, ast.keyword) and node.arg in ("alt", "caption", "title"):
        yield node.value


def names_read(source):
    """Names that a cell reads for more than a label."""
    tree = ast.parse(source)
    labels = {
        inner for node in ast.walk(tree) for label in in_labels(node) for inner in ast.walk(label)
    }
    return {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node not in labels
    }


def test_a_mention_in_a_label_is_no_use():
    source = 'show(f(a), caption=f"{b} tasks", alt=c)\ntable.assign(seed=d)\nprint(f"{e}")'
    assert names_read(source) == {"show", "f", "a", "table", "print"}


@each_notebook
def test_every_parameter_is_used(notebook):
    assert set(notebook.parameters) <= set().union(*map(names_read, code(notebook)))


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


@pytest.fixture(scope="session")
def smoke_values(smoke_project, common):
    """Values of a notebook in the smoke profile with some changed; fine-tunes their experts."""
    profile = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text(encoding="utf-8"))

    def resolve(notebook, **changes):
        values = notebook.resolve(notebook.in_profile(profile) | changes)
        with FileLock(common / "experts.lock"):  # several notebooks need the same
            for need in notebook.experts(values):
                suite = load_suite("mini", need["num_tasks"])
                recipe = default_recipe(need["steps"])
                finetune_experts(suite, need["backbone"], need["seed"], jobs=1, recipe=recipe)
        return values

    return resolve


@pytest.fixture(autouse=True)
def smoke_experts(request, monkeypatch):
    """Let tests that run a notebook find the experts of the smoke build."""
    if "smoke_values" in request.fixturenames:
        folder = request.getfixturevalue("smoke_project") / "checkpoints"
        monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(folder))


def run_cells(notebook, values, results):
    """Run a notebook's code in this process: half of a kernel's time goes to its imports."""
    space = {"__name__": "__main__"}
    (results / notebook.name).mkdir(parents=True)
    with environment(MERGEBOOK_RESULTS=str(results), MPLBACKEND="Agg", **QUIET):
        for cell in notebook.cells:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), notebook.name, "exec"), space)
                if "parameters" in cell["metadata"].get("tags", ()):
                    space |= values


# Columns that differ between any two runs.
TIMED = {"seconds", "peak_mib", "inference_ratio"}


def measured(folder, notebook):
    """The result tables of a run by name, without columns that repeat a parameter or are timed."""
    tables = {}
    for path in sorted((folder / notebook.name).glob("*.csv")):
        table = pd.read_csv(path)
        tables[path.stem] = table.drop(columns={*notebook.parameters, *TIMED} & set(table.columns))
    return tables


@each_notebook
def test_results_follow_the_parameters(
    notebook, smoke_project, smoke_values, tmp_path, monkeypatch
):
    monkeypatch.chdir(ROOT)
    assert outputs(smoke_project / "executed" / f"{notebook.name}.ipynb"), "it shows something"
    before = measured(smoke_project / "results", notebook)
    changes = OTHERWISE.get(notebook.name, {"seed": 1})
    run_cells(notebook, smoke_values(notebook, **changes), tmp_path)
    after = measured(tmp_path, notebook)
    assert before and before.keys() == after.keys()
    assert [name for name, table in before.items() if table.equals(after[name])] == []


@each_notebook
def test_the_smoke_run_is_clean(notebook, smoke_project):
    for output in outputs(smoke_project / "executed" / f"{notebook.name}.ipynb"):
        assert output.output_type != "error"
        assert output.get("name") != "stderr", output.text


def test_the_main_table_follows_size_and_backbone(smoke_values, tmp_path):
    notebook = NOTEBOOKS["tall_masks/main_table"]
    values = smoke_values(notebook, num_tasks=3, backbone="mini-large", steps=5)
    execute(notebook, values, tmp_path / "executed.ipynb", tmp_path / "results")
    results = tmp_path / "results" / notebook.name
    table = pd.read_csv(results / "per_task.csv")
    assert set(table["num_tasks"]) == {3}
    assert set(table["backbone"]) == {"mini-large"}
    assert table["task"].nunique() == 3
    text = json.dumps(outputs(tmp_path / "executed.ipynb"))
    assert "Main table. mini-large, 3 tasks" in text
    assert "Main table. mini-large, 8 tasks" not in text
