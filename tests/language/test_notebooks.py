"""The notebooks on texts: the main table of each chapter, with the tiny encoder."""

import pandas as pd
import pytest

from language.test_training import folder  # noqa: F401
from mergebook.notebooks import find_notebooks
from test_notebooks import ROOT, run_cells

pytest.importorskip("tokenizers")

NOTEBOOKS = find_notebooks(ROOT)
SMALL = {"num_tasks": [2], "test_size": 30, "validation_size": 20, "train_images": 12,
         "scales": [0.3], "scale_grid": [0.3], "thresholds": [0.4], "threshold_grid": [0.4],
         "centred_scales": [2.0], "ranks": [0.3], "drops": [0.6], "budget": 0.02,
         "joint_steps": 2, "steps": 20}  # fmt: skip
CHAPTERS = ("tall_masks", "cart", "intervmerge", "t_switch")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_main_table_takes_texts(chapter, folder, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MERGEBOOK_CHECKPOINTS", str(tmp_path / "checkpoints"))
    notebook = NOTEBOOKS[f"{chapter}/main_table"]
    fitting = {name: value for name, value in SMALL.items() if name in notebook.parameters}
    values = notebook.resolve({"suite": str(folder), "backbone": "minilm"} | fitting)
    run_cells(notebook, values, tmp_path / "results")
    table = pd.read_csv(tmp_path / "results" / notebook.name / "per_task.csv")
    assert set(table["task"]) == {"first", "last"} and set(table["backbone"]) == {"minilm"}
    assert table["accuracy"].between(0, 1).all() and table["accuracy"].nunique() > 2
    claims = pd.read_csv(tmp_path / "results" / notebook.name / "claims.csv").set_index("key")
    if chapter == "tall_masks":  # what the paper says of language is put to the test
        assert claims.loc["keep_language", "what"].endswith("2 text tasks")
        assert claims.loc["keep_language", "measured"] > 0
