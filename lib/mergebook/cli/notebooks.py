"""`mergebook list` and `mergebook run`: the book's notebooks with a reader's parameters."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mergebook.cli.arguments import add_jobs, add_settings, pairs
from mergebook.cli.process import complain, show
from mergebook.cli.training import fine_tune
from mergebook.errors import MergebookError, ParameterError
from mergebook.notebooks import find_notebooks, get_notebook
from mergebook.paths import project_dir

if TYPE_CHECKING:
    from mergebook.execution import RunFolder

SUITE = "mini"  # what a notebook works on if it has no parameter `suite`


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the commands."""
    command = commands.add_parser("list", help="the notebooks and their parameters")
    command.set_defaults(command=_list)

    command = commands.add_parser("run", help="execute a notebook with other parameters")
    command.add_argument("name", help="chapter and notebook, e.g. tall_masks/main_table")
    add_settings(command, "a parameter; repeat for more")
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the outputs (default: under runs/)"
    )
    command.add_argument(
        "--force", action="store_true", help="replace an earlier run of the notebook in DIR"
    )
    command.add_argument(
        "--no-page", action="store_true", help="leave out the page for the browser"
    )
    add_jobs(command)
    command.set_defaults(command=_run)


def _list(options: argparse.Namespace) -> str:
    notebooks = find_notebooks()
    if not notebooks:
        raise MergebookError(f"no notebooks under {project_dir() / 'notebooks'}")
    return "\n\n".join(notebook.describe() for notebook in notebooks.values())


def _run(options: argparse.Namespace) -> str:
    notebook = get_notebook(options.name)
    try:
        given = pairs("--set", "NAME=VALUE", options.set)
    except ParameterError as error:
        raise ParameterError(f"{error}\n{notebook.describe()}") from None
    values = notebook.resolve(given)

    if not options.no_page and find_spec("jupyter_book") is None:
        raise MergebookError(
            "the page needs the book's engine: pip install 'mergebook[dev]', or add --no-page"
        )

    from mergebook.execution import RunFolder, environment, execute, folder_of_run, slug
    from mergebook.suites import suite_sizes  # which imports NumPy

    default = project_dir() / "runs" / notebook.name / slug(values)
    run = RunFolder(options.out or default, notebook)
    if options.out:
        run.check(force=options.force)
    with folder_of_run(run.path):
        suite = str(values.get("suite", SUITE))
        for experts in notebook.experts(values):
            asked = experts["num_tasks"]
            experts["num_tasks"] = max(suite_sizes(suite, asked))
            if experts["num_tasks"] < asked:
                there = experts["num_tasks"]
                show(f"suite {suite!r} has {there} tasks: larger sizes are left out")
            fine_tune(suite, jobs=options.jobs, **experts)
        # A reader's own numbers come unfolded.
        with environment(MERGEBOOK_RERUN="1"):
            execute(notebook, values, run.executed, run.results)
    written = f"executed notebook: {run.executed}\nresults:           {run.tables}"
    if options.no_page:
        return written
    show(written)
    return _render(run, values)


def _render(run: RunFolder, values: Mapping[str, object]) -> str:
    from mergebook.rendering import render_page

    for flaw in render_page(run.notebook, values, run.executed, run.results, run.page):
        complain(f"page: {flaw}")
    return f"page:              {run.page / 'index.html'}"
