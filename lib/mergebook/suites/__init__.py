"""Suites of tasks, by name or from a folder."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

from mergebook.errors import SuiteError, shown, unknown
from mergebook.paths import assets_dir
from mergebook.suites.base import SPLITS, Split, Suite, Task

__all__ = ["SPLITS", "Split", "Suite", "Task", "list_suites", "load_suite", "suite_sizes"]


def list_suites() -> tuple[str, ...]:
    """Names of the suites that :func:`load_suite` knows without a folder."""
    return ("mini", "text8")


@lru_cache(maxsize=1)
def _text8() -> Suite:
    from mergebook.suites.folder import folder_suite

    return folder_suite(assets_dir() / "text8", source="text8")


def load_suite(name: str | os.PathLike[str] = "mini", num_tasks: int | None = None) -> Suite:
    """Return a suite, or its first tasks.

    Parameters
    ----------
    name : str or path, default "mini"
        One of :func:`list_suites`, or the path of a folder, see
        :func:`~mergebook.suites.folder.folder_suite`. A path has a separator in it, as in
        ``"./pets"``, or names a folder that exists.
    num_tasks : int, optional
        Keep the first so many tasks; all if not given. 8, 14 and 20 nest as in the CLIP suite.

    Raises
    ------
    SuiteError
        Unknown suite, a folder that holds none, or ``num_tasks`` out of range.
    """
    if not isinstance(name, str | os.PathLike) or not str(name):
        raise SuiteError(f"a suite is named by a text or a path, got {shown(name)}")
    name = os.fsdecode(name)
    if name == "mini":
        from mergebook.suites import mini

        suite = mini.suite()
    elif name == "text8":
        suite = _text8()
    elif "/" in name or os.sep in name or os.path.isdir(name):
        from mergebook.suites.folder import folder_suite

        suite = folder_suite(name)
    else:
        choices = unknown("suite", name, list_suites())
        raise SuiteError(f"{choices}, or the path of a folder")
    return suite if num_tasks is None else suite.first(num_tasks)


def suite_sizes(name: str | os.PathLike[str], num_tasks: int | Sequence[int]) -> list[int]:
    """Return the numbers of tasks, ascending, that a suite has; all its tasks if it has fewer.

    A notebook asks for 8, 14 and 20 tasks; of a suite with eight it gets 8.

    Parameters
    ----------
    name : str or path
        As for :func:`load_suite`.
    num_tasks : int or sequence of int
        What is asked for.
    """
    asked = [num_tasks] if isinstance(num_tasks, int) else list(num_tasks)
    there = len(load_suite(name))
    return sorted({size for size in asked if size <= there} or {there})
