"""How numbers look, and how pages ask for them."""

import pickle
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergebook.errors import ReportError
from mergebook.report.numbers import FORMS, MINUS, Number, between, shown
from mergebook.report.queries import QUERIES, Run, ask, table

FRAME = pd.DataFrame(
    {
        "method": ["ties", "ties", "cart", "cart"],
        "seed": [0, 1, 0, 1],
        "accuracy": [0.5, 0.7, 0.9, 0.8],
        "note": ["a", "b", "c", "d"],
    }
)


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (0.984, "percent", "98.4\N{NARROW NO-BREAK SPACE}%"),
        (0.984, "cell", "98.4"),
        (-0.095, "points", "−9.5 points"),
        (0.01, "points", "1.0 point"),
        (0.095, "signed points", "+9.5 points"),
        (0.095, "change", "rises by 9.5 points"),
        (-0.095, "change", "falls by 9.5 points"),
        (-0.00004, "change", "changes by less than 0.1 points"),
        (-0.00004, "signed", "0.0"),
        (-0.00004, "cell", "0.0"),
        (float("nan"), "cell", "—"),
        (-3.14159, "+.2f", "−3.14"),
        (-0.001, "+.2f", "0.00"),
        (3, "d", "3"),
        (-1e-12, "g", "−1e−12"),
    ],
)
def test_forms(value, form, text):
    assert shown(value, form) == text


@given(st.floats(-2, 2), st.sampled_from(sorted(FORMS)), st.integers(0, 3))
def test_no_hyphen_and_no_sign_before_zero(value, form, digits):
    text = shown(value, form, digits)
    assert "-" not in text
    number = re.search(rf"[+{MINUS}]?\d+(\.\d+)?", text)[0]
    assert float(number.lstrip("+" + MINUS)) or number[0].isdigit()


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_numbers_calculate_like_floats_and_keep_their_form(one, other):
    a, b = Number(one, "points"), Number(other, "points")
    for found, value in ((a - b, one - other), (a + b, one + other), (-a, -one), (1 - a, 1 - one)):
        assert (float(found), found.form) == (value, "points")
        assert str(found) == shown(value, "points")
    assert (a - b).text("change") == shown(one - other, "change")


def test_an_unknown_form_names_the_known_ones():
    with pytest.raises(ReportError, match=r"no form 'percentage' .* signed points"):
        shown(0.5, "percentage")
    assert between(0.1, -0.2) == "10.0 to −20.0"


def test_one_row_is_found():
    assert ask(FRAME, "t", "accuracy", {"method": "ties", "seed": 1}) == 0.7
    assert ask(FRAME, "t", "note", {"method": "cart", "seed": 0}) == "c"
    assert ask(FRAME, "t", "accuracy", {"method": "ties"}, "seed") == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("row", "mean", "message"),
    [
        ({"method": "ties"}, (), r"t: 2 rows with method='ties', expected one; .*seed, note"),
        ({"method": "tie", "seed": 0}, (), r"no row .* method among cart, ties"),
        ({"method": "ties", "seed": 3}, (), r"no row .* seed among 0, 1"),
        ({"methods": "ties"}, (), r"unknown column 'methods'; did you mean 'method'"),
        ({}, ["method"], r"2 of 4 rows with any row repeat method"),
    ],
)
def test_other_rows_are_refused(row, mean, message):
    with pytest.raises(ReportError, match=message):
        ask(FRAME, "t", "accuracy", row, mean)


def test_a_run_reads_its_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MERGEBOOK_RESULTS", str(tmp_path))
    path = tmp_path / "cart/main_table/summary.csv"
    path.parent.mkdir(parents=True)
    FRAME.to_csv(path, index=False)
    here = pickle.loads(pickle.dumps(QUERIES))["here"]
    table = "cart/main_table/summary"
    assert str(here(table, "accuracy", method="cart", seed=1)) == shown(0.8)
    assert str(here(table, "seed", "d", method="cart", accuracy=0.8)) == "1"
    with pytest.raises(ReportError, match=r"this build: unknown table .* mean 'cart/main_table/s"):
        here("cart/main_table/sumary", "accuracy")


def test_committed_runs_and_papers_answer():
    full = QUERIES["full"]
    row = {"method": "tall_ta", "backbone": "mini-small", "num_tasks": 8}
    found = full("tall_masks/main_table/per_task", "normalised", mean=["task", "seed"], **row)
    frame = pd.read_csv("data/measured/full/tall_masks/main_table/per_task.csv")
    for key, value in row.items():
        frame = frame[frame[key] == value]
    assert float(found) == pytest.approx(frame["normalised"].mean())
    paper = QUERIES["reported"]("tall_masks_main", "accuracy_percent", method="tall_ta",
                                num_tasks=8, backbone="ViT-B-32")  # fmt: skip
    assert 0.9 < float(paper) < 1
    assert Run("full") == full


def test_a_row_may_be_named_by_a_column_called_form():
    name = "cart/rank_sweep/lines"
    lines = pd.read_csv(f"data/measured/full/{name}.csv")
    lines = lines.set_index(["form", "rank", "num_tasks"])["normalised"]
    for form in ("centred", "uncentred"):
        found = QUERIES["full"](name, "normalised", form=form, rank=0.08, num_tasks=8)
        assert float(found) == lines[form, 0.08, 8]


def test_a_table_of_queries_has_a_link_per_method_and_a_column_per_setting():
    columns = {
        "8 tasks": {"run": "full", "backbone": "mini-small", "num_tasks": 8},
        "20": {"run": "full", "backbone": "mini-small", "num_tasks": 20},
    }
    name, mean = "tall_masks/main_table/per_task", ["task", "seed"]
    methods = ["ties", "tall_ta"]
    text = table(name, "normalised", methods=methods, columns=columns, mean=mean)
    head, rule, first, second = text.splitlines()
    assert head == "| Method | 8 tasks | 20 |"
    assert rule.count("---") == 3
    full = QUERIES["full"]
    row = {"method": "ties", "backbone": "mini-small", "num_tasks": 8}
    assert f"| {full(name, 'normalised', 'cell', mean=mean, **row)} |" in first
    assert "](/executed/methods/compression/tall_ta)" in second
    share = table(name, "storage_gigabit", methods=["fine_tuned"], columns=columns, mean=mean,
                  over="fine_tuned")  # fmt: skip
    assert share.splitlines()[2].endswith("| 100.0 | 100.0 |")
    with pytest.raises(ReportError, match="unknown run 'ful'; did you mean 'full'"):
        table(name, "normalised", methods=["ties"], columns={"a": {"run": "ful"}})
