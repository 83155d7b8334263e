import re

import pandas as pd
import pytest

from mergebook.errors import ReportError
from mergebook.registry import get_method
from mergebook.report import by_source, folded, grid, html_table, listing, main_tables
from mergebook.report.tables import side_by_side

MINE = "Measured (mini scale, mini-small)"
PRINTED = "Reported (paper, ViT-B/32)"
PAPER_SCALE = "Measured (paper scale, ViT-B/32)"


def test_reported_and_measured_stay_apart(results):
    table = side_by_side(results)
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == [PRINTED, MINE]
    row = table.loc[get_method("task_arithmetic").title]
    assert row[PRINTED, "Accuracy, %"] == "70.8"
    assert row[MINE, "Accuracy, %"] == "76.0"  # mean of 70, 80 and of 72, 82
    assert row[MINE, "Storage"] == "20.0 Mbit"
    assert row[MINE, "Storage, % of experts"] == "12.5"


def test_what_was_not_measured_is_not_filled_in(results):
    table = side_by_side(results)
    assert (table.loc[get_method("ties").title, MINE] == "—").all()
    assert table.loc[get_method("fine_tuned").title, (PRINTED, "Normalised, %")] == "—"
    assert PAPER_SCALE not in table, "a column for what nobody ran says nothing"


def test_a_lower_bound_keeps_its_sign(results):
    row = side_by_side(results).loc[get_method("magnitude_pruning").title, PRINTED]
    assert row["Storage"] == ">7.1 Gbit"
    assert row["Storage, % of experts"].startswith(">")


def test_paper_scale_results_are_shown_once_they_exist(results):
    full = results.assign(scale="paper", backbone="ViT-B-32")
    table = side_by_side(pd.concat([results, full]))
    assert table.loc[get_method("task_arithmetic").title, (PAPER_SCALE, "Accuracy, %")] == "76.0"


def test_a_size_without_reported_numbers_has_no_such_columns(results):
    table = side_by_side(results.assign(num_tasks=3), num_tasks=3)
    assert PRINTED not in table
    assert table.loc[get_method("task_arithmetic").title, (MINE, "Accuracy, %")] == "76.0"


def test_other_tasks_than_the_papers_have_no_reported_columns(results):
    assert PRINTED in side_by_side(results.assign(suite="mini"))
    assert PRINTED not in side_by_side(results.assign(suite="real14"))


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
    assert "<caption>a &#34;caption&#34;</caption>" in html


def test_html_of_a_table_without_groups():
    html = html_table(pd.DataFrame({"a": ["1"]}, index=["r"]).rename_axis("x"), caption="c").data
    assert '<thead><tr><th scope="col">x</th><th scope="col">a</th></tr></thead>' in html


def test_tables_are_folded_under_their_title():
    table = html_table(pd.DataFrame({"a": ["1"]}), caption="one")
    html = folded("two & more", [table, table]).data
    assert "<summary>two &amp; more</summary>" in html
    assert html.count(table.data) == 2


LONG = pd.DataFrame(
    {
        "method": ["ties", "ties", "averaging", "averaging"],
        "num_tasks": [8, 20, 8, 20],
        "accuracy": [0.5, 0.25, 0.125, float("nan")],
        "accuracy_low": [0.4, 0.2, 0.1, float("nan")],
        "accuracy_high": [0.6, 0.3, 0.2, float("nan")],
        "metric": "accuracy_percent",
    }
)


def test_a_grid_has_titles_and_the_mean_of_what_falls_together():
    table = grid(LONG, rows="method", columns="num_tasks", value="accuracy")
    assert list(table.columns) == ["8 tasks", "20 tasks"]
    assert list(table.index) == [get_method("ties").title, get_method("averaging").title]
    assert table.iloc[0].tolist() == ["50.0", "25.0"]
    assert table.iloc[1].tolist() == ["12.5", "—"]
    both = grid(pd.concat([LONG, LONG.assign(accuracy=0.7)]), rows="method",
                columns=["metric", "num_tasks"], value="accuracy", form=".2f")  # fmt: skip
    assert both.columns[0] == ("Accuracy, %", "8 tasks")
    apart = pd.concat([LONG.assign(source="a"), LONG.assign(source="b")])
    pairs = grid(apart, rows="method", columns=["num_tasks", "source"], value="accuracy")
    assert [group for group, _ in pairs.columns] == ["8 tasks", "8 tasks", "20 tasks", "20 tasks"]
    assert both.iloc[0, 0] == "0.60"


def test_a_listing_shows_intervals_where_there_are_some():
    table = listing(LONG, {"Accuracy, %": ("accuracy", "cell"), "What": ("metric", "")})
    assert table["Accuracy, %"].tolist()[:2] == ["50.0 (40.0 to 60.0)", "25.0 (20.0 to 30.0)"]
    assert table["Accuracy, %"].tolist()[3] == "—"
    assert table["What"].iloc[0] == "accuracy_percent"


def test_sources_stand_side_by_side():
    one = grid(LONG, rows="method", columns="num_tasks", value="accuracy")
    joined = by_source({"Here": one, "There": one.iloc[:1]})
    assert joined.loc[one.index[1], ("There", "8 tasks")] == "—"
    assert joined.loc[one.index[0], ("Here", "8 tasks")] == "50.0"


def test_main_tables_are_one_for_each_backbone_and_size(results):
    results = results[results["num_tasks"] == 8]
    both = pd.concat([results, results.assign(backbone="mini-large")])
    assert list(main_tables(both)) == ["mini-small, 8 tasks", "mini-large, 8 tasks"]


def test_a_heading_stands_above_the_first_row_of_each_section():
    frame = pd.DataFrame({"a": list("123"), "b": list("456")}, index=["p", "q", "r"])
    html = html_table(frame, caption="c", sections={"p": "one & all", "q": "one & all", "r": "two"})
    parts = re.findall(r'scope="row(group" colspan="3|)">([^<]*)', html.data)
    assert [text for _, text in parts] == ["one &amp; all", "p", "q", "two", "r"]
    assert [bool(mark) for mark, _ in parts] == [True, False, False, True, False]
