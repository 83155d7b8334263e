import pandas as pd
import pytest

from mergebook.errors import ReportError
from mergebook.registry import get_method
from mergebook.report import folded, html_table, side_by_side

MINE = "Measured (mini scale, mini-small)"
PRINTED = "Reported (paper, ViT-B/32)"
PAPER_SCALE = "Measured (paper scale, ViT-B/32)"


def test_reported_and_measured_stay_apart(results):
    table = side_by_side(results)
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == [PRINTED, MINE, PAPER_SCALE]
    row = table.loc[get_method("task_arithmetic").title]
    assert row[PRINTED, "Accuracy, %"] == "70.8"
    assert row[MINE, "Accuracy, %"] == "76.0"  # mean of 70, 80 and of 72, 82
    assert row[MINE, "Storage"] == "20.0 Mbit"
    assert row[MINE, "Storage, % of experts"] == "12.5"


def test_what_was_not_measured_is_not_filled_in(results):
    table = side_by_side(results)
    assert (table.loc[get_method("ties").title, MINE] == "—").all()
    assert table.loc[get_method("fine_tuned").title, (PRINTED, "Normalised, %")] == "—"
    assert (table[PAPER_SCALE] == "not yet run").all(axis=None)


def test_a_lower_bound_keeps_its_sign(results):
    row = side_by_side(results).loc[get_method("magnitude_pruning").title, PRINTED]
    assert row["Storage"] == ">7.1 Gbit"
    assert row["Storage, % of experts"].startswith(">")


def test_paper_scale_results_are_shown_once_they_exist(results):
    full = results.assign(scale="paper", backbone="ViT-B-32")
    table = side_by_side(pd.concat([results, full]))
    assert table.loc[get_method("task_arithmetic").title, (PAPER_SCALE, "Accuracy, %")] == "76.0"


def test_a_size_without_reported_numbers_says_so(results):
    table = side_by_side(results.assign(num_tasks=3), num_tasks=3)
    assert (table[PRINTED] == "not reported").all(axis=None)
    assert table.loc[get_method("task_arithmetic").title, (MINE, "Accuracy, %")] == "76.0"


def test_a_backbone_stands_beside_its_counterpart(results):
    table = side_by_side(results.assign(backbone="mini-large"), backbone="mini-large")
    assert "Reported (paper, ViT-L/14)" in table


def test_missing_results_are_refused(results):
    with pytest.raises(ReportError, match="unknown result 'mini-small with 20 tasks'"):
        side_by_side(results, num_tasks=20)
    with pytest.raises(ReportError, match="no column accuracy"):
        side_by_side(results.drop(columns="accuracy"))
    cut = results.drop(
        results.index[(results["method"] == "tall_ta") & (results["task"] == "digits")]
    )
    with pytest.raises(ReportError, match="results of tall_ta at 8 tasks lack tasks"):
        side_by_side(cut)


def test_html_is_accessible_and_escaped():
    frame = pd.DataFrame(
        {("g<1>", "a"): ["1"], ("g<1>", "b"): ["2"], ("h", "a"): ["<b>"]}, index=["r"]
    )
    html = html_table(frame.rename_axis("Method"), caption='a "caption"').data
    assert '<th scope="colgroup" colspan="2" class="start">g&lt;1&gt;</th>' in html
    assert '<th scope="col" rowspan="2">Method</th>' in html
    assert (
        '<th scope="row">r</th><td class="start">1</td><td>2</td><td class="start">&lt;b&gt;</td>'
        in html
    )
    assert "<caption>a &quot;caption&quot;</caption>" in html


def test_html_of_a_table_without_groups():
    html = html_table(pd.DataFrame({"a": ["1"]}, index=["r"]).rename_axis("x"), caption="c").data
    assert '<thead><tr><th scope="col">x</th><th scope="col">a</th></tr></thead>' in html


def test_tables_are_folded_under_their_title():
    table = html_table(pd.DataFrame({"a": ["1"]}), caption="one")
    html = folded("two & more", [table, table]).data
    assert "<summary>two &amp; more</summary>" in html
    assert html.count(table.data) == 2
