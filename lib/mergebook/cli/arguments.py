"""What a reader types on the command line: NAME=VALUE, and values of methods' parameters."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import yaml

from mergebook.errors import ParameterError

if TYPE_CHECKING:
    from mergebook.registry.parameters import Parameter

_PART = r"[^{}\[\],:]+"
_PER_TASK = re.compile(rf"{_PART}:{_PART}(,{_PART}:{_PART})*")


def add_settings(command: argparse.ArgumentParser, meaning: str) -> None:
    """Give a command the option ``--set NAME=VALUE``, once or more."""
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=meaning)


def add_jobs(command: argparse.ArgumentParser) -> None:
    """Give a command the option ``--jobs``."""
    command.add_argument("--jobs", type=int, help="processes (default: one for each core)")


def pairs(option: str, form: str, texts: Sequence[str]) -> dict[str, str]:
    """Names and values of an option that is given as NAME=VALUE, once or more.

    Parameters
    ----------
    option, form : str
        For messages, e.g. ``"--set"`` and ``"NAME=VALUE"``.
    texts : sequence of str
        What was given.

    Raises
    ------
    ParameterError
        If a text has no name or no value, or a name comes twice.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise ParameterError(f"{option} takes {form}, not {text!r}")
        if name in found:
            raise ParameterError(f"{option} {name} is given twice")
        found[name] = value
    return found


def value_of(name: str, text: str, parameter: Parameter | None = None) -> Any:
    """Value of a method's parameter: JSON, YAML, or ``task:value,task:value``.

    Parameters
    ----------
    name : str
        The parameter, for messages.
    text : str
        What was given.
    parameter : Parameter, optional
        Its declaration: one of its choices is taken as it is, even if it looks like a number.

    Raises
    ------
    ParameterError
        If the text is none of these, or names a task twice.
    """
    if parameter is not None and text in parameter.choices:
        return text
    try:
        return json.loads(text)
    except ValueError:
        pass  # YAML has more forms, but takes 1e-1 for a text
    if _PER_TASK.fullmatch(text):
        given = [pair.split(":") for pair in text.split(",")]
        values = {task.strip(): value_of(name, value.strip()) for task, value in given}
        if len(values) < len(given):
            raise ParameterError(f"--set {name}: a task is given twice in {text!r}")
        return values
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ParameterError(f"--set {name}: {text!r} is neither JSON nor YAML") from None
