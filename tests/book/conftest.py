"""A headless Chromium on the smoke book, served from this machine."""

import functools
import http.server
import json
import os
import shutil
import sys
import threading
from dataclasses import dataclass

import pytest
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def html(smoke_project):
    """Folder of the built smoke book."""
    return smoke_project / "_build" / "html"


@pytest.fixture(scope="session")
def site(html):
    """Address of the built smoke book, served until the tests end."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            """Keep the test's output free of one line for each request."""

    class Server(http.server.ThreadingHTTPServer):
        def handle_error(self, request, address):
            """Let the browser hang up: it leaves pages before all their files have come."""
            if not isinstance(sys.exception(), ConnectionError):
                super().handle_error(request, address)

    handler = functools.partial(Handler, directory=html)
    with Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium that reaches nothing but this machine."""
    binary = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        message = f"needs one of {', '.join(BROWSERS)}, and chromedriver (Debian: chromium-driver)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",  # tests may run as root, as in a container
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--window-size=1400,1000",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield chromium
    chromium.quit()


@dataclass(frozen=True)
class Visit:
    """What happened while a page was opened.

    Attributes
    ----------
    console : list of str
        Warnings and errors on the console.
    requests : list of str
        Addresses that the page asked for.
    """

    console: list[str]
    requests: list[str]


@pytest.fixture(scope="session")
def visit(browser, site):
    """Open a page of the book and tell what happened."""

    def open_page(page):
        for log in ("browser", "performance"):
            browser.get_log(log)  # what earlier pages left
        browser.get(f"{site}/{page}")
        # The start page sends the reader on: wait for the page that has a text.
        arrived = "return document.readyState === 'complete' && !!document.querySelector('main')"
        WebDriverWait(browser, 30).until(lambda b: b.execute_script(arrived))
        entries = [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"]
        texts = [f"{entry['level']}: {entry['message']}" for entry in entries]
        # The browser asks for this itself, where a page that sends the reader on names no icon.
        console = [text for text in texts if f"{site}/favicon.ico" not in text]
        events = [
            json.loads(entry["message"])["message"] for entry in browser.get_log("performance")
        ]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return Visit(console, [event["params"]["request"]["url"] for event in sent])

    return open_page


EVERY = 8  # of the methods' pages, which one template writes


@pytest.fixture(scope="session")
def pages(html):
    """The pages of the book, the start page first, with a sample of those of the methods."""
    found = sorted(str(path.relative_to(html)) for path in html.rglob("*.html"))
    found = [page for page in found if "/" in page and "_static" not in page]
    methods = [page for page in found if page.startswith("executed/methods/")]
    left_out = set(methods) - set(methods[::EVERY])
    return ["index.html", *(page for page in found if page not in left_out)]


@pytest.fixture(scope="session")
def every_page(html):
    """All pages of the book but those that the search and the index are made of."""
    found = sorted(str(path.relative_to(html)) for path in html.rglob("*.html"))
    return [page for page in found if "/" in page and not page.startswith("_static")]
