"""Pages of the methods: written from the registry, in Markdown that the book can render."""

import re

import pytest

import mergebook as mb
from mergebook.paths import project_dir
from mergebook.registry import FAMILIES
from mergebook.report import methods
from mergebook.report.board import BLOCKS
from mergebook.report.method_numbers import numbers_table

BIB = re.compile(r"^@\w+\{(\w+),", re.MULTILINE)


@pytest.fixture(scope="module")
def keys(root):
    return set(BIB.findall((root / "book" / "references.bib").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", mb.list_methods())
def test_every_method_has_a_page(name, keys):
    method, page = mb.get_method(name), methods.method_page(name)
    assert page.startswith(f"(method-{name})=\n# {method.title}\n")
    assert set(re.findall(r"\{cite\}`([^`]+)`", page)) <= keys, "citations are in references.bib"
    for each in method.parameters:
        assert f"| `{each.name}` | `{each.default}` |" in page
    assert methods.TOLD[method.told] in page
    assert "====" not in page
    assert page.count("$$") % 2 == 0
    code = page.split("```python\n")[1].split("```")[0]
    compile(code, name, "exec")
    assert max(map(len, code.splitlines())) <= methods.CODE_WIDTH
    assert (project_dir() / methods.source_of(method)).is_file()


def test_the_list_has_every_method_once_in_its_block():
    text = methods.methods_list()
    sections = dict(zip(BLOCKS, text.split("\n## ")[-len(BLOCKS) :], strict=True))
    for name in mb.list_methods():
        method = mb.get_method(name)
        link = f"/executed/methods/{method.family}/{name})"
        assert text.count(link) == sections[method.told].count(link) == 1
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 * len(BLOCKS) + len(mb.list_methods())
    assert {line.count(" | ") for line in rows} == {6}


def test_rows_of_a_list_come_best_first():
    rows = methods.methods_table(["zero_shot", "averaging", "cart"]).splitlines()
    titles = [line.split("]")[0].removeprefix("| [") for line in rows if line.startswith("| [")]
    assert titles == ["CART", "Weight averaging", "Zero-shot"]


def test_families_are_described_and_in_the_sidebar(root):
    assert set(methods.FAMILY_TEXTS) == set(FAMILIES)
    toc = (root / "_toc.yml").read_text(encoding="utf-8")
    for family in FAMILIES:
        assert f"- file: {methods.FOLDER}/{family}\n" in toc
        assert f"- glob: {methods.FOLDER}/{family}/*\n" in toc


def test_reported_and_measured_numbers_have_columns_of_their_own():
    lines = numbers_table("tall_ta")
    cells = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines[2:-2]]
    heads, _, *rows = cells
    assert heads[:-1] == ["tasks", "measured", "mean of 3 sets"]
    assert heads[-1].startswith("reported, ViT-B/32")
    assert [row[0] for row in rows] == ["8", "14", "20", "14 real images", "8 texts"]
    assert all(" to " in row[1] and "±" in row[2] for row in rows)
    assert [row[3] for row in rows] == ["99.7", "99.1", "99.2", "—", "—"]
    assert "{cite}`wang2024localizing`" in heads[-1]
    assert not any("reported" in line for line in numbers_table("emr"))


def test_a_table_of_plain_accuracies_is_labelled_so():
    lines = numbers_table("cart")
    heads = next(line for line in lines if line.startswith("| tasks")).strip("| ").split(" | ")
    column = heads.index("reported, plain accuracy, ViT-B/32, {cite}`choi2024cart`")
    [row] = (line for line in lines if line.startswith("| 8 |"))
    assert row.strip("| ").split(" | ")[column] == "84.7"
    assert "not relative to the experts'" in lines[-1]


def test_pages_of_methods_that_are_gone_are_removed(tmp_path):
    (tmp_path / "compression").mkdir()
    for gone in ("gone.md", "compression/gone.md", "compression/gone.png"):
        (tmp_path / gone).write_text("old")
    written = methods.write_pages(tmp_path)
    assert sorted(path for path in tmp_path.rglob("*.*")) == sorted(written)
    pages = {path.stem for path in tmp_path.glob("*/*.md")}
    assert pages == set(mb.list_methods())
    assert {path.stem for path in tmp_path.glob("*.md")} == set(FAMILIES)
    assert {path.stem for path in tmp_path.glob("*/*.png")} == pages
