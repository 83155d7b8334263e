import numpy as np
import pandas as pd
import pytest

from mergebook import paths
from mergebook.errors import ReportError
from mergebook.report import reported, reported_estimate, reported_main_table, reported_sizes

TABLES = sorted(path.stem for path in (paths.data_dir() / "reported").glob("*.csv"))


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_tidy_and_labelled(table):
    frame = reported(table)
    assert set(frame["provenance"]) <= {"printed", "digitised", "released", "secondary"}
    assert set(frame["bound"]) <= {"=", ">"}
    assert frame["value"].notna().all()
    # A digitised number states its reading error, the others have none.
    assert (frame["uncertainty"].notna() == (frame["provenance"] == "digitised")).all()
    keys = [c for c in frame if c not in ("value", "bound", "provenance", "uncertainty")]
    assert not frame.duplicated(keys).any()


def test_every_table_is_described():
    readme = (paths.data_dir() / "reported" / "README.md").read_text(encoding="utf-8")
    assert TABLES
    for table in TABLES:
        assert f"`{table}.csv`" in readme


def test_shares_of_entries_sum_to_one_hundred():
    frame = reported("tall_masks_mask_agreement")
    sums = frame.groupby(["num_tasks", "method"])["value"].sum()
    assert sums.between(98, 102).all()


def test_figures_repeat_the_table_as_the_readme_says():
    """Within the reading error for k = 2; up to 2.3 points off for the line over tasks."""
    keys = ["method", "num_tasks"]
    table = reported("tall_masks_main").query("backbone == 'ViT-B-32'").set_index(["metric", *keys])
    table = table.sort_index()
    votes = reported("tall_masks_consensus_threshold").query("k == 2").set_index(keys)
    gaps = (votes["value"] - table.loc["accuracy_percent", "value"]).dropna().abs()
    assert len(gaps) == 6 and (gaps <= votes.loc[gaps.index, "uncertainty"]).all()
    lines = reported("tall_masks_normacc_vs_num_tasks").set_index(keys)["value"]
    gaps = (lines - table.loc["normalised_accuracy_percent", "value"]).dropna().abs()
    assert round(gaps.max(), 1) == 2.3
    whole = gaps.xs(20, level="num_tasks")
    assert whole.drop("task_arithmetic").max() < 0.11 < whole["task_arithmetic"]


def test_the_second_run_agrees_with_itself():
    """The printed means are those of the released accuracies by task; one cell is 0.05 off."""
    keys = ["backbone", "num_tasks", "method"]
    means = reported("tsv_rerun_per_task").groupby(keys)["value"].mean()
    printed = reported("tsv_rerun").query("metric == 'accuracy_percent'").set_index(keys)["value"]
    assert len(means) == 24
    assert (means - printed.loc[means.index]).abs().max() < 0.1


def test_storage_follows_the_closed_formula():
    """Printed storage equals 32 (P' + F), 32 (T P' + F), 32 (2 P' + F) + T P' bits."""
    sizes = {
        ("ViT-B-32", "tall_masks_main"): (87_849_216, 25_599_489),
        ("ViT-L-14", "tall_masks_main"): (303_966_208, 38_595_841),
        ("T5-large", "tall_masks_language"): (750_251_008, 32_899_072),
    }
    for (backbone, table), (trained, frozen) in sizes.items():
        for num_tasks in reported_sizes(backbone, table):
            storage = reported_main_table(backbone, num_tasks, table)["storage_gigabit"]
            tall = 32 * (2 * trained + frozen) + num_tasks * trained
            assert storage["task_arithmetic"] == round(32 * (trained + frozen) / 1e9, 1)
            assert storage["fine_tuned"] == round(32 * (num_tasks * trained + frozen) / 1e9, 1)
            assert storage["tall_ties"] == round(tall / 1e9, 1)


def test_main_table_has_fractions_gaps_and_bounds():
    table = reported_main_table("ViT-B-32", 20)
    assert table.index[0] == "zero_shot" and table.index[-1] == "fine_tuned" and len(table) == 11
    assert table["accuracy"].between(0, 1).all()
    assert pd.isna(table.loc["fine_tuned", "normalised"])
    assert table.index[table["storage_bound"] == ">"].tolist() == ["magnitude_pruning"]


