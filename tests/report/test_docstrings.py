"""Docstrings become Markdown that the book can render."""

import re

import pytest

import mergebook as mb
from mergebook.report.docstrings import minus, sections, to_markdown


def test_formulas_roles_literals_and_citations():
    text = (
        "Uses :math:`x_t` and ``code`` of :func:`mergebook.merge`, see [yadav2023ties, eq. 2].\n\n"
        ".. math::\n\n    a = b\n\n    c = d\n\n.. math:: e\n    = f\n\nAfter [yadav2023ties]_."
    )
    assert to_markdown(text) == (
        "Uses $x_t$ and `code` of `merge`, see {cite}`yadav2023ties` (eq. 2).\n\n"
        "$$\na = b\n\nc = d\n$$\n\n$$\ne\n= f\n$$\n\nAfter {cite}`yadav2023ties`."
    )


def test_a_formula_stays_in_its_list():
    text = "1. First, on\n\n   .. math:: a\n       - b\n\n2. Second.\n"
    assert to_markdown(text) == "1. First, on\n\n   $$\n   a\n   - b\n   $$\n\n2. Second."


@pytest.mark.parametrize("separator", [", ", "; ", ",\n    ", ";\n"])
def test_notes_of_citations_may_stand_on_another_line(separator):
    assert to_markdown(f"See [wei2025doge{separator}code, by\n an author].") == (
        "See {cite}`wei2025doge` (code, by an author)."
    )


def test_tables():
    rule = "=====  ==========="
    rows = ["Forms:", "", rule, "form   formula", rule, "one    :math:`x`", "two    a b", rule, ""]
    text = "\n".join([*rows, "End."])
    expected = "Forms:\n\n| form | formula |\n| --- | --- |\n| one | $x$ |\n| two | a b |\n\nEnd."
    assert to_markdown(text) == expected


def test_sections_of_a_docstring():
    parts = sections("One.\n\nTwo.\n\nParameters\n----------\na : int\n\nNotes\n-----\nN.\n")
    assert parts == {"": "One.\n\nTwo.", "Parameters": "a : int", "Notes": "N."}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from -1 to 1", "from −1 to 1"),
        ("[-0.5, 2]", "[−0.5, 2]"),
        ("T(P' - L) and 1 / (1 - p)", "T(P' − L) and 1 / (1 − p)"),
        ("$x-1$ and `a -1` and ``b -1``", "$x-1$ and `a -1` and ``b -1``"),
        ("ViT-B-32, data-free, top-1, one - two", "ViT-B-32, data-free, top-1, one - two"),
        ("a well-known 2-3 rule", "a well-known 2-3 rule"),
    ],
)
def test_hyphens_that_mean_minus(text, expected):
    assert minus(text) == expected


@pytest.mark.parametrize("name", mb.list_methods())
def test_nothing_of_the_old_markup_is_left(name):
    parts = sections(mb.get_method(name).doc)
    for text in (to_markdown(parts[""]), to_markdown(parts.get("Notes", ""))):
        prose = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`", "", text, flags=re.DOTALL)
        assert not re.search(r"\.\. \w+::|:\w+:`|\]_|\[[a-z]+\d{4}", text), text
        assert not re.search(r"(?<![\w−])-\d", prose), prose
        assert text.count("$$") % 2 == 0
