"""The built pages as files: no markup that nobody rendered, no picture without a text, no weight.

Markup that should have become something else is looked for in what a reader reads as prose: code
and formulas are left out.
"""

import re

import pytest
from bs4 import BeautifulSoup

LIMIT = 1_500_000  # bytes of HTML in a page
LEFTOVERS = {
    "directive": re.compile(r"\.\. [\w-]+::"),
    "citation key": re.compile(r"\[[a-z]+\d{4}[a-z]+"),
    "role": re.compile(r"\{[a-z]+(?::[a-z]+)*\}"),
    "docstring role": re.compile(r":(?:[a-z]+:)?(?:math|func|class|data|mod|meth|attr|ref|doc):"),
    "query": re.compile(r"\{\{|\}\}"),
}
HYPHEN_FOR_MINUS = re.compile(r"(?<![\w.)])-\d")
NOT_PROSE = "pre, code, script, style, .math, mjx-container"


@pytest.fixture(scope="session")
def articles(html, every_page):
    """The article of each page, without what is no prose."""
    found = {}
    for page in every_page:
        soup = BeautifulSoup((html / page).read_text(encoding="utf-8"), "html.parser")
        article = soup.select_one("article") or soup
        for element in article.select(NOT_PROSE):
            element.decompose()
        found[page] = article
    return found


def found_in(articles, search):
    """What a search finds on each page that has some."""
    hits = {page: search(article) for page, article in articles.items()}
    return {page: hit[:5] for page, hit in hits.items() if hit}


@pytest.mark.parametrize("kind", LEFTOVERS)
def test_no_markup_is_left(articles, kind):
    assert found_in(articles, lambda article: LEFTOVERS[kind].findall(article.get_text())) == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("directive", "as in .. math:: a = b"),
        ("citation key", "The method [wei2025doge; eq. 2]"),
        ("citation key", "[wang2024localizing, sec. 5]"),
        ("role", "gains {glue:text}`x` points"),
        ("role", "as {cite} says"),
        ("docstring role", "with :math:`x`"),
        ("docstring role", "see :py:func:`merge`"),
        ("query", 'about {{ full("a", "b") }}'),
    ],
)
def test_leftovers_are_recognised(kind, text):
    assert LEFTOVERS[kind].search(text)


@pytest.mark.parametrize(
    "text",
    ["[Yadav et al., 2023a]", "[1]", "a set {1, 2} of two", "ratio 3:2", "[OMZ24]", "{ } empty"],
)
def test_prose_is_no_leftover(text):
    assert [kind for kind, pattern in LEFTOVERS.items() if pattern.search(text)] == []


def cells_with_hyphens(article):
    texts = [cell.get_text() for cell in article.select("td, th")]
    return [text.strip() for text in texts if HYPHEN_FOR_MINUS.search(text)]


def test_negative_numbers_in_tables_have_a_minus_sign(articles):
    assert found_in(articles, cells_with_hyphens) == {}


def test_a_hyphen_for_a_minus_is_recognised():
    for text in ("-1.5", "(-0.3 to 2)", "from -2"):
        assert HYPHEN_FOR_MINUS.search(text)
    for text in ("\u22121.5", "ViT-B-32", "1e-5", "2024-11", "t5-3b", "mini-small"):
        assert not HYPHEN_FOR_MINUS.search(text)


def unlabelled(article):
    return [str(i.get("src"))[:80] for i in article.select("img") if not i.get("alt", "").strip()]


def eager(article):
    return [str(i.get("src"))[:80] for i in article.select("img") if i.get("loading") != "lazy"]


def test_every_picture_has_a_text(articles):
    assert any(article.select("img") for article in articles.values())
    assert found_in(articles, unlabelled) == {}


def test_every_picture_is_loaded_when_it_is_seen(articles):
    assert found_in(articles, eager) == {}


def test_no_page_is_heavy(html, every_page):
    sizes = {page: (html / page).stat().st_size for page in every_page}
    assert {page: size for page, size in sizes.items() if size > LIMIT} == {}
