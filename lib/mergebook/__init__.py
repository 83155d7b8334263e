"""A companion to model merging: every merge method, checked, and the experiments around them."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# Public name -> module; loaded on first use, so that the command line starts at once.
_EXPORTS = {
    "Benchmark": "evaluation",
    "Checkpoint": "weights",
    "Comparison": "evaluation",
    "Experts": "weights",
    "Layer": "weights",
    "Masks": "weights",
    "MergebookError": "errors",
    "MergedModel": "merged",
    "Scores": "evaluation",
    "Storage": "storage",
    "Suite": "suites",
    "Task": "suites",
    "get_method": "registry",
    "list_backbones": "towers.backbones",
    "list_methods": "registry",
    "list_suites": "suites",
    "load_backbone": "towers.backbones",
    "load_experts": "training",
    "load_merged": "merged",
    "load_suite": "suites",
    "merge": "registry",
    "merge_method": "registry",
    "save_checkpoint": "weights",
    "suite_sizes": "suites",
}
_MODULES = (
    "analysis",
    "compression",
    "evaluation",
    "methods",
    "report",
    "towers",
    "training",
    "weights",
)
__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f"mergebook.{_EXPORTS[name]}"), name)
    if name in _MODULES:
        return importlib.import_module(f"mergebook.{name}")
    raise AttributeError(f"module 'mergebook' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS, *_MODULES})
