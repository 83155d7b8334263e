"""The library's exceptions: each message names the file, tensor, task or parameter at fault."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MergebookError(Exception):
    """Base of every error that the library raises on purpose."""


class CheckpointError(MergebookError):
    """A checkpoint is missing, damaged, or does not fit the others."""


class SuiteError(MergebookError):
    """A suite or a task is unknown, empty or malformed."""


class MethodError(MergebookError):
    """A method is unknown, or a merged model is asked for what it does not have."""


class ParameterError(MergebookError):
    """A parameter is unknown, of the wrong type, or out of range."""


class BackboneError(MergebookError):
    """A backbone is unknown or its weights do not fit."""


class ExperimentError(MergebookError):
    """Training, evaluation or a notebook cannot be run as asked."""


class ReportError(MergebookError):
    """A reported table or a result that a page needs is missing."""


def unknown(kind: str, name: object, choices: Iterable[str]) -> str:
    """Message for a name that is not among the choices.

    Parameters
    ----------
    kind : str
        What the name stands for, e.g. ``"task"``.
    name : object
        The name that was given.
    choices : iterable of str
        The names that exist.

    Returns
    -------
    str
        The message, with the closest name (if any) and all choices.
    """
    choices = list(choices)
    near = difflib.get_close_matches(str(name), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {kind} {name!r}{hint} Choose from: {', '.join(choices) or '(none)'}"
