"""The registry of methods: what is registered, how a method is called, what parameters it takes."""

from mergebook.registry.method import Method, Need, Run, Status
from mergebook.registry.parameters import Parameter, PerTask, Range
from mergebook.registry.register import (
    FAMILIES,
    Qkv,
    get_method,
    list_methods,
    merge,
    merge_method,
    model_method,
)

__all__ = [
    "FAMILIES",
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
