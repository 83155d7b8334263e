"""The registry of methods: a function's signature is its declaration.

A merge is a function of one layer; a method that needs a statistic of the whole model, or of a few
images, first has a `prepare` pass. Any other method is a function of all experts that returns its
own kind of solution. The decorators read name, paper, parameters, ranges and documentation, and
from them come the pages of the methods, the search grids and the checks of what a user passes.
"""

from __future__ import annotations

import copyreg
import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from inspect import isclass
from typing import Any, get_type_hints

from torch import Tensor

from mergebook.calibration import Calibration
from mergebook.errors import MethodError, unknown
from mergebook.merged import MergedModel, SharedModel
from mergebook.registry import types
from mergebook.registry.docs import in_full
from mergebook.registry.method import Method, Need, Run, Status
from mergebook.registry.parameters import Parameter, declare, read_parameters
from mergebook.weights import Experts
from mergebook.weights.qkv import Qkv

# Packages whose modules register methods when they are imported, which is on the first look-up.
_PACKAGES = tuple(
    f"mergebook.{name}" for name in ("methods", "compression", "routing", "interventions")
)
_METHODS: dict[str, Method] = {}

FAMILIES = (
    "reference",
    "data-free",
    "statistics",
    "adapted",
    "training",
    "compression",
    "routing",
    "intervention",
)


