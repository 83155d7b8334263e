"""The page of a rerun: rendered by the book's engine, whole in its folder, quiet."""

import re
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mergebook.errors import ReportError
from mergebook.notebooks import Notebook, find_notebooks
from mergebook.rendering import render_page

BOOK = "https://mergebook.github.io/companion"
NAME = "tall_masks/main_table"
FOLDERS = ("_config.yml", "_toc.yml", "book", "data", "notebooks")
PYTHON = {"language_info": {"name": "python"}}
TITLE = "# A title\n\n"
# What no reader should see in prose: roles, substitutions, directives, keys of citations.
LEFT = re.compile(r"\{[a-z:]+\}`|\{\{|\}\}|```|:::|\.\. \w+::|\[[a-z]+20\d\d\w*[\],;]")


@pytest.fixture
def project(root, tmp_path, monkeypatch):
    """The book's project, by links, as the working directory."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in FOLDERS:
        (folder / name).symlink_to(root / name)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MERGEBOOK_RESULTS", raising=False)
    return folder


@pytest.fixture
def render(project, tmp_path):
    """Render cells (texts are prose) as the main table's page; the page's HTML."""

    def page(*cells, results=tmp_path / "results", expect=()):
        cells = [new_markdown_cell(cell) if isinstance(cell, str) else cell for cell in cells]
        executed = tmp_path / "main_table.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata=PYTHON), executed)
        notebook = Notebook(NAME, executed)
        flaws = render_page(notebook, {"num_tasks": [2]}, executed, results, tmp_path / "page")
        assert len(flaws) == len(expect), flaws
        assert all(part in flaw for part, flaw in zip(expect, flaws, strict=True))
        return (tmp_path / "page/index.html").read_text(encoding="utf-8")

    return page


def article(html):
    """Prose of a page as text, without code and formulas."""
    body = html[html.index("<article") : html.index("</article>")]
    body = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", body, flags=re.DOTALL)
    body = re.sub(r'<(span|div) class="math .*?</\1>', "", body, flags=re.DOTALL)
    return re.sub(r"<[^>]+>", "", body)


def table(address):
    """A cell with a table whose link is HTML already."""
    html = f'<table><tr><th><a class="x" href="{address}">TIES</a></th></tr></table>'
    output = new_output("display_data", data={"text/html": html})
    return new_code_cell("show()", outputs=[output], execution_count=1)


def test_the_page_says_what_was_run_and_where_the_book_shows_it(render):
    html = render(TITLE)
    assert "Executed with num_tasks = [2]." in re.sub("<[^>]+>", "", html)
    assert f'href="{BOOK}/executed/{NAME}.html"' in html


def test_citations_have_their_reference_on_the_page(render):
    html = render(TITLE + "As {cite}`wang2024localizing` say.")
    assert "References" in html
    assert "Localizing task information" in html
    anchor = re.search(r'href="#([\w-]+)"[^>]*>Wang', html)[1]
    assert f'id="{anchor}"' in html
    assert not LEFT.search(article(html))


def test_a_page_without_citations_has_no_empty_list(render):
    assert "References" not in render(TITLE)


@pytest.mark.parametrize(
    ("link", "address", "text"),
    [
        ("[there](../basics/what_is_merged.ipynb)", "executed/basics/what_is_merged.html", "there"),
        ("[](the_idea.ipynb)", "executed/tall_masks/the_idea.html", "The idea in pictures"),
        (
            "[T-Switch](../methods/compression/t_switch.md)",
            "executed/methods/compression/t_switch.html",
            "T-Switch",
        ),
        ("[*all*](/book/methods)", "book/methods.html", "all"),
        ("[it](../../book/how_to_read.md#words)", "book/how_to_read.html#words", "it"),
        ("[it](../../book/tall_masks/index)", "book/tall_masks/index.html", "it"),
        ("{doc}`../../book/glossary`", "book/glossary.html", "Glossary"),
    ],
)
def test_links_to_other_pages_lead_to_the_published_book(render, link, address, text):
    html = render(TITLE + link)
    shown = re.search(rf'<a[^>]*href="{BOOK}/{address}"[^>]*>(.*?)</a></p>', html)
    assert re.sub("<.*?>", "", shown[1]) == text


def test_a_link_to_no_page_is_told(render):
    render(TITLE + "[there](../basics/no.ipynb)", expect=["target not found: '../basics/no.ipynb'"])


def test_links_within_the_page_stay(render):
    html = render(TITLE + "[down](#the-end)\n\n(the-end)=\n## The end", table("#the-end"))
    assert html.count('href="#the-end"') >= 2


def test_links_in_tables_lead_to_the_published_book(render):
    html = render(TITLE, table("../methods/ties.html#storage"))
    assert f'<a class="x" href="{BOOK}/executed/methods/ties.html#storage">' in html
    assert '<a class="x" href="https://arxiv.org/abs/1">' in render(
        TITLE, table("https://arxiv.org/abs/1")
    )


def test_prose_asks_the_results_of_the_run(render, tmp_path, monkeypatch):
    path = tmp_path / "mine" / NAME / "summary.csv"
    path.parent.mkdir(parents=True)
    pd.DataFrame({"num_tasks": [2], "accuracy": [0.125]}).to_csv(path, index=False)
    query = '{{{{ here("tall_masks/main_table/summary", "accuracy", num_tasks={}) }}}}'
    prose = f"{TITLE}Found {query.format(2)}; of eight tasks {query.format(8)}."
    text = article(render(prose, results=tmp_path / "mine"))
    assert "Found 12.5\N{NARROW NO-BREAK SPACE}%; of eight tasks —." in text


def test_a_wrong_query_of_a_committed_run_is_told(render):
    render(TITLE + '{{ full("tall_masks/no", "x") }}', expect=["unknown table 'tall_masks/no'"])


def test_formulas_are_set_without_a_network(render, tmp_path):
    html = render(TITLE + "Where $\\lambda=0$ we have\n\n$$a=b$$")
    scripts = re.findall(r'<script[^>]*src="([^"]+)"', html)
    mathjax = [script for script in scripts if "mathjax" in script]
    assert mathjax
    assert (tmp_path / "page" / mathjax[0].partition("?")[0]).is_file()
    assert list((tmp_path / "page/_static/mathjax/output/chtml/fonts").rglob("*.woff"))


def test_the_page_is_whole_and_small(render, tmp_path):
    html = render(TITLE + "Text, $a$ and {cite}`wang2024localizing`.", table("x.html"))
    page = tmp_path / "page"
    sources = re.findall(r'<(?:script|img)[^>]*src="([^"]+)"', html)
    sources += re.findall(r'<link[^>]*href="([^"]+)"', html)
    assert sources
    for source in sources:
        if not source.startswith(("data:", f"{BOOK}/")):
            assert (page / unquote(source.partition("?")[0])).is_file(), source
    assert not re.search(r'<(script|img)[^>]*src="https?:', html)
    assert sum(file.stat().st_size for file in page.rglob("*") if file.is_file()) < 12e6
    assert str(tmp_path) not in html
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "main_table.ipynb", "page", "project",
    ]  # fmt: skip


def test_the_sidebar_is_the_published_books(render):
    html = render(TITLE)
    sidebar = html[html.index("bd-sidebar-primary") : html.index("<main")]
    for page in ("book/glossary", "book/tall_masks/index", "executed/tall_masks/the_idea"):
        assert f"{BOOK}/{page}.html" in sidebar
    assert "search" not in sidebar


def test_a_book_that_is_not_published_has_no_links(render, project):
    (project / "_config.yml").unlink()
    (project / "_config.yml").write_text("title: A book\n")
    html = render(TITLE + "See [there](../basics/what_is_merged.ipynb).")
    assert "See there." in article(html)
    assert "mergebook.github.io" not in html


def test_a_broken_configuration_is_one_error_and_keeps_the_page(render, project, tmp_path):
    before = render(TITLE)
    (project / "_config.yml").unlink()
    (project / "_config.yml").write_text("sphinx: {extra_extensions: [no_such_thing]}\n")
    with pytest.raises(ReportError, match=r"executed/tall_masks/main_table .*no_such_thing"):
        render(TITLE)
    assert (tmp_path / "page/index.html").read_text(encoding="utf-8") == before
    assert not list(tmp_path.glob(".rendering*"))


@pytest.mark.parametrize("name", find_notebooks())
def test_the_prose_of_every_notebook_is_rendered(name, project, tmp_path):
    notebook = find_notebooks()[name]
    flaws = render_page(notebook, {}, notebook.path, tmp_path / "none", tmp_path / "page")
    text = article((tmp_path / "page/index.html").read_text(encoding="utf-8"))
    found = [text[max(0, m.start() - 40) : m.end() + 40] for m in LEFT.finditer(text)]
    assert found == []
    # The notebook is not executed here, so that what it glues is missing.
    assert [flaw for flaw in flaws if "[mystnb.glue]" not in flaw] == []


@pytest.mark.parametrize("name", ["atlas/leaderboard", "benchmark/tasks", NAME])
def test_an_executed_notebook_leaves_no_markup(name, project, tmp_path, smoke_project):
    notebook, page = find_notebooks()[name], tmp_path / "page"
    executed = smoke_project / "executed" / f"{name}.ipynb"
    assert render_page(notebook, {}, executed, smoke_project / "results", page) == []
    text = article((page / "index.html").read_text(encoding="utf-8"))
    found = [text[max(0, m.start() - 40) : m.end() + 40] for m in LEFT.finditer(text)]
    assert found == []
