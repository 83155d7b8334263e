"""The library's exceptions: each message names the file, tensor, task or parameter at fault."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from reprlib import Repr

ALIKE = 0.6  # from which two names may be taken for one another, 0 to 1
WORD = re.compile(r"[^\W_]+")
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlong = 30

LONGEST_REASON = 200  # characters of another library's error that a message repeats


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


def unknown(kind: str, name: object, choices: Iterable[str], listed_by: str | None = None) -> str:
    """Message for a name that is not among the choices.

    Parameters
    ----------
    kind : str
        What the name stands for, e.g. ``"task"``.
    name : object
        The name that was given.
    choices : iterable of str
        The names that exist.
    listed_by : str, optional
        The command that lists the names, e.g. ``"mergebook methods"``: for more than a reader
        wants to see.

    Returns
    -------
    str
        The message: the closest name (if any) and all choices; or the closest few, which include
        names that share a word, and the command.
    """
    choices = list(choices)
    near = _nearest(str(name), choices)[: 1 if listed_by is None else 5]
    hint = f"; did you mean {_either(near)}?" if near else "."
    rest = f"Choose from: {', '.join(choices) or '(none)'}"
    if listed_by is not None:
        rest = f"`{listed_by}` lists all {len(choices)}"
    return f"unknown {kind} {shown(name)}{hint} {rest}"


def _nearest(name: str, choices: Sequence[str]) -> list[str]:
    """The closest names first: those that look alike, share a word, or hold one another."""
    name = name.lower()
    words = {word for word in WORD.findall(name) if len(word) > 2}

    def closeness(choice: str) -> float:
        low = choice.lower()
        alike = difflib.SequenceMatcher(None, name, low).ratio()
        related = words & set(WORD.findall(low)) or (len(name) > 2 and (name in low or low in name))
        return alike + (1 if related else 0)

    ranked = sorted(choices, key=lambda choice: (-closeness(choice), choice))
    return [choice for choice in ranked if closeness(choice) >= ALIKE]


def _either(names: Sequence[str]) -> str:
    *first, last = map(repr, names)
    return f"{', '.join(first)} or {last}" if first else last


def one_line(error: BaseException) -> str:
    """What an error says, on one line and not too long; its type if it says nothing."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def shown(value: object) -> str:
    """A value as a message shows it: one line, however large, deep or odd the value is."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # a whole number of thousands of digits, or an object's own repr
        text = f"<{type(value).__name__}>"
    return text.replace("\n", " ")
