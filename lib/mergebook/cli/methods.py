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


def _methods(options: argparse.Namespace) -> str:
    methods = declared_methods()
    width = max(len(method.name) for method in methods)
    lines = []
    for method in methods:
        parameters = ", ".join(f"{each.name}={each.default!r}" for each in method.parameters)
        lines += [
            f"{method.name:{width}}  {method.title}{_paper(method)}",
            f"{'':{width}}  {_facts(method)}; {parameters or 'no parameters'}",
        ]
    return "\n".join(lines)


def _paper(method: Method) -> str:
    return f" [{method.paper}]" if method.paper else ""


def _facts(method: Method) -> str:
    needs = f"needs {' and '.join(method.needs)}, " if method.needs else ""
    return f"{method.family}, {needs}{RESULT[method.told]}"


def _describe(options: argparse.Namespace) -> str:
    notebooks = find_notebooks()
    if options.name in notebooks:
        return notebooks[options.name].describe()
    methods = {method.name: method for method in declared_methods()}
    if options.name not in methods:
        if "/" in options.name:
            raise MethodError(unknown("notebook", options.name, notebooks, "mergebook list"))
        raise MethodError(unknown("method", options.name, methods, "mergebook methods"))
    method = methods[options.name]
    lines = [
        f"{method.name}: {method.title}{_paper(method)}",
        _facts(method),
        "",
        _plain(_PARAMETERS.sub("", method.doc).strip()),
        "",
        "Parameters" if method.parameters else "No parameters",
    ]
    indent = " " * 6
    for each in method.parameters:
        valid = "" if each.type == "bool" else f", {each.valid}"
        doc = _plain(each.doc)
        lines += [
            f"  {each.name} = {each.default!r}{valid}",
            textwrap.fill(doc, 100, initial_indent=indent, subsequent_indent=indent),
        ]
    return "\n".join(lines)


def _plain(doc: str) -> str:
    """A docstring without the marks of roles, for a terminal."""
    return _ROLE.sub(r"\1", doc)
