"""The page of a rerun: one executed notebook, rendered by the book's engine as the book renders it.

The notebook stands at its place in a source folder that is made of links to the project's, so that
configuration, bibliography, styles and the project's extensions apply as they do in the book. What
leads to another page leads to the published book.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
import yaml
from jupyter_book.config import get_final_config
from nbformat.v4 import new_markdown_cell
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util.console import strip_colors
from sphinx.util.docutils import docutils_namespace, patch_docutils

from mergebook.errors import MergebookError, ReportError
from mergebook.execution import environment
from mergebook.notebooks import Notebook
from mergebook.paths import project_dir
from mergebook.rendering import extension
from mergebook.rendering.book import Book

LINKED = ("_config.yml", "book", "data")  # what the engine reads of the project
# What the page's folder keeps of a build, and of MathJax what sets formulas in a page.
KEPT = (extension.PAGE, "searchindex.js", *extension.FOLDERS)  # the theme loads the search's index
MATHJAX = ("tex-chtml.js", "input", "output")
REFERENCES = "## References\n\n```{bibliography}\n:filter: docname in docnames\n```"


def render_page(
    notebook: Notebook,
    values: Mapping[str, object],
    executed: Path,
    results: Path,
    page: Path,
) -> list[str]:
    """Render an executed notebook as a page of the book, with all that it needs in one folder.

    Parameters
    ----------
    notebook : Notebook
        The source.
    values : mapping of str to object
        Parameters that differ from the notebook's own; the page names them.
    executed : Path
        The executed copy.
    results : Path
        The results root of the run, which prose on the page asks for its numbers (``here``).
    page : Path
        Folder of the page, ``index.html``; replaced as a whole.

    Returns
    -------
    list of str
        What the engine warns of.

    Raises
    ------
    ReportError
        If the engine cannot make the page.
    """
    root = project_dir()
    book = Book(root, f"executed/{notebook.name}")
    page.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".rendering-", dir=page.parent) as folder:
        source, built = Path(folder).resolve() / "source", Path(folder).resolve() / "html"
        source.mkdir()
        for name in LINKED:
            if (root / name).exists():
                (source / name).symlink_to(root / name)
        _stage(executed, source / f"{book.page}.ipynb")
        (source / "_toc.yml").write_text(yaml.safe_dump(book.contents()), encoding="utf-8")
        with environment(MERGEBOOK_RESULTS=str(results.resolve())):
            flaws = _build(source, built, book.page, values)
        _prune(built)
        shutil.rmtree(page, ignore_errors=True)
        os.replace(built, page)
    return [line.replace(f"{source}{os.sep}", "") for line in flaws]


def _stage(executed: Path, target: Path) -> None:
    """Copy the notebook to its place; where it cites, with a list of references at its end."""
    run = nbformat.read(executed, as_version=4)
    prose = "".join(cell.source for cell in run.cells if cell.cell_type == "markdown")
    if "{cite" in prose:
        run.cells.append(new_markdown_cell(REFERENCES, id="references"))
    target.parent.mkdir(parents=True)
    nbformat.write(run, target)


def _build(source: Path, built: Path, page: str, values: Mapping[str, object]) -> list[str]:
    flaws = io.StringIO()
    with _search_path(), warnings.catch_warnings():
        # An extension of the engine looks at every object in memory, which makes torch complain.
        warnings.simplefilter("ignore", FutureWarning)
        config, _ = get_final_config(
            user_yaml=source / "_config.yml",
            sourcedir=source,
            cli_config={
                "latex_individualpages": False,
                "external_toc_path": "_toc.yml",
                "external_toc_exclude_missing": True,
            },
        )
        config["extensions"].append(extension.__name__)
        config["html_theme_options"]["disable_search"] = True
        (source / "_templates").mkdir()
        (source / "_templates/search-button.html").touch()  # in place of the theme's
        config |= {
            "templates_path": [*config.get("templates_path", []), "_templates"],
            "rerun_values": dict(values),
            "html_sidebars": {"**": ["navbar-logo.html", "sbt-sidebar-nav.html"]},
            "html_use_index": False,
            "nb_execution_mode": "off",
        }
        try:
            with patch_docutils(), docutils_namespace():
                app = Sphinx(
                    source, None, built, built.with_name("doctrees"), "html",
                    config, status=None, warning=flaws,
                )  # fmt: skip
                app.build()
        except (SphinxError, MergebookError, OSError) as error:
            raise ReportError(f"the page of {page} could not be made: {error}") from error
    return strip_colors(flaws.getvalue()).splitlines()


@contextlib.contextmanager
def _search_path() -> Iterator[None]:
    """Forget where the project's extensions lie, once they are loaded."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before


def _prune(built: Path) -> None:
    """Remove what a single page does not use: the index of the search, most of MathJax, maps."""
    for path in built.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    mathjax = built / "_static/mathjax"
    for path in mathjax.iterdir() if mathjax.is_dir() else ():
        if path.name not in MATHJAX:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (built / "_static").rglob("*.map"):
        path.unlink()
