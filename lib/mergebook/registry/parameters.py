"""Parameters of methods, read from a function's signature and docstring."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from mergebook.errors import MethodError
from mergebook.registry.docs import documented
from mergebook.values import Range, Values

PerTask = float | Mapping[str, float]  # one number for all tasks, or one for each


@dataclass(frozen=True)
class Parameter:
    """One hyper-parameter of a method.

    Attributes
    ----------
    name : str
        Keyword.
    values : Values
        What it takes.
    default : Any
        Value if not given.
    doc : str
        Meaning.
    """

    name: str
    values: Values
    default: Any
    doc: str

    @property
    def type(self) -> str:
        """Such as "int", "float per task" or "choice"."""
        return self.values.type

    @property
    def range(self) -> Range | None:
        """Valid numbers."""
        return self.values.range

    @property
    def choices(self) -> tuple[Any, ...]:
        """Valid values of a choice."""
        return self.values.choices

    @property
    def valid(self) -> str:
        """The valid values, in words."""
        return self.values.words


@dataclass(frozen=True)
class Declared:
    """What a function's signature declares.

    Attributes
    ----------
    parameters : tuple of Parameter
        All that a user may pass.
    groups : mapping of str to dataclass
        Keywords of the function that take several of them at once, with their defaults.
    """

    parameters: tuple[Parameter, ...]
    groups: Mapping[str, Any]

    def pack(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Keyword arguments of the function: what belongs to a group goes into its dataclass."""
        packed = dict(params)
        for name, default in self.groups.items():
            own = {field: packed.pop(field) for field in _public(default)}
            packed[name] = type(default)(**vars(default) | own)
        return packed


def read_parameters(function: Callable[..., Any], num_positional: int) -> Declared:
    """Parameters that a function's signature and NumPy-style docstring declare.

    Parameters
    ----------
    function : callable
        Takes `num_positional` positional arguments and any number of keyword-only ones, each with
        a type (``Annotated[float, Range(...)]``, the same with ``int`` or :data:`PerTask`,
        ``bool`` or ``Literal[...]``), a default, and an entry in the docstring or a text in the
        type: ``Annotated[float, Range(...), "What it means."]``, as the shared types of
        :mod:`mergebook.registry.types` have it. The docstring's entry goes first.

        A keyword whose default is a frozen dataclass stands for its fields, typed in the same way:
        each becomes a parameter of the method with the default that the instance holds, but for
        fields that are None there, which the method does not have. The function gets the dataclass.
        ``Annotated[Learning, {"lr": Range(0, 10)}]`` gives a field another range.
    num_positional : int
        Expected number of positional arguments.

    Raises
    ------
    MethodError
        If the function breaks these rules.
    """
    docs = documented(inspect.getdoc(function) or "")
    signature = inspect.signature(function).parameters.values()
    named = [entry for entry in signature if entry.kind is entry.KEYWORD_ONLY]
    if len(signature) - len(named) != num_positional:
        raise MethodError(
            f"{function.__name__} must take {num_positional} positional argument(s); "
            f"parameters are keyword-only"
        )
    groups = {
        entry.name: entry.default
        for entry in named
        if is_dataclass(entry.default) and not isinstance(entry.default, type)
    }
    parameters: dict[str, Parameter] = {}
    for name, hint, default in _entries(function, named, groups):
        where = f"{function.__name__}, parameter {name!r}"
        if default is inspect.Parameter.empty:
            raise MethodError(f"{where}: has no default")
        if name in parameters:
            raise MethodError(f"{where}: is declared twice")
        parameters[name] = declare(name, hint, default, docs.get(name), where)
    return Declared(tuple(parameters.values()), groups)


def declare(
    name: str, hint: Any, default: Any, doc: str | None = None, where: str = ""
) -> Parameter:
    """The parameter that a name, a type, a default and an entry of a docstring declare.

    Raises
    ------
    MethodError
        If they are incomplete or do not fit; `where` goes first in the message.
    """
    values = _values(hint)
    if values is None:
        raise MethodError(f"{where}: declare a bool, a Literal, or a number with its Range")
    doc = doc or next((note for note in _notes(hint) if isinstance(note, str)), "")
    if not doc:
        raise MethodError(f"{where}: not described in the docstring, nor by its type")
    try:
        values.convert(default)
    except ValueError:
        raise MethodError(f"{where}: the default {default!r} is not valid") from None
    return Parameter(name, values, default, doc)


def _entries(
    function: Callable[..., Any], named: list[inspect.Parameter], groups: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of each parameter; a group's fields in its place."""
    hints = get_type_hints(function, include_extras=True)
    for entry in named:
        if entry.name not in groups:
            yield entry.name, hints.get(entry.name), entry.default
            continue
        default = groups[entry.name]
        inner = get_type_hints(type(default), include_extras=True)
        notes = _notes(hints.get(entry.name))
        own = next((note for note in notes if isinstance(note, Mapping)), {})
        for name in _public(default):
            hint = _without_none(inner[name])
            if name in own:
                texts = [note for note in _notes(hint) if isinstance(note, str)]
                hint = Annotated[(get_args(hint)[0], own[name], *texts)]
            yield name, hint, getattr(default, name)


def _public(group: Any) -> list[str]:
    """Fields of a dataclass that are parameters of the method: those that are not None."""
    return [field.name for field in fields(group) if getattr(group, field.name) is not None]


def _without_none(hint: Any) -> Any:
    """X of ``X | None``."""
    options = [option for option in get_args(hint) if option is not type(None)]
    return options[0] if type(None) in get_args(hint) and len(options) == 1 else hint


def _notes(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def _values(hint: Any) -> Values | None:
    """The values that a type stands for; None if it is not one of those that we know."""
    ranges = [note for note in _notes(hint) if isinstance(note, Range)]
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if hint is bool and not ranges:
        return Values("bool")
    if get_origin(hint) is Literal and not ranges:
        return Values("choice", choices=get_args(hint))
    if len(ranges) != 1 or hint not in (float, int, PerTask):
        return None
    if hint == PerTask:
        return Values("float", ranges[0], shape="per task")
    return Values("int" if hint is int else "float", ranges[0])
