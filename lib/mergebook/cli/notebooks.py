"""`mergebook list` and `mergebook run`: the book's notebooks with a reader's parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from mergebook.cli.arguments import add_jobs, add_settings, pairs
from mergebook.cli.training import fine_tune
from mergebook.errors import MergebookError, ParameterError
from mergebook.notebooks import find_notebooks, get_notebook
from mergebook.paths import project_dir

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
    add_jobs(command)
    command.set_defaults(command=_run)


def _list(options: argparse.Namespace) -> None:
    notebooks = find_notebooks()
    if not notebooks:
        raise MergebookError(f"no notebooks under {project_dir() / 'notebooks'}")
    print("\n\n".join(notebook.describe() for notebook in notebooks.values()))


def _run(options: argparse.Namespace) -> None:
    notebook = get_notebook(options.name)
    try:
        given = pairs("--set", "NAME=VALUE", options.set)
    except ParameterError as error:
        raise ParameterError(f"{error}\n{notebook.describe()}") from None
    values = notebook.resolve(given)

    from mergebook.execution import execute, slug

    folder = options.out or project_dir() / "runs" / notebook.name / slug(values)
    executed = folder / notebook.path.name
    page = executed.with_suffix(".html")
    for experts in notebook.experts(values):
        fine_tune(str(values.get("suite", SUITE)), jobs=options.jobs, **experts)
    execute(notebook, values, executed, folder / "results", page)
    print(f"executed notebook: {executed}")
    print(f"page:              {page}")
    print(f"results:           {folder / 'results' / notebook.name}")
