"""Brute force for every method, written from its formula: the library's second opinion.

One module per family; a module in this folder is found by being here. Nothing in it is shared with
the library. An oracle for a method of weights alone gets NumPy arrays and returns the weights of
every task; it has one of two forms:

- :func:`oracle`: flat vectors, base ``[P]``, experts ``[T, P]``, and the number d of entries that
  count; returns ``[T, P]``. For methods that look at entries.
- :func:`named_oracle`: state dicts of arrays, base and a list of experts, with the trained tensors
  only, and d if it has such a parameter; returns a list of T state dicts. For methods that look at
  tensors.

Parameters come as keywords; a mapping of task to number comes as a list.

A method that needs images has an :func:`image_oracle`: it gets the base and the experts (state
dicts of an image tower, a mapping of task to state dict), the calibration, and all parameters of
the method by keyword, and returns for each task either the weights (a state dict with the trained
tensors) or the features ``[N, D]`` of that task's calibration images. It may use the modules of
open_clip and transformers (:func:`oracles.encoders.encoder`) and autograd, but neither
`mergebook.towers.tower` nor anything of the method under test. The same oracles serve image
encoders and a text encoder, where inputs are token numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

import mergebook as mb


class Oracles(dict):
    """Oracles by method; asking for one that is not there fails the test in words."""

    def __missing__(self, name: str):
        raise AssertionError(missing(name))


def missing(name: str) -> str:
    """What a method without an oracle still needs."""
    needs = mb.get_method(name).needs
    what = "image_oracle" if needs else "oracle or @named_oracle"
    return (
        f"the method {name!r} asks for an oracle, an independent computation of its result: "
        f"define {name}(...) under @{what} in a module of tests/oracles, see tests/oracles/__init__"
    )


def assert_complete(methods, oracles: Oracles) -> None:
    """Every method has an oracle, every oracle a method."""
    lacking = [missing(name) for name in methods if name not in oracles]
    assert not lacking, "\n".join(lacking)
    idle = sorted(set(oracles) - set(methods))
    assert not idle, f"there is no method for the oracles {', '.join(idle)} of tests/oracles"


ORACLES: dict[str, Oracle] = Oracles()
IMAGE_ORACLES: dict[str, ImageOracle] = Oracles()


@dataclass(frozen=True)
class Oracle:
    """Brute force of one method.

    Attributes
    ----------
    function : callable
        See above.
    named : bool
        Whether it gets state dicts.
    tolerance : float
        Largest difference allowed, relative to the largest value involved; 0 asks for equal bits.
    generic : bool
        Whether it is compared on generic (Gaussian) numbers only: the result of a truncated
        decomposition is not unique where singular values are equal.
    jumps : bool
        Whether rounding may decide between two quite different results. It is then compared in
        double precision, and in single where the method agrees with itself in double.
    """

    function: Callable
    named: bool
    tolerance: float
    generic: bool
    jumps: bool


@dataclass(frozen=True)
class ImageOracle:
    """Brute force of one method that needs images."""

    function: Callable
    choices: tuple[dict, ...]
    tolerance: float


def oracle(function=None, *, tolerance: float = 0.0, generic=False, jumps=False):
    """Register the oracle, on flat vectors, of the method of the same name."""
    return _register(function, named=False, tolerance=tolerance, generic=generic, jumps=jumps)


def named_oracle(function=None, *, tolerance: float = 0.0, generic=False, jumps=False):
    """Register the oracle, on state dicts, of the method of the same name."""
    return _register(function, named=True, tolerance=tolerance, generic=generic, jumps=jumps)


def image_oracle(*choices: dict, tolerance: float = 1e-5):
    """Register the oracle of the method of the same name, which needs images.

    Each of `choices` is a set of parameters (the rest are defaults) to compare under. The
    difference may be `tolerance` times the largest value of a tensor, or of the features.
    """

    def register(function):
        IMAGE_ORACLES[function.__name__] = ImageOracle(function, choices or ({},), tolerance)
        return function

    return register


def _register(function, **facts):
    def register(function):
        ORACLES[function.__name__] = Oracle(function, **facts)
        return function

    return register if function is None else register(function)


for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