def merge_method(
    name: str,
    *,
    title: str,
    paper: str | None,
    family: str = "data-free",
    status: Status = "paper",
    prepare: Callable[..., Any] | None = None,
    symmetric: bool = True,
    needs: tuple[Need, ...] = (),
    qkv: Qkv | None = None,
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
        One of :data:`FAMILIES`, group in the table of methods.
    status : {"paper", "our reading", "analogue", "common knowledge"}, default "paper"
        What the implementation rests on, see :class:`Method`.
    prepare : callable, optional
        ``prepare(experts, **parameters) -> state``, run once before the layers; it is passed
        those parameters that its signature names, and `reuse` if it names it: whether several
        merges with these parameters may follow, for which it is worth its memory to keep what
        they have in common. If the method needs images it is
        ``prepare(experts, calibration, **parameters)``.
    symmetric : bool, default True
        Whether the order of the experts is irrelevant.
    needs : tuple of {"images", "labels"}
        What it needs beyond weights.
    qkv : {"fused", "split"}, optional
        For a method of matrices: how it sees query, key and value by default. The method gets a
        parameter `qkv`; its functions see layers arranged accordingly
        (:meth:`mergebook.weights.Experts.arranged`) and need not know.
    grid : mapping of str to tuple, optional
        Values that a search tries by default.

    Raises
    ------
    MethodError
        If the name is taken, or the function's declaration is incomplete.
    """
    _check_family(name, family)
    if needs and prepare is None:
        raise MethodError(f"{name}: a merge that needs {needs} looks at them in `prepare`")

    def register(function: Callable[..., Tensor]) -> Method:
        wanted = () if prepare is None else inspect.signature(prepare).parameters
        declared = read_parameters(function, num_positional=1 if prepare is None else 2)

        def start(experts: Experts, calibration: Calibration | None, reuse: bool) -> Run:
            state_of = _last_state()

            def run(params: dict[str, Any]) -> MergedModel:
                params = declared.pack(params)
                arrangement = params.pop("qkv", None) if qkv else None
                view = experts.arranged(arrangement) if arrangement else experts
                if prepare is None:
                    return SharedModel.build(experts, lambda layer: function(layer, **params), view)
                few = {key: params[key] for key in params if key in wanted}
                few |= {"reuse": reuse} if "reuse" in wanted else {}
                given = [view, calibration] if needs else [view]
                state = state_of((few, arrangement), lambda: prepare(*given, **few))
                return SharedModel.build(
                    experts, lambda layer: function(layer, state, **params), view
                )

            return run

        return _register(
            function,
            start,
            (*declared.parameters, *([declare("qkv", types.Qkv, qkv)] if qkv else [])),
            name=name,
            title=title,
            paper=paper,
            family=family,
            status=status,
            symmetric=symmetric,
            needs=needs,
            gives=SharedModel,
            grid=grid or {},
        )

    return register


def model_method(
    name: str,
    *,
    title: str,
    paper: str | None,
    family: str,
    status: Status = "paper",
    prepare: Callable[..., Any] | None = None,
    symmetric: bool = True,
    needs: tuple[Need, ...] = (),
    grid: Mapping[str, tuple[Any, ...]] | None = None,
) -> Callable[[Callable[..., MergedModel]], Method]:
    """Register a function of all experts that returns its own kind of :class:`MergedModel`.

    The function takes the :class:`~mergebook.weights.Experts` (then the
    :class:`~mergebook.calibration.Calibration`, if it needs images) and its parameters by keyword.
    Its return annotation names the kind, which says whether the model is told the task.
    With `prepare`, which is passed the same and those parameters that its signature names, it
    takes the state that this returns in place of experts and calibration.
    Parameters and errors are those of :func:`merge_method`.
    """
    _check_family(name, family)

    def register(function: Callable[..., MergedModel]) -> Method:
        wanted = () if prepare is None else inspect.signature(prepare).parameters
        declared = read_parameters(function, num_positional=2 if needs and not prepare else 1)

        def start(experts: Experts, calibration: Calibration | None, reuse: bool) -> Run:
            given = [experts, calibration] if needs else [experts]
            state_of = _last_state()

            def run(params: dict[str, Any]) -> MergedModel:
                params = declared.pack(params)
                if prepare is None:
                    return function(*given, **params)
                few = {key: params[key] for key in params if key in wanted}
                return function(state_of(few, lambda: prepare(*given, **few)), **params)

            return run

        return _register(
            function,
            start,
            declared.parameters,
            name=name,
            title=title,
            paper=paper,
            family=family,
            status=status,
            symmetric=symmetric,
            needs=needs,
            gives=_kind(function),
            grid=grid or {},
        )

    return register


def _last_state() -> Callable[[Any, Callable[[], Any]], Any]:
    """Return ``state_of(key, make)``: the last state, or a new one if the key is another."""
    last: dict[str, Any] = {}

    def state_of(key: Any, make: Callable[[], Any]) -> Any:
        if last.get("of") != key:
            last.clear()  # first, since two states at once may not fit in memory
            last["state"] = make()
            last["of"] = key
        return last["state"]

    return state_of


def _check_family(name: str, family: str) -> None:
    if family not in FAMILIES:
        raise MethodError(f"{name}: {unknown('family', family, FAMILIES)}")


def _kind(function: Callable[..., MergedModel]) -> type[MergedModel]:
    """What a function declares that it returns."""
    kind = get_type_hints(function).get("return")
    if not (isclass(kind) and issubclass(kind, MergedModel) and kind is not MergedModel):
        raise MethodError(
            f"{function.__name__}: declare the kind of MergedModel that it returns, "
            f"such as `-> SharedModel`; it says whether the model is told the task"
        )
    return kind


def _register(
    function: Callable[..., Any],
    start: Callable[[Experts, Calibration | None, bool], Run],
    parameters: tuple[Parameter, ...],
    **facts: Any,
) -> Method:
    method = Method(
        parameters=parameters,
        doc=in_full(inspect.getdoc(function) or "", facts["needs"], parameters),
        function=function,
        start=start,
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
        If there is none; the message says which are near.
    """
    names = list_methods()
    if name not in names:
        raise MethodError(unknown("method", name, names, listed_by="mergebook methods"))
    return _METHODS[name]


# A method is pickled by its name: another process has the same registry.
copyreg.pickle(Method, lambda method: (get_method, (method.name,)))


def list_methods() -> tuple[str, ...]:
    """Names of all methods, sorted."""
    for package in _PACKAGES:
        import_module(package)
    return tuple(sorted(_METHODS))


def merge(
    name: str, experts: Experts, calibration: Calibration | None = None, /, **params: Any
) -> MergedModel:
    """Run a method by name: ``merge("ties", experts, scale=0.6)``.

    Parameters
    ----------
    name : str
        One of :func:`list_methods`.
    experts : Experts
        Base and experts.
    calibration : Calibration, optional
        Images, for a method that needs some.
    **params
        The method's parameters.

    Raises
    ------
    MethodError
        If the method is unknown, or needs images and there are none.
    ParameterError
        If a parameter is unknown, of the wrong type, or out of range.
    """
    return get_method(name)(experts, calibration, **params)
