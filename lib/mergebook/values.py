"""Values of parameters: which are valid, and how a text or a Python object becomes one.

The one converter of the library, for parameters of methods and of notebooks, whether they come from
Python, a profile or the command line. A text is read as what is wanted, never as all of YAML or
JSON. Imports nothing heavy, since the command line looks at values before it does anything.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Any, Literal

from mergebook.errors import shown

Kind = Literal["float", "int", "bool", "str", "choice"]
Shape = Literal["one", "per task", "list"]

LARGEST = 2**63 - 1  # whole numbers beyond do not fit into a tensor
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
INT = re.compile(r"[+-]?\d{1,19}", re.ASCII)
FLOAT = re.compile(r"[+-]?(?:\d++\.?\d*+|\.\d++)(?:[eE][+-]?\d++)?", re.ASCII)
# Possessive, so that no text takes more than one pass.
KEY = re.compile(r"""\s*+("(?:[^"\\]|\\.)*+"|'[^']*+'|[^,:"'\[\]{}]++)\s*+:""")
ITEM = re.compile(r"""\s*+("(?:[^"\\]|\\.)*+"|'[^']*+'|[^,"'\[\]{}]++)\s*+(,|$)""")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; no upper end if `high` is None."""

    low: float
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= (math.inf if self.high is None else self.high)

    def __str__(self) -> str:
        return f"at least {self.low}" if self.high is None else f"{self.low} to {self.high}"


@dataclass(frozen=True)
class Values:
    """The values that a parameter takes.

    Attributes
    ----------
    kind : {"float", "int", "bool", "str", "choice"}
        What one value is. Numbers are finite, whole numbers below 2**63 in magnitude.
    range : Range, optional
        Valid numbers; any without.
    choices : tuple
        Valid values of a choice.
    shape : {"one", "per task", "list"}, default "one"
        One value; one for all tasks or a mapping of task to value; or a list.
    """

    kind: Kind
    range: Range | None = None
    choices: tuple[Any, ...] = ()
    shape: Shape = "one"

    @classmethod
    def like(cls, default: object) -> Values:
        """The values of the type of a default: str, bool, int, float, or a list of one of these.

        An empty list says nothing of its items; they are texts.

        Raises
        ------
        ValueError
            If the default is something else.
        """
        items = default if isinstance(default, list) else [default]
        kinds = {type(item).__name__ for item in items} or {"str"}
        [kind] = {"float"} if kinds == {"int", "float"} else kinds if len(kinds) == 1 else {""}
        if kind not in ("float", "int", "bool", "str"):
            raise ValueError(f"{shown(default)} is no text, number or truth value, nor a list")
        return cls(kind, shape="list" if isinstance(default, list) else "one")

    @property
    def type(self) -> str:
        """The type as a reader would write it, such as "int", "float per task", "list of str"."""
        return {"one": "", "per task": "", "list": "list of "}[self.shape] + (
            f"{self.kind} per task" if self.shape == "per task" else self.kind
        )

    @property
    def words(self) -> str:
        """The valid values, in words."""
        noun = {
            "int": "a whole number",
            "float": "a number",
            "bool": "True or False",
            "str": "a text",
            "choice": "one of " + ", ".join(map(repr, self.choices)),
        }[self.kind]
        if self.shape == "list":
            noun = f"a list, each item {noun}"
        elif self.shape == "per task":
            noun += f", or a mapping of task to {noun.removeprefix('a ')},"
        if self.range is None:
            return noun
        return f"{noun} {'of ' if self.range.high is None else 'from '}{self.range}"

    def read(self, value: object) -> Any:
        """A text as :meth:`parse`, also inside of a list or mapping, anything else as is.

        For values of files and command lines, where a number may come as a text: YAML 1.1 has
        1e-3 for one.

        Raises
        ------
        ValueError
            As :meth:`convert`.
        """
        if isinstance(value, str):
            return self.parse(value)
        one = replace(self, shape="one")
        if self.shape == "list" and isinstance(value, list | tuple):
            return [one.read(item) for item in value]
        if self.shape == "per task" and isinstance(value, Mapping):
            value = {
                task: one.read(item) if isinstance(item, str) else item
                for task, item in value.items()
            }
        return self.convert(value)

    def parse(self, text: str) -> Any:
        """The value that a text stands for.

        Numbers are decimal; truth values are true, yes, on, false, no, off; choices and texts stand
        for themselves. A list is ``8,14``, ``[8, 14]`` or its only item, a value per task
        ``a:0.3,b:0.5`` or ``{"a": 0.3, "b": 0.5}``; items and tasks with a comma, colon or space
        at the end need quotes.

        Raises
        ------
        ValueError
            As :meth:`convert`; also if a task comes twice.
        """
        one = replace(self, shape="one")
        try:
            if self.shape == "list":
                return [one._parse_one(item) for item in _items(text)]
            if self.shape == "per task" and (":" in text or text.strip().startswith("{")):
                return self._mapping((task, one._parse_one(item)) for task, item in _pairs(text))
            return one._parse_one(text)
        except _Refused as problem:
            raise self._error(text, problem) from None

    def convert(self, value: object) -> Any:
        """A Python object as a plain one of the type.

        A whole number for a float becomes a float, a single value for a list a list of one.

        Raises
        ------
        ValueError
            If the value is not valid; the message, one line, says what is: "5 is not a number from
            0 to 3".
        """
        one = replace(self, shape="one")
        try:
            if self.shape == "list":
                items = value if isinstance(value, list | tuple) else [value]
                return [one._convert_one(item) for item in items]
            if self.shape == "per task" and isinstance(value, Mapping):
                return self._mapping((str(t), one._convert_one(x)) for t, x in value.items())
            return one._convert_one(value)
        except _Refused as problem:
            raise self._error(value, problem) from None

    def _error(self, value: object, problem: _Refused) -> ValueError:
        return ValueError(f"{shown(value)} {str(problem) or f'is not {self.words}'}")

    def _mapping(self, pairs: Iterator[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for task, value in pairs:
            if task in found:
                raise _Refused(f"gives task {shown(task)} twice")
            found[task] = value
        return found

    def _parse_one(self, text: str) -> Any:
        if self.kind == "str":
            return text
        text = text.strip()
        if self.kind == "choice":
            named = {str(choice): choice for choice in self.choices}
            return self._convert_one(named.get(text, text))
        if self.kind == "bool":
            return self._convert_one(TRUTHS.get(text.lower()))
        number, plain = (INT, int) if self.kind == "int" else (FLOAT, float)
        return self._convert_one(plain(text) if number.fullmatch(text) else text)

    def _convert_one(self, value: object) -> Any:
        if self.kind in ("float", "int"):
            return self._number(value)
        if self.kind == "str" and isinstance(value, str):
            return str(value)
        for choice in (True, False) if self.kind == "bool" else self.choices:
            if type(choice) is type(value) and choice == value:
                return choice
        raise _Refused

    def _number(self, value: object) -> float | int:
        whole = self.kind == "int"
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise _Refused
        try:
            number = int(value) if whole else float(value)
        except (OverflowError, ValueError):
            raise _Refused from None
        fits = abs(number) <= LARGEST if whole else math.isfinite(number)
        if not fits or (self.range is not None and number not in self.range):
            raise _Refused
        return number


class _Refused(Exception):
    """A value is not valid; the text says what is wrong, if it is not the type or the range."""


def _items(text: str) -> Iterator[str]:
    """Items of ``a,b`` or ``[a, b]``."""
    inside = _inside(text, "[]")
    place, more = 0, inside != ""
    while more:
        item = ITEM.match(inside, place)
        if item is None:
            raise _Refused
        yield _plain(item[1])
        place, more = item.end(), item[2]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """Tasks and values of ``a:1,b:2`` or ``{"a": 1, "b": 2}``."""
    inside = _inside(text, "{}")
    place, more = 0, inside != ""
    while more:
        task = KEY.match(inside, place)
        item = task and ITEM.match(inside, task.end())
        if item is None:
            raise _Refused
        yield _plain(task[1]), _plain(item[1])
        place, more = item.end(), item[2]


def _inside(text: str, brackets: str) -> str:
    """What is between brackets; all of a text without them, which must not be empty."""
    text = text.strip()
    if len(text) > 1 and (text[0], text[-1]) == tuple(brackets):
        return text[1:-1].strip()
    return text or ","  # no item, as in "1,,2"


def _plain(item: str) -> str:
    """An item without its quotes, or without the spaces after it."""
    if item.startswith("'"):
        return item[1:-1]
    if not item.startswith('"'):
        return item.strip()
    try:
        return json.loads(item)
    except ValueError:
        raise _Refused from None
