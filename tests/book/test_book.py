"""The built book in a browser: quiet, self-contained, searchable, readable in light and dark."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

MAIN_TABLE = "executed/tall_masks/main_table.html"
CONTRAST = 4.5  # WCAG 2.1 AA for text

# The lowest contrast of text in the article, with the text: colours as the browser computed them.
LOWEST_CONTRAST = """
const parse = (colour) => (colour.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
const opacity = (parts) => parts.length > 3 ? parts[3] : 1;
const luminance = ([r, g, b]) => [r, g, b]
    .map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const backdrop = (element) => {
    for (let e = element; e; e = e.parentElement) {
        const colour = parse(getComputedStyle(e).backgroundColor);
        if (opacity(colour) > 0.5) return colour;
    }
    return [255, 255, 255];
};
const texts = [...document.querySelectorAll("article p, article li, article td, article th, "
    + "article caption, article figcaption, article figcaption span, article h1, article h2, "
    + "article a, article code, article pre span")];
const found = texts.filter((e) => e.innerText && e.innerText.trim() && e.offsetParent).map((e) => {
    const pair = [luminance(parse(getComputedStyle(e).color)), luminance(backdrop(e))];
    return [(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), e.innerText.slice(0, 60)];
});
return found.sort((a, b) => a[0] - b[0])[0];
"""

# Images of the article with transparent pixels and no background of their own.
TRANSPARENT_IMAGES = """
const seeThrough = (image) => {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 64;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 64, 64);
    const pixels = context.getImageData(0, 0, 64, 64).data;
    return pixels.some((value, i) => i % 4 === 3 && value < 250);
};
const clear = (image) => /, 0\\)$/.test(getComputedStyle(image).backgroundColor);
return [...document.querySelectorAll("article img")]
    .filter((image) => clear(image) && seeThrough(image))
    .map((image) => image.alt || image.src);
"""


def switch_theme(browser, theme):
    button = next(
        each
        for each in browser.find_elements(By.CSS_SELECTOR, ".theme-switch-button")
        if each.is_displayed()
    )
    for _ in range(3):  # the button goes round auto, light and dark
        if browser.execute_script("return document.documentElement.dataset.theme") == theme:
            return
        button.click()
    raise AssertionError(f"the page has no {theme} theme")


def test_the_book_has_its_pages(pages):
    assert {MAIN_TABLE, "book/run_it_yourself.html", "book/how_to_cite.html"} <= set(pages)


@pytest.fixture(scope="module")
def tour(pages, visit, browser):
    """Each page with what happened when it was opened, and its images' texts and states."""
    hurry = "for (const image of document.images) image.loading = 'eager'"
    complete = "return [...document.images].every((image) => image.complete)"
    images = "return [...document.images].map((i) => [i.alt, i.naturalWidth > 0, i.src])"
    seen = {}
    for page in pages:
        opened = visit(page)
        browser.execute_script(hurry)  # what a reader has not come to yet, too
        WebDriverWait(browser, 20).until(lambda b: b.execute_script(complete))
        seen[page] = opened, browser.execute_script(images)
    return seen


def test_pages_are_quiet(tour):
    assert {page: seen.console for page, (seen, _) in tour.items() if seen.console} == {}


def test_pages_ask_nobody_else(tour, site):
    own = (site, "data:", "blob:")
    for page, (seen, _) in tour.items():
        assert seen.requests
        assert [url for url in seen.requests if not url.startswith(own)] == [], page


def test_every_picture_loads_and_has_a_text(tour):
    assert any(images for _, images in tour.values())
    for page, (_, images) in tour.items():
        assert [source[:80] for text, _, source in images if not text.strip()] == [], page
        assert [source[:80] for _, loaded, source in images if not loaded] == [], page


def test_formulas_are_set(visit, browser):
    visit("book/tall_masks/index.html")
    rendered = WebDriverWait(browser, 20).until(
        lambda b: b.find_elements(By.CSS_SELECTOR, "mjx-container")
    )
    assert rendered


def test_the_search_finds_tall(visit, browser):
    visit("search.html?q=TALL")
    links = f'#search-results ul.search a[href*="{MAIN_TABLE}"]'  # results come in one by one
    assert WebDriverWait(browser, 20).until(lambda b: b.find_elements(By.CSS_SELECTOR, links))


def test_the_main_table_keeps_reported_and_measured_apart(visit, browser):
    visit(MAIN_TABLE)
    table = next(
        each
        for each in browser.find_elements(By.CSS_SELECTOR, "article table")
        if each.find_elements(By.TAG_NAME, "caption")
        and "Main table" in each.find_element(By.TAG_NAME, "caption").text
    )
    header = table.find_elements(By.CSS_SELECTOR, "thead tr:first-child th")[1:]
    groups = [(cell.text, int(cell.get_attribute("colspan") or 1)) for cell in header]
    kinds = [text.partition(",")[0].lower() for text, _ in groups]
    assert [kind.partition(" ")[0] for kind in kinds] == ["reported", "measured"]
    assert "mini scale" in kinds[1]
    assert all(width >= 1 for _, width in groups)
    body = table.find_elements(By.CSS_SELECTOR, "tbody tr")
    rows = {row.find_element(By.TAG_NAME, "th").text: row for row in body}
    assert {"Zero-shot", "Task arithmetic", "TALL Mask + TIES", "Fine-tuned"} <= set(rows)
    cells = [cell.text for cell in rows["Fine-tuned"].find_elements(By.TAG_NAME, "td")]
    assert len(cells) == sum(width for _, width in groups)
    assert float(cells[0]) > 80, "the paper's experts"
    assert 0 <= float(cells[groups[0][1]]) <= 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_pages_are_readable(pages, visit, browser, theme):
    pale, transparent = {}, {}
    for page in pages:
        visit(page)
        switch_theme(browser, theme)
        contrast, text = browser.execute_script(LOWEST_CONTRAST)
        if contrast < CONTRAST:
            pale[page] = (round(contrast, 2), text)
        if unclear := browser.execute_script(TRANSPARENT_IMAGES):
            transparent[page] = unclear
    assert pale == {}
    assert transparent == {}


def test_the_methods_can_be_sorted_and_filtered(visit, browser):
    visit("book/methods.html")
    table = browser.find_element(By.CSS_SELECTOR, ".sortable table")

    def shown():
        rows = table.find_elements(By.CSS_SELECTOR, "tbody tr")
        return [row.find_element(By.TAG_NAME, "td").text for row in rows if row.is_displayed()]

    every = shown()
    assert {"TIES", "CART", "SyMerge"} <= set(every)
    assert not {"Surgery", "Auto-Switch"} & set(every), "these are told the task, or guess it"
    browser.find_element(By.CSS_SELECTOR, ".sortable-filter input").send_keys("adapted images")
    assert 0 < len(shown()) < len(every)
    assert "AdaRank" in shown()
    heading = table.find_element(By.CSS_SELECTOR, "thead th")
    heading.find_element(By.TAG_NAME, "button").click()
    rising = shown()
    assert heading.get_attribute("aria-sort") == "ascending"
    heading.find_element(By.TAG_NAME, "button").click()
    assert (shown(), heading.get_attribute("aria-sort")) == (rising[::-1], "descending")


def test_the_leaderboard_links_to_pages_that_exist(visit, browser, html):
    visit("executed/atlas/leaderboard.html")
    links = browser.find_elements(By.CSS_SELECTOR, "table.sortable th a")
    assert links
    for link in links:
        name = link.get_attribute("href").partition("/executed/methods/")[2]
        assert (html / "executed" / "methods" / name).is_file(), name
