"""The built book on a phone and on paper: nothing is cut, and what stays in sight leaves room."""

import pytest

PAGES = (
    "book/index.html",
    "book/methods.html",
    "book/other_libraries.html",
    "book/tall_masks/index.html",
    "executed/atlas/leaderboard.html",
    "executed/benchmark/tasks.html",
    "executed/tall_masks/main_table.html",
    "executed/tall_masks/what_counts.html",
)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
DESKTOP = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
PAPER = {"width": 700, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
BOX = ".mergebook-scroll, .pst-scrollable-table-container"

# Share of its box that the widest column takes which stays in sight while the others scroll.
STICKY = f"""
const shares = [...document.querySelectorAll("article th")]
    .filter((cell) => getComputedStyle(cell).position === "sticky")
    .map((cell) => [cell, cell.closest("{BOX}")])
    .filter(([_, box]) => box && box.scrollWidth > box.clientWidth + 2)
    .map(([cell, box]) => cell.getBoundingClientRect().width / box.clientWidth);
return Math.max(0, ...shares);
"""

# Tables and pieces of code that are wider than the page, by their first words.
BOXES = f", article {BOX.replace(', ', ', article ')}"
CUT = f"""
return [...document.querySelectorAll("article pre{BOXES}")]
    .filter((box) => box.scrollWidth > box.clientWidth + 2)
    .map((box) => box.innerText.trim().slice(0, 60));
"""


@pytest.fixture
def screen(browser):
    """Set the size of the screen, or print; both are undone."""

    def change(size, media=""):
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})

    yield change
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_desktop_shows_pages_whole(pages, visit, browser, screen):
    """No page is wider than the screen, no table and no piece of code wider than its place."""
    screen(DESKTOP)
    wide, cut = {}, {}
    for page in pages:
        visit(page)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > DESKTOP["width"]:
            wide[page] = width
        if found := browser.execute_script(CUT):
            cut[page] = found
    assert wide == {}
    assert cut == {}


def test_a_phone_shows_pages_at_its_width(pages, visit, browser, screen):
    screen(PHONE)
    wide, sticky = {}, {}
    for page in pages:
        visit(page)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide[page] = width
        if (share := browser.execute_script(STICKY)) > 0.46:
            sticky[page] = round(share, 2)
    assert wide == {}
    assert sticky == {}


@pytest.mark.parametrize("page", PAGES)
def test_paper_cuts_nothing(page, visit, browser, screen):
    screen(PAPER, "print")
    visit(page)
    assert browser.execute_script(CUT) == []


def test_paper_shows_folded_results(visit, browser, screen):
    screen(PAPER, "print")
    visit("executed/tall_masks/main_table.html")
    tables = "return [...document.querySelectorAll('details.mergebook table')]"
    heights = f"{tables}.map((table) => table.getBoundingClientRect().height)"
    assert browser.execute_script(f"{tables}.length") > 0
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    assert min(browser.execute_script(heights)) > 0
    browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert not browser.execute_script("return !!document.querySelector('details.mergebook[open]')")


def test_paper_is_white_in_dark_mode(visit, browser, screen):
    screen(PAPER, "print")
    visit("executed/tall_masks/main_table.html")
    browser.execute_script("document.documentElement.dataset.theme = 'dark'")
    text = "return getComputedStyle(document.querySelector('article p')).color"
    assert browser.execute_script(text) == "rgb(0, 0, 0)"
