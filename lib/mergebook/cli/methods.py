"""`mergebook methods` and `mergebook describe`: what there is, in a list and in detail."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import TYPE_CHECKING

from mergebook.cli.declarations import declared_methods
from mergebook.errors import MethodError, unknown
from mergebook.notebooks import find_notebooks

if TYPE_CHECKING:
    from mergebook.registry import Method

RESULT = {
    "no": "gives one model",
    "yes": "gives a model for each task",
    "guessed": "gives a model that guesses the task",
}
_ROLE = re.compile(r":[a-z:]+:`~?([^`]+)`")
# The section of a docstring that the list of parameters says with defaults and valid values.
_PARAMETERS = re.compile(r"^Parameters\n-+\n.*?(?=^\S[^\n]*\n-+$|\Z)", re.M | re.S)


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the commands."""
    command = commands.add_parser("methods", help="the registered methods")
    command.set_defaults(command=_methods)

    command = commands.add_parser("describe", help="a method or a notebook in detail")
    command.add_argument("name")
    command.set_defaults(command=_describe)


def _methods(options: argparse.Namespace) -> None:
    rows = declared_methods()
    width = max(len(method.name) for method in rows)
    for method in rows:
        parameters = ", ".join(f"{each.name}={each.default!r}" for each in method.parameters)
        print(f"{method.name:{width}}  {method.title}{_paper(method)}")
        print(f"{'':{width}}  {_facts(method)}; {parameters or 'no parameters'}")


def _paper(method: Method) -> str:
    return f" [{method.paper}]" if method.paper else ""


def _facts(method: Method) -> str:
    needs = f"needs {' and '.join(method.needs)}, " if method.needs else ""
    return f"{method.family}, {needs}{RESULT[method.told]}"


def _describe(options: argparse.Namespace) -> None:
    notebooks = find_notebooks()
    if options.name in notebooks:
        print(notebooks[options.name].describe())
        return
    methods = {method.name: method for method in declared_methods()}
    if options.name not in methods:
        raise MethodError(unknown("method or notebook", options.name, [*methods, *notebooks]))
    method = methods[options.name]
    print(f"{method.name}: {method.title}{_paper(method)}\n{_facts(method)}\n")
    print(_plain(_PARAMETERS.sub("", method.doc).strip()))
    print("\nParameters" if method.parameters else "\nNo parameters")
    for each in method.parameters:
        valid = "" if each.type == "bool" else f", {each.valid}"
        print(f"  {each.name} = {each.default!r}{valid}")
        indent = " " * 6
        print(textwrap.fill(_plain(each.doc), 100, initial_indent=indent, subsequent_indent=indent))


def _plain(doc: str) -> str:
    """A docstring without the marks of roles, for a terminal."""
    return _ROLE.sub(r"\1", doc)
