"""Pages of the methods: written from the registry, in Markdown that the book can render."""

import re

import pytest

import mergebook as mb
from mergebook.report import methods

BIB = re.compile(r"^@\w+\{(\w+),", re.MULTILINE)


@pytest.fixture(scope="module")
def keys(root):
    return set(BIB.findall((root / "book" / "references.bib").read_text(encoding="utf-8")))


def test_docstrings_become_markdown():
    text = (
        "Uses :math:`x_t` and ``code`` of :func:`mergebook.merge`, see [yadav2023ties, eq. 2].\n\n"
        ".. math::\n\n    a = b\n\n    c = d\n\n.. math:: e\n    = f\n\nAfter [yadav2023ties]_."
    )
    assert methods.to_markdown(text) == (
        "Uses $x_t$ and `code` of `merge`, see {cite}`yadav2023ties` (eq. 2).\n\n"
        "$$\na = b\n\nc = d\n$$\n\n$$\ne\n= f\n$$\n\nAfter {cite}`yadav2023ties`."
    )


def test_citations_say_where_also_across_lines():
    text = "As [yadav2023ties,\nreleased code] and [wei2025doge; a port, by an author]."
    assert methods.to_markdown(text) == (
        "As {cite}`yadav2023ties` (released code) and {cite}`wei2025doge` (a port, by an author)."
    )


def test_formulas_stay_in_their_list():
    text = "1. One.\n2. On\n\n   .. math:: a\n       + b\n\n3. Three."
    assert methods.to_markdown(text) == (
        "1. One.\n2. On\n\n   $$\n   a\n   + b\n   $$\n\n3. Three."
    )


def test_tables_become_markdown():
    rule = "=====  ==========="
    rows = ["Forms:", "", rule, "form   formula", rule, "one    :math:`x`", "two    a b", rule, ""]
    text = "\n".join([*rows, "End."])
    expected = "Forms:\n\n| form | formula |\n| --- | --- |\n| one | $x$ |\n| two | a b |\n\nEnd."
    assert methods.to_markdown(text) == expected


def test_sections_of_a_docstring():
    parts = methods.sections(
        "One.\n\nTwo.\n\nParameters\n----------\na : int\n\nNotes\n-----\nN.\n"
    )
    assert parts == {"": "One.\n\nTwo.", "Parameters": "a : int", "Notes": "N."}


@pytest.mark.parametrize("name", mb.list_methods())
def test_every_method_has_a_page(name, keys):
    method, page = mb.get_method(name), methods.method_page(name)
    assert page.startswith(f"(method-{name})=\n# {method.title}\n")
    assert set(re.findall(r"\{cite\}`([^`]+)`", page)) <= keys, "citations are in references.bib"
    for each in method.parameters:
        assert f"| `{each.name}` | `{each.default}` |" in page
    assert not re.search(r":\w+:`|^ *\.\. |====", page, re.MULTILINE), "reStructuredText is left"
    assert not re.search(r"\[[a-z]+\d{4}[a-z]+", page), "the key of a citation is left"
    assert page.count("$$") % 2 == 0
    code = page.split("```python\n")[1].split("```")[0]
    compile(code, name, "exec")


def test_the_table_has_every_method_once():
    table = methods.methods_table()
    for name in mb.list_methods():
        assert table.count(f"/executed/methods/{name})") == 1
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(mb.list_methods())
    assert {line.count(" | ") for line in rows} == {7}


def test_pages_of_methods_that_are_gone_are_removed(tmp_path):
    (tmp_path / "gone.md").write_text("old")
    written = methods.write_pages(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert {path.stem for path in written} == set(mb.list_methods())
