"""Execute a notebook with parameters: papermill, a tidy result, an HTML page."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
import papermill
from nbconvert import HTMLExporter

from mergebook.errors import ExperimentError
from mergebook.notebooks import Notebook, as_list
from mergebook.paths import project_dir

KERNEL = "python3"
# A page shows results: neither progress bars nor tqdm's regret that it cannot draw them nicely.
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}


def execute(
    notebook: Notebook,
    values: Mapping[str, object],
    executed: Path,
    results: Path,
    page: Path | None = None,
) -> None:
    """Execute a notebook with papermill and put its outputs in place, all or none.

    The executed notebook carries no times, machine paths or random cell ids: the same code and
    parameters give the same file.

    Parameters
    ----------
    notebook : Notebook
        What to run. The kernel's working directory is the project's folder.
    values : mapping of str to object
        Parameters that differ from the defaults, as `Notebook.resolve` returns them.
    executed : Path
        Where the executed notebook goes.
    results : Path
        The results root: the notebook writes to ``results/<chapter>/<notebook>/``.
    page : Path, optional
        Where a stand-alone HTML page goes, if wanted.

    Raises
    ------
    ExperimentError
        If a cell fails; shows the cell and its error, and nothing is written.
    """
    with (
        _folder(executed.parent),
        tempfile.TemporaryDirectory(prefix=".running-", dir=executed.parent) as folder,
    ):
        staged = Path(folder).resolve()
        written = staged / "results" / notebook.name
        written.mkdir(parents=True)
        with _environment(MERGEBOOK_RESULTS=str(staged / "results"), **QUIET):
            run = tidy(_papermill(notebook, values, staged / "notebook.ipynb"))
        nbformat.write(run, staged / "notebook.ipynb")
        outputs = {staged / "notebook.ipynb": executed, written: results / notebook.name}
        if page is not None:
            text, _ = HTMLExporter().from_notebook_node(run)
            (staged / "page.html").write_text(text, encoding="utf-8")
            outputs[staged / "page.html"] = page
        shutil.rmtree(results / notebook.name, ignore_errors=True)
        for source, target in outputs.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)


def tidy(run: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what changes from run to run; edits the executed notebook and returns it.

    Drops papermill's and the kernel's times, paths and versions, and numbers the cells' ids. The
    cell that papermill injected gets the tags of the cell whose values it replaces, so that both
    are shown, or hidden, alike.
    """
    run.metadata.pop("papermill", None)
    run.metadata["language_info"] = {"name": "python"}
    shown = []
    for number, cell in enumerate(run.cells):
        for key in ("papermill", "execution"):
            cell.metadata.pop(key, None)
        cell["id"] = f"cell-{number}"
        tags = cell.metadata.get("tags", [])
        if "parameters" in tags:
            shown = [tag for tag in tags if tag != "parameters"]
        elif "injected-parameters" in tags:
            cell.metadata["tags"] = [*tags, *shown]
    return run


def _papermill(
    notebook: Notebook, values: Mapping[str, object], output: Path
) -> nbformat.NotebookNode:
    try:
        return papermill.execute_notebook(
            notebook.path,
            output,
            parameters=dict(values),
            kernel_name=KERNEL,
            cwd=project_dir(),
            progress_bar={"desc": notebook.name},
            # Its one warning is that it listens on a local port, as every kernel does.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
        )
    except papermill.PapermillExecutionError as error:
        cell = "\n".join("    " + line for line in error.source.strip().splitlines())
        raise ExperimentError(
            f"notebook {notebook.name} failed in cell [{error.exec_count}]:\n{cell}\n"
            f"{error.ename}: {error.evalue}"
        ) from error


@contextlib.contextmanager
def _folder(path: Path) -> Iterator[None]:
    """Make a folder, and remove it again if the work in it fails and it was not there before."""
    existed = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed:
            os.removedirs(path)
        raise


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def slug(values: Mapping[str, object]) -> str:
    """Folder name that tells a run's parameters, e.g. ``"num_tasks=14,seed=3"``.

    Parameters
    ----------
    values : mapping of str to object
        Those that differ from the notebook's defaults; ``"defaults"`` if none does.
    """
    parts = (f"{name}={'+'.join(map(str, as_list(value)))}" for name, value in values.items())
    return re.sub(r"[^\w.,=+-]", "_", ",".join(parts))[:120] or "defaults"
