"""The command line: rerun a notebook, look up a method, merge files, make experts.

One module a group of commands, each with a function `add` that declares them. What a command needs
beyond names and paths (torch, papermill) is imported inside it, so that others answer at once.
"""

from mergebook.cli.app import main

__all__ = ["main"]
