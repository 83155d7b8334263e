"""The command line: rerun a notebook, look up a method, make experts and backbones."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from mergebook.errors import MergebookError, MethodError, ParameterError, unknown
from mergebook.notebooks import find_notebooks, get_notebook
from mergebook.paths import project_dir

SUITE = "mini"  # what the notebooks work on

# What a command needs beyond names and paths (torch, papermill) is imported inside it, so that
# `mergebook list` answers at once.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its options; those of the process by default.

    Returns
    -------
    int
        The exit status: 0, or 2 if the input was refused or a run failed.
    """
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
        sys.stdout.flush()
    except MergebookError as error:
        print(f"mergebook: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mergebook: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mergebook", description="A Companion to Model Merging: rerun what the book shows."
    )
    parser.add_argument("--version", action="version", version=f"mergebook {version('mergebook')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    add = commands.add_parser("list", help="the notebooks and their parameters")
    add.set_defaults(command=_list)

    add = commands.add_parser("run", help="execute a notebook with other parameters")
    add.add_argument("name", help="chapter and notebook, e.g. tall_masks/main_table")
    add.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter; repeat for more",
    )
    add.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the outputs (default: under runs/)"
    )
    _add_jobs(add)
    add.set_defaults(command=_run)

    add = commands.add_parser("methods", help="the registered methods")
    add.set_defaults(command=_methods)

    add = commands.add_parser("describe", help="a method or a notebook in detail")
    add.add_argument("name")
    add.set_defaults(command=_describe)

    add = commands.add_parser("experts", help="fine-tune the experts that are missing")
    add.add_argument("--suite", default="mini")
    add.add_argument("--backbone", default="mini-small")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--num-tasks", type=int, default=20, help="the first N tasks of the suite")
    add.add_argument(
        "--steps",
        type=lambda text: None if text == "default" else int(text),
        help="fine-tuning steps, or 'default' for those of the recipe",
    )
    _add_jobs(add)
    add.set_defaults(command=_experts)

    add = commands.add_parser("pretrain", help="pre-train a mini backbone")
    add.add_argument("backbone", help="mini-small or mini-large")
    add.add_argument("--device", default="cpu", help="where to train, e.g. cuda")
    add.set_defaults(command=_pretrain)
    return parser


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, help="processes (default: one for each core)")


def _list(options: argparse.Namespace) -> None:
    notebooks = find_notebooks()
    if not notebooks:
        raise MergebookError(f"no notebooks under {project_dir() / 'notebooks'}")
    print("\n\n".join(notebook.describe() for notebook in notebooks.values()))


def _run(options: argparse.Namespace) -> None:
    notebook = get_notebook(options.name)
    given = [text.partition("=") for text in options.set]
    for name, equals, _ in given:
        if not equals:
            raise ParameterError(f"--set takes NAME=VALUE, not {name!r}\n{notebook.describe()}")
    values = notebook.resolve({name.strip(): value for name, _, value in given})

    from mergebook.execution import execute, slug

    folder = options.out or project_dir() / "runs" / notebook.name / slug(values)
    executed = folder / notebook.path.name
    page = executed.with_suffix(".html")
    for experts in notebook.experts(values):
        _fine_tune(SUITE, jobs=options.jobs, **experts)
    execute(notebook, values, executed, folder / "results", page)
    print(f"executed notebook: {executed}")
    print(f"page:              {page}")
    print(f"results:           {folder / 'results' / notebook.name}")


def _methods(options: argparse.Namespace) -> None:
    import mergebook as mb

    rows = [mb.get_method(name) for name in mb.list_methods()]
    width = max(len(method.name) for method in rows)
    for method in rows:
        parameters = ", ".join(f"{each.name}={each.default!r}" for each in method.parameters)
        print(f"{method.name:{width}}  {method.title} [{method.paper}]")
        print(f"{'':{width}}  {method.family}; {parameters or 'no parameters'}")


def _describe(options: argparse.Namespace) -> None:
    notebooks = find_notebooks()
    if options.name in notebooks:
        print(notebooks[options.name].describe())
        return

    import mergebook as mb

    if options.name not in mb.list_methods():
        choices = [*mb.list_methods(), *notebooks]
        raise MethodError(unknown("method or notebook", options.name, choices))
    method = mb.get_method(options.name)
    print(f"{method.name}: {method.title} [{method.paper}], {method.family}\n")
    print(method.doc.strip())
    if method.parameters:
        print("\nParameters")
    for each in method.parameters:
        print(f"  {each.name}: {each.type} = {each.default!r}  # {each.doc}")


def _experts(options: argparse.Namespace) -> None:
    names = ("backbone", "seed", "num_tasks", "steps", "jobs")
    print(_fine_tune(options.suite, **{name: getattr(options, name) for name in names}))


def _fine_tune(
    suite: str, *, backbone: str, seed: int, num_tasks: int, steps: int | None, jobs: int | None
) -> Path:
    from mergebook.suites import load_suite
    from mergebook.training import default_recipe, finetune_experts

    tasks = load_suite(suite, num_tasks=num_tasks)
    return finetune_experts(tasks, backbone, seed, jobs, default_recipe(steps))


def _pretrain(options: argparse.Namespace) -> None:
    from mergebook.training import pretrain

    print(pretrain(options.backbone, device=options.device))


if __name__ == "__main__":
    sys.exit(main())
