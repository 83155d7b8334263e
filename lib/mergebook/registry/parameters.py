"""Parameters of methods, read from a function's signature and docstring."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from mergebook.errors import MethodError

PerTask = float | Mapping[str, float]  # one number for all tasks, or one for each


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
class Parameter:
    """One hyper-parameter of a method.

    Attributes
    ----------
    name : str
        Keyword.
    type : {"float", "int", "bool", "choice", "float per task"}
        What it takes.
    default : Any
        Value if not given.
    doc : str
        Meaning.
    range : Range or None
        Valid numbers.
    choices : tuple
        Valid values of a choice.
    """

    name: str
    type: str
    default: Any
    doc: str
    range: Range | None = None
    choices: tuple[Any, ...] = ()

    @property
    def valid(self) -> str:
        """The valid values, in words."""
        if self.type == "bool":
            return "True or False"
        if self.type == "choice":
            return "one of " + ", ".join(map(repr, self.choices))
        noun = {
            "int": "a whole number",
            "float": "a number",
            "float per task": "a number, or a mapping of task to number,",
        }[self.type]
        return f"{noun} {'of ' if self.range.high is None else 'from '}{self.range}"

    def convert(self, value: Any) -> Any:
        """The value as a plain Python object; ValueError if it is not valid."""
        if self.type == "float per task" and isinstance(value, Mapping):
            return {str(task): self._number(number, Real, float) for task, number in value.items()}
        if self.type in ("float", "float per task"):
            return self._number(value, Real, float)
        if self.type == "int":
            return self._number(value, Integral, int)
        valid = (True, False) if self.type == "bool" else self.choices
        for choice in valid:
            if type(choice) is type(value) and choice == value:
                return choice
        raise ValueError(value)

    def _number(self, value: Any, kind: type, plain: type) -> Any:
        if isinstance(value, bool) or not isinstance(value, kind) or value not in self.range:
            raise ValueError(value)
        return plain(value)


def read_parameters(function: Callable[..., Any], num_positional: int) -> tuple[Parameter, ...]:
    """Parameters that a function's signature and NumPy-style docstring declare.

    Parameters
    ----------
    function : callable
        Takes `num_positional` positional arguments and any number of keyword-only ones, each with
        a type (``Annotated[float, Range(...)]``, the same with ``int`` or :data:`PerTask`,
        ``bool`` or ``Literal[...]``), a default and an entry in the docstring.
    num_positional : int
        Expected number of positional arguments.

    Raises
    ------
    MethodError
        If the function breaks these rules.
    """
    hints = get_type_hints(function, include_extras=True)
    docs = _documented(inspect.getdoc(function) or "")
    signature = inspect.signature(function).parameters.values()
    named = [entry for entry in signature if entry.kind is entry.KEYWORD_ONLY]
    if len(signature) - len(named) != num_positional:
        raise MethodError(
            f"{function.__name__} must take {num_positional} positional argument(s); "
            f"parameters are keyword-only"
        )
    parameters = []
    for entry in named:
        where = f"{function.__name__}, parameter {entry.name!r}"
        if entry.name not in docs:
            raise MethodError(f"{where}: not described in the docstring")
        if entry.default is entry.empty:
            raise MethodError(f"{where}: has no default")
        declared = _declared(hints.get(entry.name))
        if declared is None:
            raise MethodError(f"{where}: declare a bool, a Literal, or a number with its Range")
        parameter = Parameter(entry.name, default=entry.default, doc=docs[entry.name], **declared)
        try:
            parameter.convert(entry.default)
        except ValueError:
            raise MethodError(f"{where}: the default {entry.default!r} is not valid") from None
        parameters.append(parameter)
    return tuple(parameters)


def _declared(hint: Any) -> dict[str, Any] | None:
    if hint is bool:
        return {"type": "bool"}
    if get_origin(hint) is Literal:
        return {"type": "choice", "choices": get_args(hint)}
    if get_origin(hint) is not Annotated:
        return None
    kind, *extras = get_args(hint)
    ranges = [extra for extra in extras if isinstance(extra, Range)]
    names = {float: "float", int: "int", PerTask: "float per task"}
    if kind not in names or len(ranges) != 1:
        return None
    return {"type": names[kind], "range": ranges[0]}


def _documented(doc: str) -> dict[str, str]:
    """Descriptions in the Parameters section of a NumPy-style docstring."""
    match = re.search(r"^Parameters\n-+\n(.*?)(?=^\S[^\n]*\n-+$|\Z)", doc, re.M | re.S)
    descriptions: dict[str, list[str]] = {}
    names: list[str] = []
    for line in (match.group(1) if match else "").splitlines():
        if line and not line.startswith(" "):
            names = [name.strip() for name in line.split(":")[0].split(",")]
            descriptions |= {name: [] for name in names}
        else:
            for name in names:
                descriptions[name].append(line.strip())
    return {name: " ".join(filter(None, lines)) for name, lines in descriptions.items()}