def test_sizes_are_those_with_numbers():
    assert reported_sizes("ViT-L-14") == [8, 14, 20]
    assert reported_sizes("ViT-B-16", "tsv_rerun") == [8, 14, 20]
    with pytest.raises(ReportError, match=r"tall_masks_main: unknown backbone 'ViT-B-16'"):
        reported_sizes("ViT-B-16")


def test_unknown_names_list_the_choices():
    with pytest.raises(ReportError, match="did you mean 'tall_masks_main'"):
        reported("tall_mask_main")
    with pytest.raises(ReportError, match=r"unknown backbone 'ViT-H-14'.*ViT-B-32, ViT-L-14"):
        reported_main_table("ViT-H-14")
    with pytest.raises(ReportError, match=r"unknown num_tasks 9.*8, 14, 20"):
        reported_main_table(num_tasks=9)


def test_a_file_without_a_column_is_named(tmp_path, monkeypatch):
    (tmp_path / "reported").mkdir()
    (tmp_path / "reported" / "odd.csv").write_text("paper,table,value\nx,y,1\n")
    monkeypatch.setattr(paths, "data_dir", lambda: tmp_path)
    with pytest.raises(ReportError, match=r"odd\.csv: no column backbone, num_tasks"):
        reported("odd")


CELL = {"method": "tall_ta", "num_tasks": 20, "backbone": "ViT-L-14"}


def test_a_number_with_the_error_of_reading_it():
    cell = reported_estimate("tall_masks_main", **CELL, metric="normalised_accuracy_percent")
    assert cell.value == pytest.approx(0.989)
    assert abs(cell.draws - 0.989).max() <= 0.0005  # printed to one decimal of a per cent
    low, high = cell.interval
    assert high - low == pytest.approx(0.95 * 0.001, rel=0.05)
    bits = reported_estimate("tall_masks_main", **CELL, metric="storage_gigabit")
    assert bits.value == pytest.approx(26.8) and abs(bits.draws - 26.8).max() <= 0.05
    point = reported_estimate(
        "tall_masks_consensus_threshold", method="consensus_ta", num_tasks=20, k=1
    )
    row = reported("tall_masks_consensus_threshold").query(
        "method == 'consensus_ta' and num_tasks == 20 and k == 1"
    )
    assert abs(point.draws - point.value).max() <= row["uncertainty"].item() / 100
    finer = reported_estimate(
        "tsv_rerun", method="zero_shot", num_tasks=8, backbone="ViT-B-32", metric="accuracy_percent"
    )
    assert abs(finer.draws - 0.4826).max() <= 0.00005


def test_reading_errors_are_shared_by_a_number_and_not_by_two():
    names = {"metric": "accuracy_percent", "num_tasks": 8, "backbone": "ViT-B-32"}
    one, again, other = (
        reported_estimate("tall_masks_main", method=m, **names) for m in ("ties", "ties", "tall_ta")
    )
    assert (one - again).interval == (0, 0)
    errors = [one.draws - one.value, other.draws - other.value]
    assert abs(np.corrcoef(errors)[0, 1]) < 0.15


def test_a_number_must_be_one_and_no_bound():
    with pytest.raises(ReportError, match=r"tall_masks_main: unknown column 'k'"):
        reported_estimate("tall_masks_main", k=2)
    with pytest.raises(ReportError, match=r"3 rows with method='tall_ta', num_tasks=8, backbone"):
        reported_estimate("tall_masks_main", method="tall_ta", num_tasks=8, backbone="ViT-B-32")
    with pytest.raises(ReportError, match=r"0 rows with method='nothing'.*method among .*tall_ta"):
        reported_estimate("tall_masks_main", method="nothing")
    bound = {"method": "magnitude_pruning", "metric": "storage_gigabit"}
    with pytest.raises(ReportError, match="only a bound, >"):
        reported_estimate("tall_masks_main", num_tasks=8, backbone="ViT-B-32", **bound)
