"""What the methods declare, read without loading what computes them.

A method's facts stand in its decorator, its signature and its docstring, and importing its module
is what registers them. That module also imports torch, which takes longer than all the rest, and of
which a declaration needs no more than the names. So the registry's own code runs on stand-ins:
classes that can be named, inherited from and used as decorators, and nothing else. Whatever tries
more than that raises, and the methods are then imported as usual: slower, never different.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergebook.registry import Method

HEAVY = ("torch", "safetensors", "numpy", "scipy")  # what declarations only name


def declared_methods() -> tuple[Method, ...]:
    """All methods, sorted by name: to be read, not to be called.

    Those of the registry itself where torch is loaded already.
    """
    if "torch" not in sys.modules:
        try:
            with _stand_ins():
                return _all()
        except Exception:  # more than a name is needed: a matter of speed, see the tests
            pass
    return _all()


def _all() -> tuple[Method, ...]:
    registry = import_module("mergebook.registry")
    return tuple(registry.get_method(name) for name in registry.list_methods())


class _Named(type):
    """A class of which only the name is needed."""

    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        """As a decorator, or what makes one: it leaves the function as it is."""
        return arguments[0] if len(arguments) == 1 and callable(arguments[0]) else cls

    def __getitem__(cls, item: Any) -> type:
        return cls

    def __bool__(cls) -> bool:
        raise TypeError("a stand-in is neither true nor false")

    def __repr__(cls) -> str:
        raise TypeError("a stand-in has no value to be shown")


class _Module(ModuleType):
    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Named(name, (), {})


class _Finder(MetaPathFinder, Loader):
    def __init__(self, names: Sequence[str]):
        self.names = names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        found = fullname.partition(".")[0] in self.names
        return ModuleSpec(fullname, self, is_package=True) if found else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Module(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


@contextmanager
def _stand_ins() -> Iterator[None]:
    """Let the heavy packages be stand-ins, and forget all that was imported on top of them."""
    before = set(sys.modules)
    finder = _Finder([name for name in HEAVY if name not in before])
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in set(sys.modules) - before:
            package = name.partition(".")[0]
            if package in (*finder.names, "mergebook"):
                module = sys.modules.pop(name)
                parent, _, child = name.rpartition(".")
                if vars(sys.modules.get(parent, finder)).get(child) is module:
                    delattr(sys.modules[parent], child)
