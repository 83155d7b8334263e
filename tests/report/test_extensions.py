"""The book's two small Sphinx extensions."""

import importlib.util
from types import SimpleNamespace

from mergebook import paths

REPOSITORY = "https://github.com/mergebook/companion"


def extension(name: str):
    path = paths.project_dir() / "book" / "_ext" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def urls_after(pagename: str, *urls: str) -> list[str]:
    buttons = [{"type": "link", "url": url} for url in urls]
    page_print = {"type": "javascript", "javascript": "window.print()"}
    context = {"header_buttons": [{"type": "group", "buttons": [*buttons, page_print]}]}
    extension("source_links").link_to_sources(None, pagename, "page.html", context, None)
    return [button["url"] for button in buttons]


def test_an_executed_page_links_to_its_source():
    shown = "executed/tall_masks/main_table.ipynb"
    download = f"../../_sources/{shown}"
    issue = f"{REPOSITORY}/issues/new?title=page%20%2Fexecuted/tall_masks/main_table.html"
    edit, launch, *others = urls_after(
        "executed/tall_masks/main_table",
        f"{REPOSITORY}/edit/main/{shown}",
        f"https://mybinder.org/v2/gh/mergebook/companion/main?urlpath=lab/tree/{shown}",
        download,
        issue,
    )
    assert edit == f"{REPOSITORY}/edit/main/notebooks/tall_masks/main_table.ipynb"
    assert launch.endswith("?urlpath=lab/tree/notebooks/tall_masks/main_table.ipynb")
    # What the built book holds, and the address of the page, are right as they are.
    assert others == [download, issue]


def test_other_pages_keep_their_links():
    url = f"{REPOSITORY}/edit/main/book/executed/index.md"
    assert urls_after("book/executed/index", url) == [url]


def test_every_other_script_stays():
    kept = [
        SimpleNamespace(filename="_static/doctools.js", attributes={}),
        SimpleNamespace(filename=None, attributes={"body": "let hint = 1;"}),
    ]
    dropped = [
        SimpleNamespace(filename="_static/sphinx-thebe.js", attributes={"async": "async"}),
        SimpleNamespace(filename=None, attributes={"body": 'const THEBE_JS_URL = "https://x"'}),
    ]
    context = {"script_files": [*dropped, *kept]}
    extension("no_thebe").drop_thebe(None, "index", "page.html", context, None)
    assert context["script_files"] == kept
