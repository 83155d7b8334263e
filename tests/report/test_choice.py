"""Which method should I use? The leaves name what the committed leaderboard says."""

import re

import pytest

import mergebook as mb
from mergebook.errors import ReportError
from mergebook.report import choice
from mergebook.report.board import boards
from mergebook.report.measured import measured

LEAVES = {leaf.key: leaf for leaf in choice.leaves()}


def test_leaves_have_names_of_their_own():
    assert len(LEAVES) == len(list(choice.leaves())) == 10
    assert len({leaf.title for leaf in LEAVES.values()}) == len(LEAVES)


@pytest.mark.parametrize("key", LEAVES)
def test_a_leaf_names_the_best_two_that_it_allows(key):
    leaf = LEAVES[key]
    drawn = measured("full/atlas/leaderboard/summary")
    drawn = drawn[(drawn["num_tasks"] == leaf.num_tasks) & (drawn["seed"] == 0)]
    drawn = drawn.set_index("method")
    others = [board for run, board in boards().items() if run != "full"]
    others = [board[board["seed"] == 0].set_index("method")["normalised"] for board in others]
    one = drawn.loc["zero_shot", "storage_gigabit"]
    scores = {}
    for name in mb.list_methods():
        method = mb.get_method(name)
        if method.family == "reference" or method.told != leaf.told:
            continue
        if set(method.needs) - set(leaf.given):
            continue
        if drawn.loc[name, "storage_gigabit"] <= leaf.models * one:
            parts = [drawn.loc[name, "normalised"], *(other[name] for other in others)]
            scores[name] = sum(parts) / len(parts)
    top = sorted(scores, key=scores.get, reverse=True)[:2]
    assert list(choice.best(leaf).index[:2]) == top
    section = choice.leaf_section(leaf)
    assert re.findall(r"^\| \[[^\]]+\]\(\S+/(\w+)\)", section, re.MULTILINE) == top
    assert f"--method {top[0]} " in section


def test_a_command_has_three_lines_that_the_command_line_takes(tmp_path, monkeypatch):
    for name in ("cart", "surgery"):
        lines = choice.command(name).splitlines()
        assert len(lines) == 3
        assert all(line.endswith("\\") for line in lines[:2])
        assert ("--suite" in lines[0]) == bool(mb.get_method(name).needs)


def test_the_tree_names_every_leaf_and_its_methods():
    page = choice.choice_page()
    for key, leaf in LEAVES.items():
        assert page.count(f"(choice-{key})=\n") == 1
        assert page.count(f"](choice-{key}) ") == 2
        assert f"### {leaf.title}\n" in page


def test_a_leaf_without_two_methods_is_refused():
    leaf = choice.Leaf("none", "Nothing fits", "guessed", (), 1, 8)
    with pytest.raises(ReportError, match="Nothing fits: 0 methods"):
        choice.best(leaf)
