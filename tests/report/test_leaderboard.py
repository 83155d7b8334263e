"""The leaderboard's table and figures on small made-up results."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from mergebook.errors import ReportError
from mergebook.report import frontier_figure, leaderboard_table, over_seeds, search_figure
from mergebook.report.leaderboard import frontier

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
         "storage_gigabit": storage, "seconds": 1.5, "peak_mib": 2.0, "inference_ratio": 1.0}
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


def test_table_is_sorted_and_complete(summary):
    table = leaderboard_table(summary, num_tasks=8)
    assert list(table.index) == ["Fine-tuned", "TALL Mask + TA", "Magnitude Pruning", "TIES",
                                 "Weight averaging"]  # fmt: skip
    row = table.loc["TALL Mask + TA"]
    assert row["Normalised, %"] == "95.0"
    assert row["95 % (images)"] == "94.0 to 96.0"
    assert row["Over 3 seeds"] == "96.0 ± 2.5"
    assert row["Storage, % of experts"] == "25.0"
    single = leaderboard_table(summary[summary["seed"] == 0], num_tasks=8)
    assert not [column for column in single if column.startswith("Over")]
    with pytest.raises(ReportError, match="20 tasks"):
        leaderboard_table(summary, num_tasks=20)


def test_frontier_by_hand(summary):
    first = summary[(summary["num_tasks"] == 8) & (summary["seed"] == 0)].set_index("method")
    assert frontier(first) == ["ties", "tall_ta", "fine_tuned"]


def test_frontier_figure_names_the_frontier(summary):
    fig = frontier_figure(summary)
    assert [ax.get_title() for ax in fig.axes] == ["8 tasks", "14 tasks"]
    assert {text.get_text() for text in fig.axes[0].texts} == {
        "TIES", "TALL Mask + TA", "Fine-tuned"
    }  # fmt: skip
    assert len(fig.axes[0].collections) == len(ROWS)


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
