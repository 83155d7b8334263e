"""Parse a command line, run its command, and say what went wrong in a line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from mergebook.cli import inspection, merging, methods, notebooks, training
from mergebook.errors import MergebookError

GROUPS = (notebooks, methods, merging, inspection, training)  # in the order of the help


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
    for group in GROUPS:
        group.add(commands)
    return parser
