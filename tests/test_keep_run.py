"""Long runs are kept with their variants, whole or not at all."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "workflow/scripts/keep_run.py"


@pytest.fixture
def project(tmp_path):
    """A project with a run of one notebook and a variant of it."""
    for place, seed in (("results", 0), ("results/variants/seed=1", 1)):
        folder = tmp_path / place / "letters/one"
        folder.mkdir(parents=True)
        for name in ("points", "claims"):
            row = {"table": name, "seed": seed, "value": 1 / 3}
            pd.DataFrame([row]).to_csv(folder / f"{name}.csv", index=False)
    return tmp_path


def keep(project, *words):
    command = [sys.executable, SCRIPT, *words]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def kept(project):
    root = project / "data/measured"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.csv"))


def test_variants_follow_the_run(project):
    run = keep(project, "full", "letters/one")
    assert run.returncode == 0, run.stderr
    assert kept(project) == ["full/letters/one/claims.csv", "full/letters/one/points.csv"]
    table = pd.read_csv(project / "data/measured/full/letters/one/points.csv")
    assert table["seed"].tolist() == [0, 1]
    assert table["value"].tolist() == [0.333333, 0.333333]


def test_tables_can_be_chosen(project):
    assert keep(project, "full", "letters/one:claims").returncode == 0
    assert kept(project) == ["full/letters/one/claims.csv"]


@pytest.mark.parametrize(
    ("notebook", "message"),
    [("letters/two", "letters/two: no results"), ("letters/one:points,lines", "lines.csv")],
)
def test_what_is_missing_is_named(project, notebook, message):
    run = keep(project, "full", notebook)
    assert run.returncode == 1
    assert message in run.stderr
    assert kept(project) == []
