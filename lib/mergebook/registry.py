"""The registry of methods: a function's signature is its declaration.

A merge is a function of one layer; a method that needs a statistic of the whole model first has
a `prepare` pass. A compression is a function of all experts that returns its own kind of
solution. The decorators read name, paper, parameters, ranges and documentation, and from them
come the table of methods, the search grids and the checks of what a user passes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor

from mergebook.errors import MethodError, ParameterError, unknown
from mergebook.merged import MergedModel, SharedModel, sign_off
from mergebook.parameters import Parameter, PerTask, Range, read_parameters
from mergebook.weights import Experts

__all__ = [
    "Method",
    "Parameter",
    "PerTask",
    "Range",
    "compression_method",
    "get_method",
    "list_methods",
    "merge",
    "merge_method",
]

# Packages whose modules register methods when they are imported, which is on the first look-up.
_PACKAGES = ("mergebook.methods", "mergebook.compression")
_METHODS: dict[str, Method] = {}


@dataclass(frozen=True)
class Method:
    """A registered method; call it with experts and parameters.

    Attributes
    ----------
    name, title : str
        Name in code, and in tables.
    family : str
        Such as "data-free" or "compression".
    paper : str or None
        Citation key; None for common knowledge.
    needs : tuple of str
        What it needs beyond weights.
    symmetric : bool
        Whether the order of the experts is irrelevant.
    parameters : tuple of Parameter
        Its hyper-parameters.
    grid : mapping of str to tuple
        Values that a search tries by default.
    doc : str
        Documentation.
    function : callable
        The function that was registered.
    run : callable
        Maps experts and a full set of parameters to a :class:`MergedModel`.
    """

    name: str
    title: str
    family: str
    paper: str | None
    needs: tuple[str, ...]
    symmetric: bool
    parameters: tuple[Parameter, ...]
    grid: Mapping[str, tuple[Any, ...]]
    doc: str
    function: Callable[..., Any]
    run: Callable[[Experts, dict[str, Any]], MergedModel]

    def check(self, **params: Any) -> dict[str, Any]:
        """All parameters with defaults filled in, as plain Python objects.

        Raises
        ------
        ParameterError
            If a parameter is unknown, of the wrong type, or out of range.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in params:
            if name not in known:
                raise ParameterError(f"{self.name}: {unknown('parameter', name, known)}")
        full = {name: parameter.default for name, parameter in known.items()} | params
        for name, value in full.items():
            try:
                full[name] = known[name].convert(value)
            except ValueError:
                raise ParameterError(
                    f"{self.name}: {name}={value!r} is not {known[name].valid}; "
                    f"parameters of {self.name}: {', '.join(known)}"
                ) from None
        return full

    def __call__(self, experts: Experts, /, **params: Any) -> MergedModel:
        """Merge or compress the experts.

        Parameters
        ----------
        experts : Experts
            Base and experts.
        **params
            The method's parameters.

        Raises
        ------
        ParameterError
            As :meth:`check`; also if a value per task does not name exactly the experts' tasks.
        """
        full = self.check(**params)
        for name, value in full.items():
            if isinstance(value, Mapping) and value.keys() != set(experts.tasks):
                wrong = sorted(value.keys() ^ set(experts.tasks))
                raise ParameterError(
                    f"{self.name}: {name} must give one value for each of the tasks "
                    f"{', '.join(experts.tasks)}; missing or unknown: {', '.join(wrong)}"
                )
        return sign_off(self.run(experts, full), experts, self.name, full)


def merge_method(
    name: str,
    *,
    title: str,
    paper: str | None,
    family: str = "data-free",
    prepare: Callable[..., Any] | None = None,
    symmetric: bool = True,
    needs: tuple[str, ...] = (),
    grid: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[Callable[..., Tensor]], Method]:
    """Register a function of one layer as a merging method.

    The function takes a :class:`~mergebook.weights.Layer` (then the state, if `prepare` is given)
    and its parameters by keyword, and returns the merged weights ``[*s]``.

    Parameters
    ----------
    name, title : str
        Name in code, and in tables.
    paper : str or None
        Citation key.
    family : str, default "data-free"
        Group in the table of methods.
    prepare : callable, optional
        ``prepare(experts, **parameters) -> state``, run once before the layers; it is passed
        those parameters that its signature names.
    symmetric : bool, default True
        Whether the order of the experts is irrelevant.
    needs : tuple of str
        What it needs beyond weights.
    grid : mapping of str to tuple, optional
        Values that a search tries by default.

    Raises
    ------
    MethodError
        If the name is taken, or the function's declaration is incomplete.
    """

    def register(function: Callable[..., Tensor]) -> Method:
        def run(experts: Experts, params: dict[str, Any]) -> MergedModel:
            if prepare is None:
                return SharedModel.build(experts, lambda layer: function(layer, **params))
            wanted = inspect.signature(prepare).parameters
            state = prepare(experts, **{key: params[key] for key in params if key in wanted})
            return SharedModel.build(experts, lambda layer: function(layer, state, **params))

        return _register(
            function,
            run,
            num_positional=1 if prepare is None else 2,
            name=name,
            title=title,
            paper=paper,
            family=family,
            symmetric=symmetric,
            needs=needs,
            grid=grid or {},
        )

    return register


def compression_method(
    name: str,
    *,
    title: str,
    paper: str | None,
    family: str = "compression",
    symmetric: bool = True,
    needs: tuple[str, ...] = (),
    grid: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[Callable[..., MergedModel]], Method]:
    """Register a function of all experts that returns its own kind of :class:`MergedModel`.

    Parameters and errors are those of :func:`merge_method`.
    """

    def register(function: Callable[..., MergedModel]) -> Method:
        return _register(
            function,
            lambda experts, params: function(experts, **params),
            num_positional=1,
            name=name,
            title=title,
            paper=paper,
            family=family,
            symmetric=symmetric,
            needs=needs,
            grid=grid or {},
        )

    return register


def _register(
    function: Callable[..., Any],
    run: Callable[..., MergedModel],
    *,
    num_positional: int,
    **facts: Any,
) -> Method:
    method = Method(
        parameters=read_parameters(function, num_positional),
        doc=inspect.getdoc(function) or "",
        function=function,
        run=run,
        **facts,
    )
    if method.name in _METHODS:
        other = _METHODS[method.name].function.__module__
        raise MethodError(f"method {method.name!r} is registered already, by {other}")
    for key, values in method.grid.items():
        for value in values:
            method.check(**{key: value})
    _METHODS[method.name] = method
    return method


def get_method(name: str) -> Method:
    """The method of that name.

    Raises
    ------
    MethodError
        If there is none; the message lists all.
    """
    names = list_methods()
    if name not in names:
        raise MethodError(unknown("method", name, names))
    return _METHODS[name]


def list_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    for package in _PACKAGES:
        import_module(package)
    return tuple(sorted(_METHODS))


def merge(name: str, experts: Experts, /, **params: Any) -> MergedModel:
    """Run a method by name: ``merge("ties", experts, scale=0.6)``.

    Parameters
    ----------
    name : str
        One of :func:`list_methods`.
    experts : Experts
        Base and experts.
    **params
        The method's parameters.

    Raises
    ------
    MethodError
        If the method is unknown.
    ParameterError
        If a parameter is unknown, of the wrong type, or out of range.
    """
    return get_method(name)(experts, **params)
