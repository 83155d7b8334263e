"""`mergebook methods` and `mergebook describe`: what there is, in a list and in detail."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mergebook.errors import MethodError, unknown
from mergebook.notebooks import find_notebooks

if TYPE_CHECKING:
    from mergebook.registry import Method


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the commands."""
    command = commands.add_parser("methods", help="the registered methods")
    command.set_defaults(command=_methods)

    command = commands.add_parser("describe", help="a method or a notebook in detail")
    command.add_argument("name")
    command.set_defaults(command=_describe)


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
