"""`mergebook inspect`: what a file holds."""

from __future__ import annotations

import argparse
from pathlib import Path


def add(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    command = commands.add_parser("inspect", help="what a checkpoint or a merged model holds")
    command.add_argument("file", type=Path)
    command.add_argument("--tensors", action="store_true", help="list the tensors, too")
    command.set_defaults(command=_inspect)


def _inspect(options: argparse.Namespace) -> str:
    from mergebook.cli.contents import describe_file

    return describe_file(options.file, list_tensors=options.tensors)
