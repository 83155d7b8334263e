"""The registry of methods: what is registered, how a method is called, what parameters it takes."""

from mergebook.registry.method import Method, Need, Run, Status
from mergebook.registry.parameters import Parameter, PerTask
from mergebook.registry.register import (
    FAMILIES,
    get_method,
    list_methods,
    merge,
    merge_method,
    model_method,
)
from mergebook.registry.types import Learning
from mergebook.values import Range
from mergebook.weights.qkv import Qkv

__all__ = [
    "FAMILIES",
    "Learning",
    "Method",
    "Need",
    "Parameter",
    "PerTask",
    "Qkv",
    "Range",
    "Run",
    "Status",
    "get_method",
    "list_methods",
    "merge",
    "merge_method",
    "model_method",
]
