"""The book's small Sphinx extensions."""

import base64
import importlib.util
import re
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import yaml
from docutils import nodes
from PIL import Image
from pybtex.database import parse_file, parse_string

import mergebook
from mergebook import paths
from mergebook.report import show

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


def test_a_methods_page_links_to_its_module():
    shown = "executed/methods/compression/tall_ties.md"
    edit, download = urls_after(
        "executed/methods/compression/tall_ties",
        f"{REPOSITORY}/edit/main/{shown}",
        f"../../../_sources/{shown}",
    )
    assert edit == f"{REPOSITORY}/edit/main/lib/mergebook/compression/tall_masks.py"
    assert download == f"../../../_sources/{shown}"
    [edit] = urls_after(
        "executed/methods/compression", f"{REPOSITORY}/edit/main/executed/methods/compression.md"
    )
    assert edit == f"{REPOSITORY}/edit/main/lib/mergebook/report/methods.py"
    assert (paths.project_dir() / "lib/mergebook/report/methods.py").is_file()


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


def page_with(*texts: str) -> nodes.document:
    document = nodes.document(None, None)
    document += [nodes.raw("", text, format="html") for text in texts]
    return document


def builder(folder, kind: str = "html") -> SimpleNamespace:
    made = SimpleNamespace(
        format=kind, imagedir="_images", get_target_uri=lambda page: f"{page}.html"
    )
    return SimpleNamespace(outdir=str(folder), builder=made)


def test_figures_of_notebooks_become_files(tmp_path):
    fig, _ = plt.subplots()
    html = show(fig, alt="an empty figure", name="empty").data
    data = base64.b64decode(re.search(r"base64,([^\"]+)", html)[1])
    document = page_with(html, html, "<p>no figure</p>")
    write = extension("image_files").write_files
    write(builder(tmp_path), document, "executed/basics/page")
    [image] = (tmp_path / "_images").iterdir()  # the same figure twice is one file
    assert image.read_bytes() == data
    first, second, last = (node.astext() for node in document.findall(nodes.raw))
    assert f'src="../../_images/{image.name}"' in first
    assert first == second and "base64" not in first
    assert 'alt="an empty figure"' in first
    assert last == "<p>no figure</p>"
    latex = page_with(html)
    write(builder(tmp_path, "latex"), latex, "executed/basics/page")
    assert latex.astext() == html


def test_a_phone_gets_the_narrow_picture(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    for name in ("with.png", "with.narrow.png", "without.png"):
        (source / name).write_text(name)
    app = builder(out)
    app.srcdir = str(source)
    app.env = SimpleNamespace(
        images={"with.png": ({"page"}, "with.png"), "without.png": ({"page"}, "without.png")}
    )
    pictures = '<p><img alt="a" src="../_images/with.png"><img src="../_images/without.png"></p>'
    offer, context = extension("image_files").offer_narrow, {"body": pictures}
    offer(app, "another", "page.html", context, None)
    assert context["body"] == pictures and not out.exists()
    offer(app, "page", "page.html", context, None)
    assert 'srcset="../_images/with.narrow.png"><img alt="a"' in context["body"]
    assert context["body"].count("<picture>") == 1
    assert (out / "_images/with.narrow.png").read_text() == "with.narrow.png"


def bibliography() -> dict:
    return parse_file(str(paths.project_dir() / "book/references.bib")).entries


def test_papers_of_the_same_authors_and_year_get_letters():
    entries, add_letters = bibliography(), extension("author_year").add_letters
    add_letters(entries)
    years = [entries[key].fields["year"] for key in ("yang2024surgery", "yang2024surgeryv2")]
    assert years == ["2024a", "2024b"]
    assert entries["yang2024adamerging"].fields["year"] == "2024c"  # the list is sorted by authors
    assert entries["ilharco2023editing"].fields["year"] == "2023"
    before = {key: entry.fields["year"] for key, entry in entries.items()}
    add_letters(entries)  # as at a second build in one environment
    assert {key: entry.fields["year"] for key, entry in entries.items()} == before


def test_every_paper_has_a_label_of_its_own():
    entries = bibliography()
    module = extension("author_year")
    module.add_letters(entries)
    labels = dict(
        zip(entries, module.AuthorYearLabels().format_labels(entries.values()), strict=True)
    )
    assert len(set(labels.values())) == len(labels)
    assert labels["matena2022fisher"] == "Matena and Raffel, 2022"
    assert labels["wang2025lines"] == "Wang et al., 2025"


@pytest.mark.parametrize("key", bibliography())
def test_bibliography_entries_are_complete(key):
    entry = bibliography()[key]
    assert entry.fields["year"].isdigit() and entry.fields["title"]
    for person in entry.persons["author"]:
        given = " ".join(person.first_names)
        assert len(given.strip(". ")) > 1, f"{person} needs a given name"
    venue = {"inproceedings": "booktitle", "article": "journal", "book": "publisher"}
    wanted = (venue[entry.type],) if entry.type in venue else ("eprint", "doi")
    assert any(field in entry.fields for field in wanted), f"one of {wanted}"
    if entry.type != "book":
        assert {"url", "eprint", "doi"} & {name.lower() for name in entry.fields}


def test_the_book_and_each_chapter_have_an_entry():
    root, module = paths.project_dir(), extension("entries")
    book = module.facts(root)
    assert book["note"] == f"Version {mergebook.__version__}"
    pages = module.chapters(root, {"Start", "Use the book"})
    assert "book/tall_masks/index" in pages
    assert not {"book/glossary", "book/how_to_read"} & set(pages)
    made = "\n".join(
        [
            module.entry("misc", "mergebook", book),
            *(module.chapter_entry(page, "Masks & more", book) for page in pages),
        ]
    )
    entries = parse_string(made, "bibtex").entries
    assert len(entries) == 1 + len(pages)
    [author] = entries["mergebook"].persons["author"]
    assert str(author) == "{The Companion to Model Merging authors}"
    masks = entries["mergebook:tall_masks"].fields
    assert masks["url"] == f"{book['url']}/book/tall_masks/index.html"
    assert masks["title"] == "Masks & more"  # escaped, else it would be no BibTeX
    with pytest.raises(ValueError, match="no part Nowhere"):
        module.chapters(root, {"Nowhere"})


def test_addresses_of_the_book_agree():
    config = yaml.safe_load((paths.project_dir() / "_config.yml").read_text(encoding="utf-8"))
    url = extension("entries").facts(paths.project_dir())["url"]
    sphinx = config["sphinx"]["config"]
    assert config["html"]["baseurl"] == url
    assert sphinx["ogp_site_url"] == f"{url}/"
    path = sphinx["ogp_image"].removeprefix(f"{url}/_static/")
    with Image.open(paths.project_dir() / "book/_static" / path) as card:
        assert card.size == (1200, 630)
