"""The leaderboard's table and figures on small made-up results."""

import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mergebook.errors import ReportError
from mergebook.report import (
    frontier_figure,
    leaderboard_block,
    leaderboard_blocks,
    leaderboard_table,
    search_figure,
)
from mergebook.report.board import frontier, letters, over_seeds, shortened
from mergebook.report.measured import measured

# method: normalised accuracy with seeds 0, 1 and 2; storage
ROWS = {
    "averaging": ((0.70, 0.72, 0.74), 1.0),
    "ties": ((0.75, 0.75, 0.75), 1.0),
    "tall_ta": ((0.95, 0.96, 0.97), 2.0),
    "magnitude_pruning": ((0.90, 0.90, 0.90), 3.0),
    "fine_tuned": ((1.0, 1.0, 1.0), 8.0),
}


@pytest.fixture
def summary():
    rows = [
        {"num_tasks": size, "seed": seed, "method": method, "accuracy": 0.9 * value,
         "normalised": value, "normalised_low": value - 0.01, "normalised_high": value + 0.01,
         "storage_gigabit": storage, "seconds": 1.5, "peak_mib": 2.0, "inference_ratio": 1.0,
         "backbone": "mini-small", "params": "{}"}
        for size in (8, 14)
        for method, (values, storage) in ROWS.items()
        for seed, value in enumerate(values)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_interval_over_seeds_is_the_t_interval(summary):
    table = over_seeds(summary[summary["num_tasks"] == 8])
    assert table.loc["averaging", "mean"] == pytest.approx(0.72)
    # Standard deviation 0.02 of three seeds; t quantile 4.3027 with two degrees of freedom.
    assert table.loc["averaging", "half"] == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-5)
    assert table.loc["ties", "half"] == pytest.approx(0)


def test_blocks_are_sorted_and_complete(summary):
    table = leaderboard_table(summary, "yes", num_tasks=8)
    assert list(table.index) == ["Fine-tuned", "TALL Mask + TA", "Magnitude Pruning"]
    row = table.loc["TALL Mask + TA"]
    assert row["Normalised, %"] == "95.0"
    assert row["95 % interval"] == "94.0 to 96.0"
    assert row["Over 3 seeds"] == "96.0 ± 2.5"
    assert row["Storage, %"] == "25.0"
    assert set(table["Task told"]) == {"yes"}
    assert list(leaderboard_table(summary, "no", num_tasks=8).index) == ["TIES", "Weight averaging"]
    assert leaderboard_table(summary, "guessed", num_tasks=8).empty
    single = leaderboard_table(summary[summary["seed"] == 0], "yes", num_tasks=8)
    assert not [column for column in single if column.startswith("Over")]
    with pytest.raises(ReportError, match="20 tasks"):
        leaderboard_table(summary, "no", num_tasks=20)
    with pytest.raises(ReportError, match="unknown block 'maybe'"):
        leaderboard_table(summary, "maybe", num_tasks=8)


def test_blocks_share_the_methods_out(summary):
    first, second, third = leaderboard_blocks(summary, num_tasks=8, what="a test")
    assert "One model: 2 methods, 8 tasks, mini-small, a test" in first.data
    assert 'href="../methods/data-free/ties.html"' in first.data
    assert 'href="../methods/compression/tall_ta.html"' in second.data
    assert "<table" not in third.data


def test_a_row_says_what_it_had_of_its_training(summary):
    rows = summary.replace({"method": {"averaging": "multitask"}})
    rows.loc[rows["method"] == "multitask", "params"] = '{"steps": 6}'
    table = leaderboard_table(rows, "no", num_tasks=8)
    assert list(table.index) == ["TIES", "Multi-task training (6 of 60 steps)"]
    block = leaderboard_block(rows, "no", num_tasks=8).data
    assert '<a href="../methods/training/multitask.html">Multi-task training (6 of 60' in block
    assert shortened("multitask", '{"steps": 60}') == shortened("ties", '{"scale": 1}') == ""
    assert shortened("atm", '{"rounds": 2, "steps": 1}') == "2 of 20 rounds, 1 of 3 steps"


def test_every_letter_of_a_committed_formula_is_explained():
    formulas = set(measured("full/atlas/leaderboard/summary")["storage"])
    assert len(formulas) > 10
    for expression in formulas:
        assert set(re.findall(r"[A-Z]'?", expression)) == {name for name, _ in letters(expression)}
    assert dict(letters("32(2P'+F) + TP'"))["T"] == "tasks"
    meanings = {e: dict(letters(e))["M"] for e in formulas if "M" in e}
    assert len(set(meanings.values())) == 3, "interventions, factors and switches"


def test_frontier_by_hand(summary):
    first = summary[(summary["num_tasks"] == 8) & (summary["seed"] == 0)].set_index("method")
    assert frontier(first) == ["ties", "tall_ta", "fine_tuned"]


def test_frontier_figure_names_the_frontier_of_each_block(summary):
    fig = frontier_figure(summary, num_tasks=8)
    [ax] = fig.axes
    assert {text.get_text() for text in ax.texts} == {"TIES", "TALL Mask + TA", "Fine-tuned"}
    assert sum(len(points.get_offsets()) for points in ax.collections) == len(ROWS)
    assert fig.get_figwidth() == 8, "as wide as the page"
    [legend] = fig.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == ["one model", "several models, task told"]


def test_search_figure_shows_the_best_of_the_other_parameters():
    rows = [
        ("ties", '{"scale": 0.5, "density": 0.1}', 0.6),
        ("ties", '{"scale": 0.5, "density": 0.2}', 0.7),
        ("ties", '{"scale": 1.0, "density": 0.2}', 0.5),
        ("tall_ta", '{"threshold": 0.4}', 0.9),
    ]
    curves = pd.DataFrame(rows, columns=["method", "point", "normalised"])
    fig = search_figure(curves)
    line = fig.axes[0].lines[0]
    assert list(line.get_xdata()) == [0.5, 1.0]
    np.testing.assert_allclose(line.get_ydata(), [70, 50])
    with pytest.raises(ReportError, match="'nothing'"):
        search_figure(curves, "nothing")
