"""Parse a command line, run its command, and say what went wrong in a line."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from importlib.metadata import version

from mergebook.cli import inspection, merging, methods, notebooks, process, training
from mergebook.errors import MergebookError

# How torch says it, which has no error of its own for the processor's memory.
OUT_OF_MEMORY = re.compile(r"you tried to allocate \d+ bytes|[^.]*out of memory")
GROUPS = (notebooks, methods, merging, inspection, training)  # in the order of the help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        The command and its options; those of the process by default. Only then are the process's
        streams and signals set up, see :func:`mergebook.cli.process.prepare`.

    Returns
    -------
    int
        The exit status: 0; 2 if the input was refused or a run failed; 130 after an interruption,
        128 and the signal's number after another signal.
    """
    own_process = arguments is None
    try:
        if own_process:
            process.prepare()
        status = 0
        try:
            options = _parser().parse_args(arguments)
        except SystemExit as end:  # argparse has said what is wrong, or printed its help
            text, status = "", end.code or 0
        else:
            options.own_process = own_process
            text = options.command(options)
        process.show(text)
        return status
    except MergebookError as error:
        return _failed(error)
    except OSError as error:
        return _failed(_where(error))
    except MemoryError:
        return _failed("not enough memory")
    except RuntimeError as error:
        if not OUT_OF_MEMORY.search(str(error)):
            raise
        return _failed(f"not enough memory ({OUT_OF_MEMORY.search(str(error))[0]})")
    except process.Stopped as stop:
        process.complain(f"{stop}; what was finished is kept")
        return 128 + stop.number
    except KeyboardInterrupt:
        process.complain("interrupted; what was finished is kept")
        return 130


def _failed(message: object) -> int:
    process.complain(message)
    return 2


def _where(error: OSError) -> str:
    """An error of the operating system in a line that names the path."""
    names = [os.fspath(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)]
    if names:
        return f"{' -> '.join(map(os.fsdecode, names))}: {error.strerror}"
    try:
        os.getcwd()
    except OSError:
        return "the working folder has been removed: change to one that exists"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mergebook", description="A Companion to Model Merging: rerun what the book shows."
    )
    parser.add_argument("--version", action="version", version=f"mergebook {version('mergebook')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.add(commands)
    return parser
