"""The command line: rerun a notebook, look up a method, merge files, make experts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from mergebook.arguments import pairs, value_of
from mergebook.errors import MergebookError, MethodError, ParameterError, unknown
from mergebook.notebooks import find_notebooks, get_notebook
from mergebook.paths import project_dir

if TYPE_CHECKING:
    from mergebook.registry import Method

SUITE = "mini"  # what a notebook works on if it has no parameter `suite`

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
    options.own_process = arguments is None
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

    add = commands.add_parser("merge", help="merge checkpoint files into one")
    add.add_argument("--method", required=True, help="one of `mergebook methods`")
    add.add_argument("--base", required=True, type=Path, metavar="FILE", help="pre-trained weights")
    add.add_argument(
        "--expert",
        required=True,
        action="append",
        metavar="TASK=FILE",
        help="fine-tuned weights; repeat for more",
    )
    add.add_argument("--out", required=True, type=Path, metavar="FILE", help="the result")
    add.add_argument("--force", action="store_true", help="replace the result if it exists")
    add.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the method, e.g. scale=0.4 or threshold=a:0.3,b:0.5; repeat for more",
    )
    add.add_argument(
        "--entries",
        default="trained",
        help="of what a density is a share: the entries that an expert changed (trained) or all "
        "(stored)",
    )
    add.add_argument(
        "--frozen-extra",
        type=int,
        default=0,
        metavar="N",
        help="frozen entries that are not in the files, such as a text tower",
    )
    add.add_argument("--dtype", help="type of the result's weights (default: the base's)")
    add.add_argument("--backbone", metavar="NAME", help="architecture (default: the base's own)")
    add.add_argument("--suite", help="where the tasks' images are, for a method that needs some")
    add.add_argument(
        "--images", type=int, default=256, metavar="N", help="images per task of that suite"
    )
    add.set_defaults(command=_merge)

    add = commands.add_parser("inspect", help="what a checkpoint or a merged model holds")
    add.add_argument("file", type=Path)
    add.add_argument("--tensors", action="store_true", help="list the tensors, too")
    add.set_defaults(command=_inspect)

    add = commands.add_parser("experts", help="fine-tune the experts that are missing")
    add.add_argument("--suite", default="mini")
    add.add_argument("--backbone", default="mini-small")
    add.add_argument("--seed", type=int, default=0)
    add.add_argument("--num-tasks", type=int, help="the first N tasks of the suite (default: all)")
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
        _fine_tune(str(values.get("suite", SUITE)), jobs=options.jobs, **experts)
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
        needs = f", needs {' and '.join(method.needs)}" if method.needs else ""
        print(f"{method.name:{width}}  {method.title}{_paper(method)}")
        print(f"{'':{width}}  {method.family}{needs}; {parameters or 'no parameters'}")


def _paper(method: Method) -> str:
    return f" [{method.paper}]" if method.paper else ""


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
    print(f"{method.name}: {method.title}{_paper(method)}, {method.family}\n")
    print(method.doc.strip())
    if method.parameters:
        print("\nParameters")
    for each in method.parameters:
        print(f"  {each.name}: {each.type} = {each.default!r}  # {each.doc}")


def _merge(options: argparse.Namespace) -> None:
    from tqdm import tqdm

    import mergebook as mb
    from mergebook.files import give_memory_back, merge_files, suite_calibration
    from mergebook.weights import Checkpoint

    method = mb.get_method(options.method)
    known = {parameter.name: parameter for parameter in method.parameters}
    texts = pairs("--set", "NAME=VALUE", options.set)
    params = {name: value_of(name, text, known.get(name)) for name, text in texts.items()}
    method.check(**params)
    experts = pairs("--expert", "TASK=FILE", options.expert)
    if options.own_process:
        give_memory_back()
    calibration = None
    if options.suite is not None:
        if not method.needs:
            raise ParameterError(f"--suite: {method.name} needs no images")
        backbone = options.backbone or Checkpoint(options.base).metadata.get("backbone")
        if backbone is None:
            raise ParameterError("--suite needs --backbone: the base does not name it")
        calibration = suite_calibration(options.suite, backbone, tuple(experts), options.images)
    merged = merge_files(
        method.name,
        options.base,
        experts,
        options.out,
        params,
        entries=options.entries,
        frozen_extra=options.frozen_extra,
        backbone=options.backbone,
        dtype=options.dtype,
        calibration=calibration,
        overwrite=options.force,
        progress=partial(tqdm, desc=method.name, unit="tensor", leave=False, disable=None),
    )
    print(f"{options.out}: {method.title} of {', '.join(merged.tasks)}")
    print(f"storage: {merged.storage().formula()}")


def _inspect(options: argparse.Namespace) -> None:
    from mergebook.inspection import describe_file

    print(describe_file(options.file, list_tensors=options.tensors))


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
