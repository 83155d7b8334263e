"""Execute a notebook with parameters: papermill, tidy outputs, folders of their own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import papermill

from mergebook.errors import ExperimentError
from mergebook.notebooks import Notebook, as_list
from mergebook.paths import belongs_to_project, project_dir
from mergebook.writing import folder_beside

KERNEL = "python3"
# A page shows results: neither progress bars nor tqdm's regret that it cannot draw them nicely.
QUIET = {"TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}

INJECTED = "# The values of this run, in place of those above"
LONGEST_NAME = 120  # of a run's folder


@dataclass(frozen=True)
class RunFolder:
    """Where the outputs of a reader's rerun lie.

    Attributes
    ----------
    path : Path
        The folder.
    notebook : Notebook
        What is run.
    """

    path: Path
    notebook: Notebook

    @property
    def executed(self) -> Path:
        """The executed notebook."""
        return self.path / self.notebook.path.name

    @property
    def page(self) -> Path:
        """Folder of the page for the browser."""
        return self.path / "page"

    @property
    def results(self) -> Path:
        """The results root, below which the notebook has a folder."""
        return self.path / "results"

    @property
    def tables(self) -> Path:
        """Folder of the notebook's result tables."""
        return self.results / self.notebook.name

    def check(self, *, force: bool = False) -> None:
        """Refuse a folder in which a run would replace what is not an earlier run's.

        Parameters
        ----------
        force : bool, default False
            Whether outputs of an earlier run of this notebook may be replaced.

        Raises
        ------
        ExperimentError
            If it is the project's folder or lies in one of its folders of sources, experts or
            results; if it is no folder; if an output exists.
        """
        if belongs_to_project(self.path):
            raise ExperimentError(
                f"{self.path} belongs to the project; choose a folder outside of it or below runs"
            )
        if os.path.lexists(self.path) and not self.path.is_dir():
            raise ExperimentError(f"{self.path} is not a folder")
        there = [path for path in (self.executed, self.page, self.tables) if os.path.lexists(path)]
        if there and not (force and self.executed.is_file()):
            hint = "another folder, or --force" if self.executed in there else "another folder"
            raise ExperimentError(f"{there[0]} exists; choose {hint}")


def execute(
    notebook: Notebook,
    values: Mapping[str, object],
    executed: Path,
    results: Path,
) -> None:
    """Execute a notebook with papermill and put its outputs in place, all or none.

    What a run that was killed has left beside `executed` is removed.

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

    Raises
    ------
    ExperimentError
        If a cell fails; shows the cell and its error, and nothing is written.
    """
    with folder_of_run(executed.parent), folder_beside(executed) as folder:
        staged = folder.resolve()
        written = staged / "results" / notebook.name
        written.mkdir(parents=True)
        with environment(MERGEBOOK_RESULTS=str(staged / "results"), **QUIET):
            run = tidy(_papermill(notebook, values, staged / "notebook.ipynb"))
        nbformat.write(run, staged / "notebook.ipynb")
        outputs = {staged / "notebook.ipynb": executed, written: results / notebook.name}
        shutil.rmtree(results / notebook.name, ignore_errors=True)
        for source, target in outputs.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(source, target)


def tidy(run: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Remove what changes from run to run; edits the executed notebook and returns it.

    Drops papermill's and the kernel's times, paths and versions, and numbers the cells' ids. The
    cell that papermill injected gets the tags of the cell whose values it replaces, so that both
    are shown, or hidden, alike, and says what it is.
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
            cell["source"] = cell["source"].replace("# Parameters", INJECTED, 1)
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
            # It warns that it listens on a local port, as every kernel does, and calls it an error
            # that it was stopped; what is wrong with a cell comes as a message, not by the log.
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
        )
    except papermill.PapermillExecutionError as error:
        cell = "\n".join("    " + line for line in error.source.strip().splitlines())
        raise ExperimentError(
            f"notebook {notebook.name} failed in cell [{error.exec_count}]:\n{cell}\n"
            f"{error.ename}: {error.evalue}"
        ) from error


@contextlib.contextmanager
def folder_of_run(path: Path) -> Iterator[None]:
    """Make a folder, and remove it again if the work in it fails and it was not there before."""
    existed = path.exists()
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if not existed and path.is_dir():
            os.removedirs(path)
        raise


@contextlib.contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Set variables of the environment, and restore them afterwards."""
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

    Other parameters give another name: a short hash of all values follows where the name is cut,
    or holds a text with other characters than letters, digits, ``_``, ``.`` and ``-``.

    Parameters
    ----------
    values : mapping of str to object
        Those that differ from the notebook's defaults; ``"defaults"`` if none does.
    """
    texts = {name: [str(each) for each in as_list(value)] for name, value in values.items()}
    whole = ",".join(f"{name}={'+'.join(parts)}" for name, parts in texts.items())
    plain = all(
        re.fullmatch(r"[\w.-]+", part, re.ASCII) for parts in texts.values() for part in parts
    )
    if plain and len(whole) <= LONGEST_NAME:
        return whole or "defaults"
    digest = hashlib.sha256(repr(dict(values)).encode()).hexdigest()[:8]
    name = re.sub(r"[^\w.,=+-]", "_", whole, flags=re.ASCII)
    return f"{name[: LONGEST_NAME - 9]}-{digest}"
