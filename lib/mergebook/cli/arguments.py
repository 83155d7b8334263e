"""What a reader types on the command line: NAME=VALUE, and whole numbers."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from mergebook.errors import ParameterError, shown
from mergebook.values import Range, Values

MAX_JOBS = 1024


def whole(low: int, high: int) -> Callable[[str], int]:
    """Type of an option that takes a whole number from `low` to `high`."""
    values = Values("int", Range(low, high))

    def parse(text: str) -> int:
        try:
            return values.parse(text)
        except ValueError as problem:
            raise argparse.ArgumentTypeError(str(problem)) from None

    return parse


def add_settings(command: argparse.ArgumentParser, meaning: str) -> None:
    """Give a command the option ``--set NAME=VALUE``, once or more."""
    command.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help=meaning)


def add_jobs(command: argparse.ArgumentParser) -> None:
    """Give a command the option ``--jobs``."""
    command.add_argument(
        "--jobs",
        type=whole(1, MAX_JOBS),
        metavar="N",
        help="processes (default: one for each core)",
    )


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
        If a text has no name or no value, a name comes twice, or is no valid text.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals):
            raise ParameterError(f"{option} takes {form}, not {shown(text)}")
        if not name.isprintable():  # nor is a byte that is no UTF-8
            raise ParameterError(f"{option}: the name {shown(name)} cannot be printed")
        if name in found:
            raise ParameterError(f"{option} {name} is given twice")
        found[name] = value
    return found
